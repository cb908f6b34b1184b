"""Functions and methods of a traced module as operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, fx

from pyro_ssbnn.models.traced.fixed import Prefix, TensorSum
from pyro_ssbnn.models.traced.graph import Graph
from pyro_ssbnn.models.traced.joining import Concatenation, Product, Sum
from pyro_ssbnn.models.traced.operations import POOLS, Elementwise, Pool
from pyro_ssbnn.models.traced.shapes import Mean, Permutation, Reshape, Slice

__all__ = ["POOL_OPTIONS", "activation", "pool", "reshape", "translate_function"]

_SAME = (
    "contiguous",
    "clone",
    "detach",
    "float",
    "double",
    "dropout",
    "dropout2d",
    "stochastic_depth",
)
_SHAPES = ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze")
POOL_OPTIONS = {
    "max_pool1d": ("kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    "max_pool2d": ("kernel_size", "stride", "padding", "dilation", "ceil_mode"),
    "avg_pool1d": ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"),
    "avg_pool2d": ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad"),
    "adaptive_avg_pool1d": ("output_size",),
    "adaptive_avg_pool2d": ("output_size",),
    "adaptive_max_pool1d": ("output_size",),
    "adaptive_max_pool2d": ("output_size",),
    "interpolate": ("size", "scale_factor", "mode", "align_corners"),
}
"""Options of pooling, in the order of the functions' arguments."""
_FUNCTION_OPTIONS = {
    "elu": ("alpha",),
    "gelu": ("approximate",),
    "hardtanh": ("min_val", "max_val"),
    "leaky_relu": ("negative_slope",),
    "softplus": ("beta", "threshold"),
}
_PLAIN = (
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "tanh",
    "softsign",
    "hardswish",
    "hardsigmoid",
    "mish",
)
_ARITHMETIC = (
    "add",
    "sub",
    "mul",
    "truediv",
    "div",
    "pow",
    "neg",
)
_IN_PLACE = ("iadd", "isub", "imul", "itruediv")


def translate_function(graph: Graph, node: fx.Node) -> None:
    """A step of a call of a function or method.

    :raises ConfigurationError: for one without a translation.
    """
    name = str(getattr(node.target, "__name__", node.target)).strip("_")
    moving = [a for a in node.all_input_nodes if a in graph.moving]
    if name in _SAME:
        graph.same(node, moving[0])
    elif name in _SHAPES:
        reshape(graph, node, moving[0])
    elif name in _ARITHMETIC or name in _IN_PLACE:
        _arithmetic(graph, node, name.removeprefix("i"), moving)
    elif name in ("cat", "concat", "concatenate"):
        _concatenation(graph, node)
    elif name in _PLAIN or name in _FUNCTION_OPTIONS:
        options = _arguments(graph, node, _FUNCTION_OPTIONS.get(name, ()))
        activation(graph, node, moving[0], name, options)
    elif name in POOLS:
        pool(graph, node, moving[0], name, _arguments(graph, node, POOL_OPTIONS[name]))
    elif name == "mean":
        _mean(graph, node, moving[0])
    elif name in ("permute", "transpose"):
        _permutation(graph, node, name, moving[0])
    elif name in ("chunk", "split"):
        graph.names[node] = graph.names[moving[0]]  # its parts are taken one by one
    elif name == "getitem":
        _getitem(graph, node, moving[0])
    else:
        raise graph.refuse(node, f"the {node.op.partition('_')[2]} {name} has no translation.")


def activation(
    graph: Graph, node: fx.Node, x: fx.Node, function: str, options: dict[str, Any]
) -> None:
    """An activation of x."""
    if function == "identity":
        graph.same(node, x)
    else:
        graph.emit(node, Elementwise(function, options), x)


def pool(graph: Graph, node: fx.Node, x: fx.Node, function: str, options: dict[str, Any]) -> None:
    """Pooling of the maps of x."""
    dims = len(graph.shape(x)) - 1
    options = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
    graph.emit(node, Pool(function, {k: v for k, v in options.items() if v is not None}, dims), x)


def reshape(graph: Graph, node: fx.Node, x: fx.Node) -> None:
    """Another shape of x."""
    before, after = graph.shape(x), graph.shape(node)
    if before == after:
        graph.same(node, x)
    else:
        graph.emit(node, Reshape(len(before), after), x)


def _mean(graph: Graph, node: fx.Node, x: fx.Node) -> None:
    given = _arguments(graph, node, ("dim", "keepdim"))
    dims, rank = given.get("dim"), len(graph.shape(x))
    dims = (dims,) if isinstance(dims, int) else dims
    if dims is None or any(d % (rank + 1) == 0 for d in dims):
        raise graph.refuse(node, "a mean over the rows has no translation.")
    dims = tuple(d % (rank + 1) - rank - 1 for d in dims)
    graph.emit(node, Mean(dims, bool(given.get("keepdim", False))), x)


def _permutation(graph: Graph, node: fx.Node, name: str, x: fx.Node) -> None:
    rank = len(graph.shape(x)) + 1
    args = [*node.args[1:], *node.kwargs.values()]
    args = list(args[0]) if isinstance(args[0], tuple | list) else args
    order = list(range(rank))
    if name == "transpose":
        a, b = (graph.constant(d) % rank for d in args)
        order[a], order[b] = order[b], order[a]
    else:
        order = [graph.constant(d) % rank for d in args]
    if order[0] != 0:
        raise graph.refuse(node, "the rows must stay first.")
    graph.emit(node, Permutation(tuple(d - 1 for d in order[1:])), x)


