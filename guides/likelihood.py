"""Guide of a likelihood's own latents."""

from __future__ import annotations

import math
from functools import singledispatch

import torch
from pyro.nn import PyroModule
from torch import Tensor

from pyro_ssbnn.guides.sites import LogNormalSite
from pyro_ssbnn.likelihoods import GaussianLikelihood, Likelihood

__all__ = ["NoiseGuide", "likelihood_guide"]


class NoiseGuide(PyroModule):
    """LogNormal guide of ``noise.variance``, started at a standard deviation of 0.5 (for standardised targets)."""

    def __init__(self, num_targets: int) -> None:
        super().__init__()
        shape = [num_targets] if num_targets > 1 else []
        self.variance = LogNormalSite(torch.full(shape, 2 * math.log(0.5)), event_dim=len(shape))

    def forward(self) -> dict[str, Tensor]:
        """Sample the noise variance."""
        return {"noise.variance": self.variance("noise.variance")}


@singledispatch
def likelihood_guide(likelihood: Likelihood) -> PyroModule | None:
    """Guide of the likelihood's latents, or None when it has none."""
    return None


@likelihood_guide.register
def _(likelihood: GaussianLikelihood) -> PyroModule | None:
    return NoiseGuide(likelihood.num_targets) if likelihood.scale is None else None
