r"""Times until something happens, some of them only known to be longer: accelerated failure times.

.. math:: \log T = \log u + \bar f + \sigma W,

W from the smallest extreme value distribution (T is then Weibull of shape :math:`1/\sigma`) or standard Normal
(log-normal); u is the unit of time, :math:`\bar f` is f between limits (:mod:`pyro_ssbnn.likelihoods.links`). f rises
by :math:`\log 2` where the time doubles. With :math:`z = (\log t - \log u - \bar f)/\sigma`

=========== ============================================== ==============================
            log density of an event at t                   log P(T > t), censored at t
=========== ============================================== ==============================
Weibull     :math:`z - e^z - \log\sigma - \log t`          :math:`-e^z`
log-normal  :math:`\log\varphi(z) - \log\sigma - \log t`   :math:`\log\Phi(-z)`
=========== ============================================== ==============================

(Kalbfleisch and Prentice 2002, section 2.2).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ssbnn.checks import check_positive
from pyro_ssbnn.distributions.censored import RightCensored
from pyro_ssbnn.distributions.mixture import mixture_quantile
from pyro_ssbnn.errors import DataError
from pyro_ssbnn.likelihoods.base import LatentSite, Likelihood
from pyro_ssbnn.likelihoods.links import bounded
from pyro_ssbnn.registry import register

__all__ = ["LogNormalLikelihood", "SurvivalLikelihood", "WeibullLikelihood"]

_LARGEST = 80.0  # logarithm of a cumulative hazard: e^80 is finite in single precision, and no data survive it


@dataclass(frozen=True)
class SurvivalLikelihood(Likelihood):
    """Positive times, right-censored: y is ``[N, 2]``, the time and whether it is that of an event (1) or censored (0).

    y may also be ``[N]``, a time with a minus sign where it is censored; that is how it is scored, drawn against and
    exported. Predictions are of the times themselves, uncensored.

    :param unit: of time, in units of y; the median time puts f on the scale of standardised targets.
    """

    unit: float = 1.0

    def __post_init__(self) -> None:
        check_positive(type(self).__name__, unit=self.unit)

    @abstractmethod
    def times(self, location: Tensor, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Distribution of the times, ``[..., N]``, from the location of their logarithm."""

    @abstractmethod
    def scale(self, latents: Mapping[str, Tensor]) -> Tensor:
        """Scale sigma of the logarithm of the times."""

    @abstractmethod
    def log_density(self, z: Tensor) -> Tensor:
        """Log density of W."""

    @abstractmethod
    def log_survival(self, z: Tensor) -> Tensor:
        """Log P(W > z)."""

    def distribution(self, f: Tensor, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """The times, right-censored."""
        location, scale = self.location(f), self.scale(latents)

        def standardised(time: Tensor) -> Tensor:
            return (time.log() - location) / scale

        return RightCensored(
            self.times(location, latents),
            lambda time: self.log_density(standardised(time)) - scale.log() - time.log(),
            lambda time: self.log_survival(standardised(time)),
        )

    def location(self, f: Tensor) -> Tensor:
        """Location of the logarithm of the times, in units of y, ``[..., N]``."""
        return bounded(f.squeeze(-1)) + math.log(self.unit)

    def mean(self, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """Mean time, ``[..., N]``, in units of y."""
        return self.times(self.location(f), latents).mean

    def quantile(self, probability: float, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """Quantile of the mixture of times, ``[N]``, found by their logarithms: times may be spread over magnitudes."""
        location, scale = self.location(f), self.scale(latents)
        spread = (scale.square().mean() + location.var(0, correction=0)).sqrt()
        found = mixture_quantile(
            probability,
            lambda log_time: self.cdf(log_time.exp(), f, latents).mean(0),
            location.mean(0),
            spread,
        )
        return found.exp()

    @property
    def target_columns(self) -> int:
        """Time and event."""
        return 2

    def unpacked(self, f: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """f, signed times ``[N]``, weights; see :meth:`Likelihood.unpacked`."""
        f, target, weight = super().unpacked(f, y)
        if target.ndim == 2:
            time, event = target.unbind(1)
            target = torch.where(event > 0, time, -time)
        return f, target, weight

    def censored(self, y: Tensor) -> Tensor:
        """Those with a minus sign."""
        return y < 0

    def check_target(self, y: Tensor) -> None:
        """Positive times with events, ``[N, 2]``, or signed times, ``[N]``; at least one event."""
        name = type(self).__name__
        if y.ndim == 2:
            if y.shape[1] != 2:
                raise DataError(
                    f"{name}: y must be [N, 2], time and event, or [N], times with a minus sign where censored; got"
                    f" shape {list(y.shape)}."
                )
            if not ((y[:, 1] == 0) | (y[:, 1] == 1)).all():
                raise DataError(
                    f"{name}: the second column of y says whether the time is that of an event: 1, or 0 where it is"
                    " censored; got other values."
                )
            if not (y[:, 0] > 0).all():
                raise DataError(
                    f"{name}: times, the first column of y, must be positive. Add half the smallest unit to times of 0."
                )
            y = torch.where(y[:, 1] > 0, y[:, 0], -y[:, 0])
        super().check_target(y)
        if (y == 0).any():
            raise DataError(
                f"{name}: y has times of 0; add half the smallest unit of time to them."
            )
        if not (y > 0).any():
            raise DataError(
                f"{name}: all times are censored; nothing says how long they last. Is the event coded as 1?"
            )


@register("weibull")
@dataclass(frozen=True)
class WeibullLikelihood(SurvivalLikelihood):
    """Weibull times of scale ``unit * exp(f)`` and a shape that is learned, ``noise.shape``; see the base class.

    The hazard falls with time for shapes below 1 and rises above.

    :param concentration: shape of the Gamma prior of the Weibull's shape.
    :param rate: its rate.
    """

    concentration: float = 2.0
    rate: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(type(self).__name__, concentration=self.concentration, rate=self.rate)

    def latent_sites(self, like: Tensor) -> dict[str, LatentSite]:
        """``noise.shape``, a scalar."""
        prior = dist.Gamma(like.new_full((), self.concentration), like.new_full((), self.rate))
        return {"noise.shape": LatentSite(prior, initial=1.0)}

    def times(self, location: Tensor, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Weibull."""
        return dist.Weibull(location.exp(), latents["noise.shape"])

    def scale(self, latents: Mapping[str, Tensor]) -> Tensor:
        """Reciprocal of the shape."""
        return latents["noise.shape"].reciprocal()

    def log_density(self, z: Tensor) -> Tensor:
        """That of the smallest extreme value."""
        return z + self.log_survival(z)

    def log_survival(self, z: Tensor) -> Tensor:
        """Minus the cumulative hazard."""
        return -z.clamp_max(_LARGEST).exp()


@register("log-normal")
@dataclass(frozen=True)
class LogNormalLikelihood(SurvivalLikelihood):
    """Log-normal times with the median ``unit * exp(f)``; ``noise.variance``, of the logarithm, is learned.

    :param concentration: shape of the InverseGamma prior of that variance.
    :param rate: its rate.
    """

    concentration: float = 1.0
    rate: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(type(self).__name__, concentration=self.concentration, rate=self.rate)

    def latent_sites(self, like: Tensor) -> dict[str, LatentSite]:
        """``noise.variance``, a scalar."""
        prior = dist.InverseGamma(
            like.new_full((), self.concentration), like.new_full((), self.rate)
        )
        return {"noise.variance": LatentSite(prior, initial=0.5)}

    def times(self, location: Tensor, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Log-normal."""
        return dist.LogNormal(location, self.scale(latents))

    def scale(self, latents: Mapping[str, Tensor]) -> Tensor:
        """Standard deviation of the logarithm."""
        return latents["noise.variance"].sqrt()

    def log_density(self, z: Tensor) -> Tensor:
        """Standard Normal."""
        return -0.5 * z.square() - 0.5 * math.log(2 * math.pi)

    def log_survival(self, z: Tensor) -> Tensor:
        """Standard Normal, accurate in its tail."""
        return torch.special.log_ndtr(-z)
