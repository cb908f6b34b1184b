"""Binary targets with logistic probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pyro import distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ssbnn.errors import DataError
from pyro_ssbnn.likelihoods.base import Likelihood
from pyro_ssbnn.registry import register

__all__ = ["BernoulliLikelihood"]


@register("bernoulli")
@dataclass(frozen=True)
class BernoulliLikelihood(Likelihood):
    """Binary targets, 0 and 1 of any dtype, with logistic probabilities."""

    predicts_classes = True

    def distribution(self, f: Tensor, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Bernoulli with logit f."""
        return dist.Bernoulli(logits=f.squeeze(-1))

    def mean(self, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """Probability of 1, ``[..., N]``."""
        return f.squeeze(-1).sigmoid()

    def check_target(self, y: Tensor) -> None:
        """Zeros and ones, both present."""
        super().check_target(y)
        if not ((y == 0) | (y == 1)).all():
            raise DataError(
                "BernoulliLikelihood: y must hold only 0 and 1; code the two classes so."
            )
        if (y == y[0]).all():
            raise DataError(f"BernoulliLikelihood: all y are {y[0]:g}; both classes are needed.")
