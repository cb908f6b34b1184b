r"""Predictions of a scaled target in its own units, draw by draw.

With :math:`y' = (g(y) - m) / s` and y' of law p' under a draw, quantiles are the transformed quantiles of y', and the
density is that of y' times :math:`g'(y) / s`. Means and variances are not transformed ones: :math:`E[g^{-1}(m + s y')]`
is integrated under each draw, by Gauss and Hermite's rule, before the draws are averaged. That asks for Normal noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from pyro_ssbnn.data.scaling import TargetScaling
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.likelihoods import GaussianLikelihood, HeteroscedasticLikelihood, Likelihood
from pyro_ssbnn.posterior.ensemble import Ensemble

__all__ = ["check_transform", "own_units"]

_NODES = 40


def own_units(ensemble: Ensemble, target: TargetScaling) -> Ensemble:
    """The same networks, predicting the target in its own units; what they score must come in these, too."""
    if target.is_identity:
        return ensemble
    check_transform(ensemble.likelihood, target)
    return replace(ensemble, likelihood=_OwnUnits(ensemble.likelihood, target))


def check_transform(
    likelihood: Likelihood, target: TargetScaling, option: str = "transform_target"
) -> None:
    """Raise :class:`ConfigurationError` for a transformed target whose noise is not Normal: it may have no mean."""
    normal = isinstance(likelihood, GaussianLikelihood | HeteroscedasticLikelihood)
    if not target.map.is_identity and not normal:
        raise ConfigurationError(
            f"{option}: {target.map.name} goes with Gaussian or heteroscedastic noise, under which the mean in"
            f" own units is finite and known; got {type(likelihood).__name__}."
        )


@dataclass(frozen=True)
class _OwnUnits(Likelihood):
    """A likelihood of a scaled target as one of the target itself; only for predicting."""

    base: Likelihood
    target: TargetScaling

    @property
    def num_outputs(self) -> int:
        return self.base.num_outputs

    @property
    def mean_columns(self) -> int:
        return self.base.mean_columns

    def unpacked(self, f: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        return self.base.unpacked(f, y)

    def distribution(self, f: Tensor, latents: Mapping[str, Tensor]) -> TorchDistribution:
        return _OwnDistribution(self.base.distribution(f, latents), self.target)

    def mean(self, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        if self.target.map.is_identity:
            return self.target.inverse(self.base.mean(f, latents))
        return self.distribution(f, latents).mean

    def quantile(self, probability: float, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        return self.target.inverse(self.base.quantile(probability, f, latents))


class _OwnDistribution(TorchDistribution):
    """Law of y where that of y' is given."""

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, base: TorchDistribution, target: TargetScaling) -> None:
        self.base, self.target = base, target
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        return constraints.positive if self.target.map.name == "log" else constraints.real

    def log_prob(self, value: Tensor) -> Tensor:
        density: Tensor = self.base.log_prob(self.target.transform(value))
        return density + self.target.log_slope(value)

    @property
    def mean(self) -> Tensor:
        return self._moments[0]

    @property
    def variance(self) -> Tensor:
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        if self.target.map.is_identity:
            return self.target.inverse(self.base.mean), self.base.variance * self.target.scale**2
        base = cast(dist.Normal, self.base)
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        mean = torch.zeros_like(base.loc)
        square = torch.zeros_like(base.loc)
        # what squares are taken from, so that no digits are lost
        middle = self.target.inverse(base.loc)
        for node, weight in zip(nodes, weights / weights.sum(), strict=True):
            apart = self.target.inverse(base.loc + float(node) * base.scale) - middle
            mean += float(weight) * apart
            square += float(weight) * apart.square()
        return middle + mean, (square - mean.square()).clamp_min(0)
