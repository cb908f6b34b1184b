r"""Targets with heavy tails: errors now and then far larger than the rest.

.. math:: y = f + \sigma\,\varepsilon,\qquad \varepsilon \sim t_\nu,\qquad \nu = \nu_0 + \nu',

scale :math:`\sigma` and degrees of freedom :math:`\nu` learned. The variance, :math:`\sigma^2\nu/(\nu - 2)`, is finite
as long as :math:`\nu_0 \ge 2`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ssbnn.checks import check_positive
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.likelihoods.base import LatentSite, Likelihood
from pyro_ssbnn.registry import register

__all__ = ["StudentTLikelihood"]


@register("student-t")
@dataclass(frozen=True)
class StudentTLikelihood(Likelihood):
    """Student's t around f; the squared scale and the degrees of freedom have posteriors of their own.

    Latents: ``noise.squared_scale``, and ``noise.excess_df``, degrees of freedom beyond the least.

    :param concentration: shape of the InverseGamma prior of the squared scale.
    :param rate: its rate (variance units of y); the weak default suits standardised targets.
    :param least_df: degrees of freedom at least; 2 for a finite variance. With less, predictive variances are infinite
        where a draw has 2 or fewer, and the mean that is given, f, is the median only.
    :param df_concentration: shape of the Gamma prior of the degrees of freedom beyond that.
    :param df_rate: its rate; 2 and 0.1 are those of Juárez and Steel (2010).
    """

    unit_scale = True

    concentration: float = 1.0
    rate: float = 1e-3
    least_df: float = 2.0
    df_concentration: float = 2.0
    df_rate: float = 0.1

    def __post_init__(self) -> None:
        check_positive(
            type(self).__name__,
            concentration=self.concentration,
            rate=self.rate,
            df_concentration=self.df_concentration,
            df_rate=self.df_rate,
        )
        if not 0 <= self.least_df < float("inf"):
            raise ConfigurationError(
                f"StudentTLikelihood: least_df must be a number from 0 on; got {self.least_df!r}."
            )

    def latent_sites(self, like: Tensor) -> dict[str, LatentSite]:
        """``noise.squared_scale`` and ``noise.excess_df``, scalars."""
        scale = dist.InverseGamma(
            like.new_full((), self.concentration), like.new_full((), self.rate)
        )
        df = dist.Gamma(like.new_full((), self.df_concentration), like.new_full((), self.df_rate))
        return {
            "noise.squared_scale": LatentSite(scale, initial=0.15),
            "noise.excess_df": LatentSite(df, initial=5.0),
        }

    def distribution(self, f: Tensor, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Student's t around f."""
        return dist.StudentT(self._df(latents), f.squeeze(-1), self._scale(latents))

    def cdf(self, y: Tensor, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """Student's distribution function at the standardised distance from f."""
        from scipy.special import stdtr  # half a second at import, for this alone

        distance = (y - f.squeeze(-1)) / self._scale(latents)
        return torch.as_tensor(stdtr(self._df(latents).numpy(), distance.numpy()))

    def mean(self, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """F itself, ``[..., N]``."""
        return f.squeeze(-1)

    def _df(self, latents: Mapping[str, Tensor]) -> Tensor:
        return self.least_df + latents["noise.excess_df"]

    def _scale(self, latents: Mapping[str, Tensor]) -> Tensor:
        return latents["noise.squared_scale"].sqrt()
