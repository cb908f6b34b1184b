r"""Normal targets whose spread depends on the predictors, too.

.. math:: y \sim N(f_1, \sigma^2),\qquad \log\sigma = \bar f_2,

the second output of the same network; :math:`\bar f_2` is :math:`f_2` between limits
(:mod:`pyro_ssbnn.likelihoods.links`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pyro import distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ssbnn.checks import check_positive
from pyro_ssbnn.distributions.mixture import normal_mixture_quantile
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.likelihoods.base import Likelihood
from pyro_ssbnn.likelihoods.links import bounded
from pyro_ssbnn.registry import register

__all__ = ["HeteroscedasticLikelihood"]


@register("heteroscedastic")
@dataclass(frozen=True)
class HeteroscedasticLikelihood(Likelihood):
    """Normal targets with mean and log standard deviation from two outputs, ``f[..., 0]`` and ``f[..., 1]``.

    :param smallest: standard deviation down to which the second output is its logarithm; below it falls only slowly, so
        that no row's density runs away. In units of y; the default suits standardised targets.
    :param largest: the same above.
    """

    unit_scale = True

    smallest: float = 1e-3
    largest: float = 1e3

    def __post_init__(self) -> None:
        check_positive(type(self).__name__, smallest=self.smallest, largest=self.largest)
        if not self.smallest < 1 < self.largest:
            raise ConfigurationError(
                "HeteroscedasticLikelihood: smallest must be below 1 and largest above, the standard deviation of"
                f" standardised targets; got {self.smallest:g} and {self.largest:g}."
            )

    @property
    def num_outputs(self) -> int:
        """Mean and log standard deviation."""
        return 2

    @property
    def mean_columns(self) -> int:
        """One."""
        return 1

    def distribution(self, f: Tensor, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Normal around the first output."""
        return dist.Normal(f[..., 0], self.scale(f))

    def quantile(self, probability: float, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """Quantile of the mixture of Normals, ``[N]``; see :meth:`Likelihood.quantile`."""
        return normal_mixture_quantile(probability, f[..., 0], self.scale(f))

    def mean(self, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """The first output, ``[..., N]``."""
        return f[..., 0]

    def scale(self, f: Tensor) -> Tensor:
        """Standard deviation of y given f, ``[..., N]``."""
        return bounded(f[..., 1], math.log(self.smallest), math.log(self.largest)).exp()
