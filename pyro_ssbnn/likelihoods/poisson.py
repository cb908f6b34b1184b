"""Counts with rate exp(f)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ssbnn.errors import DataError
from pyro_ssbnn.likelihoods.base import Likelihood
from pyro_ssbnn.registry import register

__all__ = ["PoissonLikelihood"]


@register("poisson")
@dataclass(frozen=True)
class PoissonLikelihood(Likelihood):
    """Counts with rate exp(f)."""

    def distribution(self, f: Tensor, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Poisson with log-rate f."""
        return dist.Poisson(f.squeeze(-1).exp())

    def cdf(self, y: Tensor, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """P(Y <= y) = Q(floor(y) + 1, rate), Q the regularised upper incomplete gamma function; 0 below 0."""
        above = y.floor().clamp_min(0) + 1
        return torch.where(y < 0, 0.0, torch.special.gammaincc(above, self.mean(f)))

    def mean(self, f: Tensor) -> Tensor:
        """The rate, ``[..., N]``."""
        return f.squeeze(-1).exp()

    def check_target(self, y: Tensor) -> None:
        """Non-negative whole numbers."""
        super().check_target(y)
        whole = not y.is_floating_point() or bool((y == y.round()).all())
        if (y < 0).any() or not whole:
            raise DataError("PoissonLikelihood: y must hold counts 0, 1, 2, ...; got other values.")
