"""One gradient step's forward and backward pass: through Pyro's handlers, or as one compiled graph.

Pyro's handlers cost milliseconds of Python a step, whatever the size of the network. The compiled step runs them
once, on proxy tensors (``make_fx``), and hands the graph of plain tensor operations that comes out, backward pass
included, to torch's compiler. Random draws stay random: they are operations of the graph.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import pyro
import torch
from torch import Tensor
from torch._inductor import compile as compile_graph
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import Module
from torch.nn.utils.stateless import _reparametrize_module

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference.elbo import AnalyticELBO
from pyro_ssbnn.layers import FusiblePooling
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.network import Network

__all__ = ["CompiledStep", "EagerStep"]


class EagerStep:
    """Run guide and model under Pyro's handlers at every step.

    :param num_data: observations of the whole data set; the loss is the negative ELBO per observation, so that
        gradients are of order one whatever the size of the data.
    """

    def __init__(self, model: Network, guide: Guide, elbo: AnalyticELBO, num_data: int) -> None:
        self.model, self.guide, self.elbo, self.num_data = model, guide, elbo, num_data
        self.observed: tuple[str, ...] = ()
        self.latent: tuple[str, ...] = ()

    def terms_and_loss(self, x: Tensor, y: Tensor, kl_weight: Tensor) -> tuple[Tensor, Tensor]:
        """ELBO terms, ``[sites]``, detached, and the loss of a minibatch."""
        terms = self.elbo.terms(self.model, self.guide, x, y, num_data=self.num_data)
        self.observed, self.latent = tuple(terms.log_likelihood), tuple(terms.kl)
        return terms.stacked(), terms.loss(kl_weight) / self.num_data

    def __call__(self, x: Tensor, y: Tensor, kl_weight: Tensor) -> Tensor:
        """Fill the gradients of the guide's parameters; returns the terms, ``[sites]``, observed first."""
        terms, loss = self.terms_and_loss(x, y, kl_weight)
        self.guide.zero_grad(set_to_none=True)
        loss.backward()
        return terms


_Compiled = tuple[Callable[..., Any], tuple[str, ...], tuple[str, ...]]
_COMPILED: dict[str, _Compiled] = {}  # one graph serves every fit of the same shape in a process


class CompiledStep(EagerStep):
    """Run the same computation as one compiled graph, traced and compiled at the first step (half a minute or so).

    All minibatches must have the shape of the first.
    """

    def __init__(self, model: Network, guide: Guide, elbo: AnalyticELBO, num_data: int) -> None:
        super().__init__(model, guide, elbo, num_data)
        self._parameters = list(guide.parameters())
        # What the model remembers from step to step, such as running statistics, is changed in place by the graph.
        self._memory = dict(model.named_buffers()) if isinstance(model, Module) else {}
        self._state = [guide.temperature, *self._memory.values(), *self._parameters]
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, x: Tensor, y: Tensor, kl_weight: Tensor) -> Tensor:
        """As :meth:`EagerStep.__call__`.

        :raises ConfigurationError: at the first step, when torch cannot compile here.
        """
        inputs = [x, y, kl_weight, *self._state]
        with torch.no_grad():
            if self._compiled is None:
                key = self._key(x, y)
                found = None if key is None else _COMPILED.get(key)
                found = found or self._compile(inputs)
                if key is not None:
                    _COMPILED[key] = found
                self._compiled, self.observed, self.latent = found
            terms, *gradients = self._compiled(*inputs)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        return terms

    def _key(self, x: Tensor, y: Tensor) -> str | None:
        """All that the graph depends on; None where no record can tell it, for classes without a name of their own."""
        try:
            config = self.model.to_config()
        except ConfigurationError:
            return None
        tensors = [str((t.shape, t.dtype, t.device)) for t in (x, y)]
        kinds = [type(v).__qualname__ for v in (self.model, self.guide, self.elbo)]
        options = [self.guide.hard, self.elbo.num_particles, self.elbo.local_reparameterization]
        description = self.model.description  # which removals change
        parts = (description.inputs, *description.groups, *description.sums)
        network = [config, [repr(part) for part in parts]]
        network.append(self.guide.to_config())
        # The compiled graph runs without guards, so what torch looks at while it traces is part of the key.
        options += [torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()]
        return json.dumps([network, tensors, kinds, options, self.num_data])

    def _compile(self, inputs: list[Tensor]) -> _Compiled:
        names = [name for name, _ in self.guide.named_parameters()]

        def step(x: Tensor, y: Tensor, kl_weight: Tensor, *state: Tensor) -> list[Tensor]:
            temperature, *rest = state
            memory, parameters = rest[: len(self._memory)], rest[len(self._memory) :]
            values = {**dict(zip(names, parameters, strict=True)), "temperature": temperature}
            with torch.enable_grad(), _reparametrize_module(cast(Module, self.guide), values):
                with self._remembering(memory), pyro.get_param_store().scope(), FusiblePooling():
                    terms, loss = self.terms_and_loss(x, y, kl_weight)
                return [terms, *torch.autograd.grad(loss, parameters)]

        random = torch.get_rng_state()
        memory = [value.clone() for value in self._memory.values()]
        graph = make_fx(step)(*inputs)
        try:
            # The graph goes to the compiler as it is: torch.compile would check at every step that its inputs are still
            # alike, which fit guarantees. fallback_random: torch's own generators, which are vectorised (the compiler's
            # are not), and the eager step's draws.
            compiled = compile_graph(graph, list(inputs), options={"fallback_random": True})
            compiled(*inputs)
        except Exception as error:  # whatever the back end raises, the cause is kept
            raise ConfigurationError(
                "compile=True: torch's compiler failed on this machine. It needs a C++ compiler (g++ or clang++) on"
                " the CPU and Triton on CUDA; install one, or leave compile=False."
            ) from error
        torch.set_rng_state(random)  # a cached graph must see the same random numbers as a new one
        for value, before in zip(self._memory.values(), memory, strict=True):
            value.copy_(before)
        return compiled, self.observed, self.latent

    def _remembering(self, memory: list[Tensor]) -> AbstractContextManager[Any]:
        """The model with these tensors in place of its buffers."""
        if not memory:
            return nullcontext()
        values = dict(zip(self._memory, memory, strict=True))
        return _reparametrize_module(cast(Module, self.model), values)