def _concatenation(graph: Graph, node: fx.Node) -> None:
    parts: Sequence[Any] = node.args[0] if node.args else node.kwargs["tensors"]  # type: ignore[assignment]
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    rank = len(graph.shape(node)) + 1
    if graph.constant(dim) % rank == 0:
        raise graph.refuse(node, "rows cannot be put beside each other.")
    if len(parts) == 2 and parts[0] not in graph.moving and parts[1] in graph.moving:
        value = graph.fixed(node, parts[0], rank - 1)
        what = Prefix(str(parts[0]), tuple(value.shape), graph.constant(dim) % rank - rank)
        graph.emit(node, what, parts[1])
        graph.tensors[graph.names[node]] = value
        return
    if not all(part in graph.moving for part in parts):
        raise graph.refuse(
            node, "a tensor that does not depend on the input has no translation here."
        )
    graph.emit(node, Concatenation(graph.constant(dim) % rank - rank), *parts)


def _arithmetic(graph: Graph, node: fx.Node, name: str, moving: list[fx.Node]) -> None:
    operands = [node.args[0], *node.args[1:], *node.kwargs.values()]
    if len([o for o in operands if isinstance(o, fx.Node) and o in graph.moving]) == 2:
        shapes = [graph.shape(o) for o in operands[:2]]  # type: ignore[arg-type]
        if name in ("add", "sub"):
            graph.emit(node, Sum((1, 1 if name == "add" else -1)), *operands[:2])  # type: ignore[arg-type]
        elif name == "mul" and len(shapes[0]) == len(shapes[1]):
            graph.emit(node, Product(), *operands[:2])  # type: ignore[arg-type]
        else:
            raise graph.refuse(node, f"{name} of two tensors has no translation.")
        return
    if name == "neg":
        graph.emit(node, Elementwise("multiply", {"value": -1.0}), moving[0])
        return
    first = isinstance(operands[0], fx.Node) and operands[0] in graph.moving
    other = graph.constant(operands[1] if first else operands[0])
    if isinstance(other, Tensor) and other.numel() == 1 and other.ndim <= len(graph.shape(node)):
        other = other.item()
    if isinstance(other, Tensor) and name == "add":
        value = graph.fixed(node, other, len(graph.shape(moving[0])))
        source = operands[1] if first else operands[0]
        graph.emit(node, TensorSum(str(source), tuple(value.shape)), moving[0])
        graph.tensors[graph.names[node]] = value
        return
    if not isinstance(other, int | float):
        raise graph.refuse(
            node, "a tensor that does not depend on the input has no translation here."
        )
    known = {
        "add": ("add", other),
        "sub": ("add", -other) if first else ("subtract_from", other),
        "mul": ("multiply", other),
        "truediv": ("divide", other) if first else None,
        "div": ("divide", other) if first else None,
        "pow": ("power", other) if first else None,
    }[name]
    if known is None:
        raise graph.refuse(node, f"{name} by a tensor has no translation.")
    graph.emit(node, Elementwise(known[0], {"value": known[1]}), moving[0])


def _getitem(graph: Graph, node: fx.Node, of: fx.Node) -> None:
    index: Any = node.args[1]
    if node.args[0] is not of:
        raise graph.refuse(node, "what the input chooses from a fixed tensor has no translation.")
    several = isinstance(graph.values[of], tuple | list)
    if several and of.op == "call_module":  # output and weights of attention
        if index != 0:
            raise graph.refuse(node, "the weights of attention cannot be read.")
        graph.same(node, of)
        return
    if several:  # a part of chunk or split
        parts, place = graph.values[of], graph.constant(index)
        x = next(a for a in of.all_input_nodes if a in graph.moving)
        whole, part = graph.values[x].shape, parts[place].shape
        dim = next((d for d in range(1, len(whole)) if whole[d] != part[d]), None)
        if dim is None:
            graph.same(node, x)
            return
        start = sum(p.shape[dim] for p in parts[:place])
        what = Slice(dim - len(whole), start, start + part[dim])
        graph.emit(node, what, x)
        return
    index = index if isinstance(index, tuple) else (index,)
    rank = len(graph.shape(of)) + 1
    if Ellipsis in index:
        at = index.index(Ellipsis)
        index = (*index[:at], *[slice(None)] * (rank - len(index) + 1), *index[at + 1 :])
    chosen = [(d, i) for d, i in enumerate(index) if i != slice(None)]
    if len(chosen) != 1 or chosen[0][0] == 0 or not isinstance(chosen[0][1], int | slice):
        raise graph.refuse(
            node,
            "only one dimension, not that of the rows, can be indexed, by a number or a slice.",
        )
    dim, place = chosen[0]
    size = graph.values[of].shape[dim]
    if isinstance(place, int):
        graph.emit(node, Slice(dim - rank, place % size), of)
    else:
        ends = (graph.constant(end) for end in (place.start, place.stop, place.step))
        start, stop, step = slice(*ends).indices(size)
        graph.emit(node, Slice(dim - rank, start, stop, step), of)


def _arguments(graph: Graph, node: fx.Node, names: Sequence[str]) -> dict[str, Any]:
    """Arguments of a function or method behind its first, those of these names that are given."""
    given = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
    return {name: graph.constant(given[name]) for name in names if name in given}
