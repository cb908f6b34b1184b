"""One gradient step's forward and backward pass: under Pyro's handlers, as a traced graph, or as a compiled one.

Pyro's handlers cost milliseconds of Python a step, whatever the size of the network. A trace runs them once and keeps
the plain tensor operations, backward pass included (:mod:`pyro_ssbnn.inference.graph`). Run as it is, the graph gives
what the eager step gives bit by bit (with torch 2.8, but for rounding); compiled, the same but for rounding. Random
draws stay random: they are operations of the graph, on the same generators, in the same order.

A trace takes for fixed what is no tensor of its inputs: the classes' code, and plain attributes of network and guide.
It belongs to one network object and is never shared; what compiling it costs is, through torch's compiler cache, whose
key is the graph itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.nn import Module
from torch.nn.utils.stateless import _reparametrize_module

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference.cuda_graph import Recording, records
from pyro_ssbnn.inference.elbo import AnalyticELBO
from pyro_ssbnn.inference.graph import compiled, recorded
from pyro_ssbnn.inference.shrinking import PresentScales
from pyro_ssbnn.isolation import bf16, without_parameters
from pyro_ssbnn.layers import FusiblePooling
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.network import Network

__all__ = ["STEPS", "CompiledStep", "EagerStep", "TracedStep"]

_log = logging.getLogger(__name__)


class EagerStep:
    """Run guide and model under Pyro's handlers at every step.

    :param num_data: observations of the whole data set; the loss is the negative ELBO per observation, so that
        gradients are of order one whatever the size of the data.
    :param present: which members of which groups count, ``{group: [size]}``
        (:class:`~pyro_ssbnn.inference.shrinking.PresentScales`), changed in place; None where none is ever closed.
    :param rounded: whether the model's products are of bfloat16.
    """

    def __init__(
        self,
        model: Network,
        guide: Guide,
        elbo: AnalyticELBO,
        num_data: int,
        present: Mapping[str, Tensor] | None = None,
        rounded: bool = False,
    ) -> None:
        self.model, self.guide, self.elbo, self.num_data = model, guide, elbo, num_data
        self.rounded = rounded
        self.present = dict(present or {})
        self.observed: tuple[str, ...] = ()
        self.latent: tuple[str, ...] = ()

    def terms_and_loss(
        self, x: Tensor, y: Tensor, kl_weight: Tensor, present: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """ELBO terms, ``[sites]``, detached, and the loss of a minibatch."""
        groups = [self.model.description.layer(name) for name in present]
        other = {site for group in groups for site in (group.gate_site, group.weight_site)}
        scales = PresentScales({group.path: present[group.name] for group in groups}, other)
        model = self._in_bf16 if self.rounded else self.model
        with scales if groups else nullcontext():
            terms = self.elbo.terms(model, self.guide, x, y, num_data=self.num_data)
        self.observed, self.latent = tuple(terms.log_likelihood), tuple(terms.kl)
        return terms.stacked(), terms.loss(kl_weight) / self.num_data

    def _in_bf16(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        with bf16(x.device):
            return self.model(x, *args, **kwargs)

    def prepare(self, x: Tensor, y: Tensor) -> None:
        """Do what can be done before the first step, given a minibatch of the shape of all; nothing here."""

    def is_stale(self) -> bool:
        """Whether it no longer computes what network and guide now do."""
        return False

    def __call__(self, x: Tensor, y: Tensor, kl_weight: Tensor) -> Tensor:
        """Fill the gradients of the guide's parameters; returns the terms, ``[sites]``, observed first."""
        terms, loss = self.terms_and_loss(x, y, kl_weight, self.present)
        self.guide.zero_grad(set_to_none=True)
        loss.backward()
        return terms


