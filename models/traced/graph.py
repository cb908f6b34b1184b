"""From an ordinary torch module to the operations of a network: what ``torch.fx`` traces, translated node by node.

The module is traced symbolically, so that its own code says what it does, and then run on two batches of different
size: what they show of the shapes of all tensors must agree but for the rows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.models.traced.network import TracedNetwork
from pyro_ssbnn.models.traced.operations import Operation

__all__ = ["Graph", "graph_of", "step_name"]

_RESERVED = ("input", "output", "linear", "global", "data", "obs", "draws", "noise", "temperature")


@dataclass
class Graph:
    """A module's graph, with the shapes of all tensors, and the steps that have been made of it.

    :param nodes: in forward order.
    :param module: a copy of the module, in evaluation mode.
    :param values: what each node gave for a batch of two rows.
    :param moving: nodes whose tensors depend on the input, and not only on its number of rows.
    :ivar steps: records of the steps.
    :ivar notes: what was done to parts that are no steps.
    :ivar names: the step whose result a node has.
    :ivar tensors: values of parts that no module has, by the name of their step.
    """

    nodes: list[fx.Node]
    module: nn.Module
    values: dict[fx.Node, Any]
    moving: set[fx.Node]
    steps: list[dict[str, Any]] = field(default_factory=list)
    notes: list[tuple[str, str, str]] = field(default_factory=list)
    names: dict[fx.Node, str] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def refuse(self, node: fx.Node, what: str) -> ConfigurationError:
        """The error for a node that has no translation."""
        place = f" (module {node.target})" if node.op == "call_module" else ""
        return ConfigurationError(f"from_module: {node.name}{place}: {what}")

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """Shape of a node's tensor, a row."""
        return tuple(self.values[node].shape[1:])

    def emit(self, node: fx.Node, what: Operation, *of: fx.Node) -> None:
        """A step for a node."""
        name = step_name(node.name)
        self.step(name, self.shape(node), what, [self.names[n] for n in of])
        self.names[node] = name

    def step(self, name: str, shape: tuple[int, ...], what: Operation, of: list[str]) -> None:
        """A step of that name."""
        record = {"name": name, "of": of, "shape": list(shape), "does": what.to_config()}
        self.steps.append(record)

    def fixed(self, node: fx.Node, of: Any, rank: int) -> Tensor:
        """Value of an argument that is the same for all rows of so many dimensions.

        :raises ConfigurationError: for one that differs from row to row.
        """
        value = self.constant(of)
        if not isinstance(value, Tensor) or value.ndim > rank + 1:
            raise self.refuse(node, "an argument has no translation.")
        if value.ndim == rank + 1:
            if len(value) not in (1, 2) or not torch.equal(value[0], value[-1]):
                raise self.refuse(node, "a tensor that differs from row to row has no translation.")
            value = value[0]
        return value.detach().clone()

    def same(self, node: fx.Node, as_node: fx.Node) -> None:
        """A node that gives what another gave."""
        self.names[node] = self.names[as_node]

    def rename(self, node: fx.Node, name: str) -> None:
        """A node whose result is that of a step that was there before."""
        self.names[node] = name

    def constant(self, node: Any) -> Any:
        """Value of an argument that does not depend on the input."""
        return self.values[node] if isinstance(node, fx.Node) else node


def graph_of(module: nn.Module, example: Tensor) -> Graph:
    """Trace a module; nothing is translated yet.

    :param example: some rows of its input, ``[n, ...]``.
    :raises ConfigurationError: where it cannot be traced, with the place.
    """
    copy = deepcopy(module).eval()
    traced = _traced(copy)
    traced.graph.eliminate_dead_code()
    nodes = list(traced.graph.nodes)
    like = next((p for p in copy.parameters() if p.is_floating_point()), example)
    row = example[:1].detach().to(like.device)
    row = row.to(like.dtype) if row.is_floating_point() else row
    two, three = (_run(traced, row.repeat_interleave(rows, 0)) for rows in (2, 3))
    moving: set[fx.Node] = set()
    for node in nodes:
        reads = node.op == "placeholder" or moving.intersection(node.all_input_nodes)
        number = isinstance(two[node], int | float | torch.Size | None)  # of rows, say
        if reads and not number:
            moving.add(node)
            _check_rows(node, two[node], three[node])
    return Graph(nodes, copy, two, moving)


class _Tracer(fx.Tracer):
    """A tracer that knows which module it is in."""

    place = ""

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        before, self.place = self.place, self.path_of_module(m)
        result = super().call_module(m, forward, args, kwargs)
        self.place = before
        return result


def _traced(module: nn.Module) -> fx.GraphModule:
    tracer = _Tracer()
    _take_one(module)
    try:
        graph = tracer.trace(module)
    except Exception as error:  # whatever the module's own code makes of a proxy
        place = tracer.place or type(module).__name__
        raise ConfigurationError(
            f"from_module: {place}: its forward cannot be traced by torch.fx ({error}). It may not depend on the values"
            " in a tensor; write it without such a branch or loop."
        ) from error
    return fx.GraphModule(module, graph)


def _take_one(module: nn.Module) -> None:
    """Let a module's ``forward`` take one argument and leave the others at their defaults.

    To ``torch.fx`` they would be inputs, too, with assertions of their values.
    """
    cls = type(module)
    others = list(inspect.signature(cls.forward).parameters.values())[2:]
    variadic = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    if any(p.default is p.empty and p.kind not in variadic for p in others):
        raise ConfigurationError(
            "from_module: the module must take one tensor; others need defaults."
        )

    def forward(self: nn.Module, x: Tensor) -> Any:
        return cls.forward(self, x)

    module.__class__ = type(cls.__name__, (cls,), {"forward": forward})


@torch.no_grad()
def _run(module: fx.GraphModule, x: Tensor) -> dict[fx.Node, Any]:
    values: dict[fx.Node, Any] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            values[n] = super().run_node(n)
            return values[n]

    try:
        Recorder(module, garbage_collect_values=False).run(x)
    except Exception as error:
        raise ConfigurationError(
            f"from_module: the module cannot take the example, [n, {', '.join(map(str, x.shape[1:]))}] ({error})."
        ) from error
    return values


def _check_rows(node: fx.Node, two: Any, three: Any) -> None:
    if isinstance(two, tuple | list) and not isinstance(two, torch.Size):
        for a, b in zip(two, three, strict=True):
            _check_rows(node, a, b)
    elif isinstance(two, Tensor):
        rows = two.ndim and two.shape[0] == 2 and three.shape[0] == 3
        if not rows or two.shape[1:] != three.shape[1:]:
            raise ConfigurationError(
                f"from_module: {node.name}: its first dimension must be that of the rows; two and three rows give"
                f" {list(two.shape)} and {list(three.shape)}."
            )


def step_name(name: str) -> str:
    """The name of a step: a Python name, unlike those that networks and guides need for themselves."""
    name = f"layer{name}" if name.startswith("_") else name
    return f"{name}_layer" if name in _RESERVED or hasattr(TracedNetwork, name) else name
