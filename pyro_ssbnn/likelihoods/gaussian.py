"""Normal targets, with known noise or a posterior of its variance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ssbnn.checks import check_positive, check_that
from pyro_ssbnn.distributions.mixture import normal_mixture_quantile
from pyro_ssbnn.errors import DataError
from pyro_ssbnn.likelihoods.base import LatentSite, Likelihood
from pyro_ssbnn.registry import register

__all__ = ["GaussianLikelihood"]


@register("gaussian")
@dataclass(frozen=True)
class GaussianLikelihood(Likelihood):
    r"""Normal targets; the noise variance is known, or has an InverseGamma prior and its own posterior.

    :param scale: known noise standard deviation, or None to infer ``noise.variance``.
    :param num_targets: K; y is ``[N]`` for K = 1 and ``[N, K]`` (one noise variance a target) otherwise.
    :param concentration: shape of the InverseGamma prior of the variance.
    :param rate: its rate (variance units of y); the weak default suits standardised targets.
    """

    unit_scale = True

    scale: float | None = None
    num_targets: int = 1
    concentration: float = 1.0
    rate: float = 1e-3

    def __post_init__(self) -> None:
        positive = {"concentration": self.concentration, "rate": self.rate}
        if self.scale is not None:
            positive["scale"] = self.scale
        check_positive("GaussianLikelihood", num_targets=self.num_targets, **positive)
        for name, value in positive.items():
            check_that(
                "GaussianLikelihood", name, value, 1e-15 <= value <= 1e15, "from 1e-15 to 1e+15"
            )

    @property
    def num_outputs(self) -> int:
        """One column a target."""
        return self.num_targets

    def latent_sites(self, like: Tensor) -> dict[str, LatentSite]:
        """``noise.variance``, a scalar, or ``[K]`` for several targets, unless the scale is known."""
        if self.scale is not None:
            return {}
        prior = dist.InverseGamma(
            like.new_full((), self.concentration), like.new_full((), self.rate)
        )
        if self.num_targets > 1:
            prior = prior.expand([self.num_targets]).to_event(1)
        # Of standardised targets: the prior itself is too wide to start from.
        return {"noise.variance": LatentSite(prior, initial=0.25)}

    def distribution(self, f: Tensor, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Normal around f."""
        mean, scale = self.mean(f, latents), self._scale(f, latents)
        normal = dist.Normal(mean, scale)
        return normal if self.num_targets == 1 else normal.to_event(1)

    def cdf(self, y: Tensor, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """Each target's Normal distribution function."""
        return dist.Normal(self.mean(f, latents), self._scale(f, latents)).cdf(y)

    def quantile(self, probability: float, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """Quantile of the mixture of Normals, ``[N]`` (``[N, K]``); see :meth:`Likelihood.quantile`.

        Where one set of weights goes with many draws of the noise, all rows share the distribution around f.
        """
        mean, scale = self.mean(f, latents), self._scale(f, latents)
        if len(mean) > 1:
            return normal_mixture_quantile(probability, mean, scale)
        around = normal_mixture_quantile(probability, torch.zeros_like(mean[:, :1]), scale)
        return mean[0] + around

    def mean(self, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """F itself, without the last dimension for one target."""
        return f.squeeze(-1) if self.num_targets == 1 else f

    @property
    def target_columns(self) -> int:
        """One a target."""
        return self.num_targets

    def _scale(self, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """Standard deviation of the noise, broadcastable with the mean."""
        return (
            latents["noise.variance"].sqrt() if self.scale is None else f.new_full((), self.scale)
        )

    def check_target(self, y: Tensor) -> None:
        """Finite y, ``[N]``, or ``[N, num_targets]``."""
        if self.num_targets == 1:
            super().check_target(y)
        elif y.ndim != 2 or y.shape[1] != self.num_targets:
            raise DataError(
                f"GaussianLikelihood: y must be [N, {self.num_targets}]; got shape {list(y.shape)}."
            )
        else:
            super().check_target(y[:, 0] + y.sum(1))