class TracedStep(EagerStep):
    """Run the same computation as a graph, recorded in the time of a hundred steps.

    All minibatches must have the shape of the first. On a device that replays (:mod:`pyro_ssbnn.inference.cuda_graph`)
    the graph is one call, and gradients have the same memory at every step, unless ``replays`` is False.
    """

    replays = True
    _run: Callable[..., Any] | None = None
    _recording: Recording | None = None

    def __call__(self, x: Tensor, y: Tensor, kl_weight: Tensor) -> Tensor:
        """As :meth:`EagerStep.__call__`."""
        if self._run is None:
            self.prepare(x, y)
        with torch.no_grad():
            terms, *gradients = self._outputs(x, y, kl_weight)
        for parameter, gradient in zip(self._reached, gradients, strict=True):
            parameter.grad = gradient
        return terms

    def prepare(self, x: Tensor, y: Tensor) -> None:
        """Trace the step; the first call does so otherwise.

        :raises ConfigurationError: where it cannot be traced.
        """
        module = cast(Module, self.guide)
        self._trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        # The temperature, and whatever else the guide holds: read, and not trained.
        fixed = {name: p for name, p in module.named_parameters() if not p.requires_grad}
        self._fixed = {**dict(module.named_buffers()), **fixed}
        # What the model remembers from step to step, such as running statistics, is changed in place by the graph.
        model = self.model
        self._memory = dict(model.named_buffers()) if isinstance(model, Module) else {}
        held = (self.present, self._memory, self._fixed, self._trained)
        self._state = [tensor for part in held for tensor in part.values()]
        inputs = [x, y, x.new_ones(()), *self._state]
        self.guide.zero_grad(set_to_none=True)
        with torch.no_grad():
            self._run = self._built(inputs)
            if self.replays and records(x.device):
                self._record(inputs)

    def is_stale(self) -> bool:
        """Whether attributes of network or guide have changed since the trace."""
        return self._attributes != _attributes(self.model, self.guide)

    def _outputs(self, x: Tensor, y: Tensor, kl_weight: Tensor) -> list[Tensor]:
        if self._recording is None:
            found: list[Tensor] = self._run(x, y, kl_weight, *self._state)  # type: ignore[misc]
            return found
        for given, place in zip((x, y, kl_weight), self._places, strict=True):
            place.copy_(given)
        self._recording.replay()
        terms, *gradients = self._recording.result
        return [terms.clone(), *gradients]

    def _record(self, inputs: list[Tensor]) -> None:
        """Record the graph on memory of its own for what is given at every step."""
        places = [value.clone() for value in inputs[:3]]
        try:
            self._recording = Recording(
                lambda: self._run(*places, *self._state),  # type: ignore[misc]
                self._memory.values(),
                inputs[0].device,
            )
        except Exception as error:  # the same step, asked for kernel by kernel
            _log.warning("The step cannot be recorded as a CUDA graph: %s", error)
            return
        self._places = places

    def _built(self, inputs: list[Tensor]) -> Callable[..., Any]:
        return self._traced(inputs)

    def _traced(self, inputs: list[Tensor]) -> GraphModule:
        self._attributes = _attributes(self.model, self.guide)
        try:
            graph = recorded(self._step, inputs)
        except (
            Exception
        ) as error:  # whatever network and guide raise under a trace, the cause is kept
            raise ConfigurationError(
                f"compile: the step of {type(self.model).__name__} cannot be traced ({error}). Python's control flow"
                " must not depend on values of tensors; or take compile=False."
            ) from error
        if self.is_stale():
            changed = self._attributes.items() ^ _attributes(self.model, self.guide).items()
            raise ConfigurationError(
                f"compile: the step changes {', '.join(sorted({name for name, _ in changed}))}, which a traced step"
                " would do only once; take compile=False."
            )
        return graph

    def _step(self, x: Tensor, y: Tensor, kl_weight: Tensor, *state: Tensor) -> list[Tensor]:
        values = iter(state)
        present, memory, fixed, trained = (
            {name: next(values) for name in held}
            for held in (self.present, self._memory, self._fixed, self._trained)
        )
        with (
            torch.enable_grad(),
            _reparametrize_module(cast(Module, self.guide), {**fixed, **trained}),
            _reparametrize_module(cast(Module, self.model), memory) if memory else nullcontext(),
            without_parameters(),
        ):
            terms, loss = self.terms_and_loss(x, y, kl_weight, present)
            found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
        pairs = zip(self._trained.values(), found, strict=True)
        self._reached = [parameter for parameter, gradient in pairs if gradient is not None]
        return [terms, *_owned(gradient for gradient in found if gradient is not None)]


class CompiledStep(TracedStep):
    """Run the graph compiled: ten seconds or more, unless torch's compiler cache has it from before."""

    def _built(self, inputs: list[Tensor]) -> Callable[..., Any]:
        with FusiblePooling():
            graph = self._traced(inputs)
        try:
            return compiled(graph, inputs)
        except Exception as error:  # whatever the back end raises, the cause is kept
            raise ConfigurationError(
                "compile: torch's compiler failed on this machine. It needs a C++ compiler (g++ or clang++) and"
                " Python's headers on the CPU, and Triton on CUDA; install them, or take compile='trace' or 'auto'."
            ) from error


STEPS = {"eager": EagerStep, "trace": TracedStep, "compile": CompiledStep}
"""Kinds of step, as :mod:`pyro_ssbnn.inference.costs` calls them."""


def _owned(gradients: Iterable[Tensor]) -> Iterator[Tensor]:
    """Gradients as autograd leaves them with parameters: contiguous, each in memory of its own."""
    seen = set()
    for gradient in gradients:
        memory = gradient.untyped_storage()._cdata
        if memory in seen or not gradient.is_contiguous():
            gradient = gradient.clone(memory_format=torch.contiguous_format)
        seen.add(gradient.untyped_storage()._cdata)
        yield gradient


def _attributes(model: Network, guide: Guide) -> dict[str, Any]:
    """Plain attributes of network, likelihood and guide, and which tensors they hold beside parameters and buffers."""
    found: dict[str, Any] = {}
    for owner in (model, model.likelihood, guide):
        modules = owner.named_modules() if isinstance(owner, Module) else [("", owner)]
        for path, module in modules:
            place = ".".join(filter(None, (type(owner).__name__, path)))
            for name, value in getattr(module, "__dict__", {}).items():
                if isinstance(value, Tensor):
                    found[f"{place}.{name}"] = (id(value), value._version)
                elif value is None or isinstance(value, bool | int | float | str):
                    found[f"{place}.{name}"] = value
    return found
