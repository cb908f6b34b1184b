"""The three kinds of site a structured guide is made of: positive latents, gates, and gated weights."""

from __future__ import annotations

import math

import pyro
import torch
from pyro.distributions import LogNormal
from pyro.nn import PyroModule
from torch import Tensor, nn

from pyro_ssbnn.distributions import GatedNormal, PenalizedLogNormal, RelaxedGate

__all__ = ["GateSite", "LogNormalSite", "WeightSite"]


class LogNormalSite(PyroModule):
    r"""LogNormal(m, v^2) guide of a positive latent.

    :param loc: initial m, the latent's log-median; shape ``[]`` or the group's ``[size]``.
    :param scale: initial v, standard deviation of the latent's logarithm.
    :param event_dim: trailing dimensions that are one event.
    """

    def __init__(self, loc: Tensor, scale: float = 0.1, event_dim: int = 0) -> None:
        super().__init__()
        self.loc = nn.Parameter(loc.clone())
        self.log_scale = nn.Parameter(torch.full_like(loc, math.log(scale)))
        self.event_dim = event_dim

    def forward(
        self,
        name: str,
        origin: Tensor | None = None,
        rate: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Sample the site.

        :param origin: where ``loc`` counts from, 0 by default.
        :param rate: means of the logarithm of a Gamma prior's rate, and of the rate, where the KL is to be the mean
            over it (:class:`~pyro_ssbnn.distributions.PenalizedLogNormal`).
        """
        loc, scale = self.loc if origin is None else self.loc + origin, self.log_scale.exp()
        law = LogNormal(loc, scale) if rate is None else PenalizedLogNormal(loc, scale, *rate)
        return pyro.sample(name, law.to_event(self.event_dim))

    @property
    def log_moments(self) -> tuple[Tensor, Tensor]:
        """Mean, counted from the origin, and variance of the latent's logarithm, detached."""
        return self.loc.detach(), (2 * self.log_scale.detach()).exp()


class GateSite(PyroModule):
    """Bernoulli guide of a group's gates, relaxed by the binary concrete distribution.

    :param size: number of nodes.
    :param inclusion: initial inclusion probability of every node.
    """

    def __init__(self, size: int, inclusion: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.full((size,), math.log(inclusion / (1 - inclusion))))

    def forward(self, name: str, temperature: Tensor, hard: bool) -> Tensor:
        """Sample the site, ``[..., size]``."""
        return pyro.sample(name, RelaxedGate(temperature, self.logits, hard=hard))


class WeightSite(PyroModule):
    """Gated Normal guide of a group's standardised weights.

    :param loc: initial means, ``[size, group_size]``.
    :param scale: initial standard deviation of every weight.
    """

    def __init__(self, loc: Tensor, scale: float) -> None:
        super().__init__()
        self.loc = nn.Parameter(loc.clone())
        self.log_scale = nn.Parameter(torch.full_like(loc, math.log(scale)))

    def forward(
        self, name: str, loc: Tensor, open: Tensor, inclusion: Tensor, prior_scale: float
    ) -> Tensor:
        """Sample the site, ``[..., size, group_size]``.

        :param loc: means of the standardised weights, ``[..., size, group_size]``, made of the site's own.
        :param open: draw of the gates, broadcastable to the weights.
        :param inclusion: their probabilities, of the same shape rule.
        :param prior_scale: standard deviation of the prior, which a closed weight follows.
        """
        closed = loc.new_full((), prior_scale)
        return pyro.sample(name, GatedNormal(loc, self.log_scale, open, inclusion, closed))
