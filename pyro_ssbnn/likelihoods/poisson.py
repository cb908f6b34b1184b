"""Counts whose variance is their mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ssbnn.likelihoods.counts import CountLikelihood
from pyro_ssbnn.registry import register

__all__ = ["PoissonLikelihood"]


@register("poisson")
@dataclass(frozen=True)
class PoissonLikelihood(CountLikelihood):
    """Counts with the rate ``unit * exp(f)``; unit, largest mean and exposure as for :class:`CountLikelihood`."""

    def distribution(self, f: Tensor, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Poisson with this rate."""
        return dist.Poisson(self.mean(f, latents))

    def cdf(self, y: Tensor, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """P(Y <= y) = Q(floor(y) + 1, rate), Q the regularised upper incomplete gamma function; 0 below 0."""
        above = y.floor().clamp_min(0) + 1
        return torch.where(y < 0, 0.0, torch.special.gammaincc(above, self.mean(f, latents)))
