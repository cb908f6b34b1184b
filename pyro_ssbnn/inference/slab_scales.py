"""The laws of a linear network's slab scale and noise, by the same random numbers at every call."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import torch
from pyro import poutine
from torch import Tensor

from pyro_ssbnn.guides.block import BlockGuide
from pyro_ssbnn.inference.elbo import AnalyticELBO
from pyro_ssbnn.inference.optimizer import fuses
from pyro_ssbnn.isolation import isolated
from pyro_ssbnn.structure.network import Network

__all__ = ["SlabScales"]

_DRAWS = 256
_STEPS = 30  # of a climb
_RATE = 0.1


class SlabScales:
    """Draws of the slab scale t from a guide, and the ascent of its laws.

    :param model: the network.
    :param guide: it holds the laws.
    :param seed: of the draws.
    """

    def __init__(self, model: Network, guide: BlockGuide, seed: int) -> None:
        self.model, self.guide, self.seed = model, guide, seed
        self.group = model.description.groups[0]

    def draws(self, number: int = _DRAWS) -> Tensor | None:
        """Draws of the slab scale, ``[S, size]``, float64; None for t = 1."""
        like = self.guide.temperature
        with isolated(self.seed, like), poutine.block(), pyro.plate("draws", number, dim=-2):
            unit = self.guide.sample_slab_scale(self._rows())
        return self._each(unit, number)

    def draws_and_kl(self) -> tuple[Tensor | None, Tensor]:
        """The same with their gradient where it is enabled, and the KL of noise and scales from their prior."""
        drawn: list[Tensor | None] = []

        def laws() -> None:
            drawn.append(self.guide.sample_slab_scale(self._rows()))
            if self.guide.noise is not None:
                self.guide.noise(self.guide.description.prefix)

        with isolated(self.seed, self.guide.temperature, grad=torch.is_grad_enabled()):
            terms = AnalyticELBO(_DRAWS).terms(self._prior, laws)
        zero = self.guide.temperature.new_zeros((), dtype=torch.float64)
        return self._each(drawn[0], _DRAWS), sum(terms.kl.values(), zero)

    def climb(self, bound: Callable[[], Tensor]) -> None:
        """Let the laws of the slab scale follow the gradient of a bound."""
        noise = [] if self.guide.noise is None else [*self.guide.noise.parameters()]
        latents = self.guide.parameter_groups()["latents"]
        parameters = [p for p in latents if all(p is not other for other in noise)]
        fused = fuses(self.guide.temperature.device)
        optimizer = torch.optim.Adam(parameters, lr=_RATE, fused=fused)
        decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, _STEPS)
        for _ in range(_STEPS):
            with torch.enable_grad():
                gradients = torch.autograd.grad(-bound(), parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
            decay.step()
        optimizer.zero_grad()

    def _prior(self) -> None:
        """Sample what the model has beside gates and weights."""
        group, like = self.group, self.guide.temperature
        shared = group.prior.sample_shared(self.model.description.site(group.scope), like)
        with self._rows():
            group.prior.sample_local(group.path, group.prior_size, shared, like)
        self.model.likelihood.sample_latents(like, self.model.description.prefix)

    def _rows(self) -> pyro.plate:
        return pyro.plate(self.group.path, self.group.size, dim=-1)

    def _each(self, unit: Tensor | None, number: int) -> Tensor | None:
        return None if unit is None else unit.double().expand(number, self.group.size)
