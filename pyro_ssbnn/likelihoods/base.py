"""What every likelihood offers: the distribution of the targets given the network's output f, and its mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import pyro
import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ssbnn.distributions.mixture import mixture_quantile
from pyro_ssbnn.errors import DataError
from pyro_ssbnn.registry import name_of, record_of

__all__ = ["Likelihood"]


@dataclass(frozen=True)
class Likelihood(ABC):
    """Distribution of the targets given the network's output."""

    family: ClassVar[str] = "likelihood"
    predicts_classes: ClassVar[bool] = False
    """Whether targets are class labels: their mean is a probability, their uncertainty an entropy."""

    @property
    def name(self) -> str:
        """Short name in saved files, given by :func:`pyro_ssbnn.register`.

        :raises ConfigurationError: for a class without a name of its own.
        """
        return name_of(type(self))

    @property
    def num_outputs(self) -> int:
        """Columns of the network's output f."""
        return 1

    def sample_latents(self, like: Tensor) -> dict[str, Tensor]:
        """Sample the likelihood's own latents (none by default); ``like`` fixes dtype and device."""
        return {}

    @abstractmethod
    def distribution(self, f: Tensor, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Distribution of y, batch shape ``[..., N]``, from f, ``[..., N, num_outputs]``."""

    @abstractmethod
    def mean(self, f: Tensor) -> Tensor:
        """Expected y given f: ``[..., N]``, or ``[..., N, num_outputs]`` (class probabilities, several targets)."""

    def cdf(self, y: Tensor, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """P(Y <= y) of each target given f, shape of the mean: what quantiles of predictions are found by.

        The distribution's own; a likelihood whose distribution has none, or is of several targets, gives it here.

        :param y: broadcastable with the mean.
        :raises NotImplementedError: where the distribution has none.
        """
        return self.distribution(f, latents).cdf(y)

    def quantile(self, probability: float, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """Quantile of the predictive distribution, the equal mixture over draws, ``[N]`` (``[N, K]``).

        To within 1e-8 standard deviations, exact for counts (:mod:`pyro_ssbnn.distributions.mixture`).

        :param probability: strictly between 0 and 1.
        :param f: of S draws, ``[S, N, num_outputs]``, float64.
        :param latents: of the same draws, broadcastable with f as in :meth:`distribution`.
        """
        member = self.distribution(f, latents)
        spread = member.variance.mean(0) + member.mean.var(0, correction=0)
        return mixture_quantile(
            probability,
            lambda y: self.cdf(y, f, latents).mean(0),
            member.mean.mean(0),
            spread.sqrt(),
            whole=member.support.is_discrete,
        )

    def observe(self, f: Tensor, y: Tensor | None, num_data: int | None) -> None:
        """Sample or observe site ``obs`` in plate ``data``, scaled from the minibatch to ``num_data`` rows."""
        latents = self.sample_latents(f)
        rows = f.shape[-2]
        weight = 1.0 if num_data is None else num_data / rows
        with poutine.scale(scale=weight), pyro.plate("data", rows, dim=-1):
            observed = None if y is None else self.as_target(y, f)
            pyro.sample("obs", self.distribution(f, latents), obs=observed)

    def as_target(self, y: Tensor, like: Tensor) -> Tensor:
        """Targets as the distribution scores them: numbers of the device and dtype of ``like``, from any dtype.

        Every entry of targets comes through here, so that 0 and 1 may be boolean and counts whole numbers. A likelihood
        of labels gives integers instead.
        """
        return y.to(like.device, like.dtype)

    def check_target(self, y: Tensor) -> None:
        """Raise :class:`DataError` unless y is a target of this likelihood (finite, right shape and values)."""
        if y.ndim != 1:
            raise DataError(f"{type(self).__name__}: y must be [N]; got shape {list(y.shape)}.")
        if not torch.isfinite(y).all():
            raise DataError(
                f"{type(self).__name__}: y has missing or infinite values; remove those rows."
            )

    def to_config(self) -> dict[str, Any]:
        """Plain record for :func:`likelihood_from_config`.

        :raises ConfigurationError: for a class without a name of its own.
        """
        return {**record_of(type(self)), **asdict(self)}
