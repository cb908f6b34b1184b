"""What every likelihood offers: the distribution of the targets given the network's output f, and its mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import pyro
import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ssbnn.distributions.mixture import mixture_quantile
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.registry import name_of, record_of

__all__ = ["LatentSite", "Likelihood"]


@dataclass(frozen=True)
class LatentSite:
    """A latent of a likelihood's own: its prior, and what its guide needs to know.

    :param prior: distribution of one value, without batch dimensions: a vector is one event, ``to_event(1)``.
    :param initial: value at which the guide's median starts; by default that of draws from the prior.
    :param sampled_kl: whether its KL may be estimated by its draw. Needed where there is no closed form from the
        guide, LogNormal for positive values and Normal for real ones, to the prior.
    :raises ConfigurationError: for a prior with batch dimensions.
    """

    prior: TorchDistribution
    initial: float | Tensor | None = None
    sampled_kl: bool = False

    def __post_init__(self) -> None:
        if self.prior.batch_shape:
            raise ConfigurationError(
                f"LatentSite: the prior must have no batch dimensions; got {list(self.prior.batch_shape)}. Make them"
                " one event with prior.to_event()."
            )


@dataclass(frozen=True)
class Likelihood(ABC):
    """Distribution of the targets given the network's output.

    A subclass is a frozen dataclass whose fields are plain numbers, strings or lists of them; it gives
    :meth:`distribution` and :meth:`mean`, and declares latents of its own in :meth:`latent_sites`. Model, guide,
    training and draws then work as they are, and files, once it is registered (``docs/own_network.md``).

    :param weighted: whether a last column of the targets holds weights: in training, and in the bound, a row of weight
        w counts as w rows. Predictions, densities and draws are those of one observation; targets may then come
        without weights.
    """

    weighted: bool = field(default=False, kw_only=True)

    family: ClassVar[str] = "likelihood"
    predicts_classes: ClassVar[bool] = False
    """Whether targets are class labels: their mean is a probability, their uncertainty an entropy."""

    unit_scale: ClassVar[bool] = False
    """Whether targets are real numbers that priors expect at mean 0 and standard deviation 1."""

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

    @property
    def mean_columns(self) -> int:
        """Numbers of the mean of one target: as many as f has columns, unless a likelihood says otherwise."""
        return self.num_outputs

    def latent_sites(self, like: Tensor) -> dict[str, LatentSite]:
        """The likelihood's own latents by site name, independent of each other; none by default.

        :param like: a tensor of the wanted dtype and device.
        """
        return {}

    @property
    def latent_names(self) -> tuple[str, ...]:
        """Site names of the likelihood's own latents."""
        return tuple(self.latent_sites(torch.zeros(())))

    def sample_latents(self, like: Tensor, prefix: str = "") -> dict[str, Tensor]:
        """Sample the likelihood's own latents; returns them by their names without the prefix.

        :param like: a tensor of the wanted dtype and device.
        :param prefix: what the site names begin with in this network.
        """
        sites = self.latent_sites(like)
        return {name: pyro.sample(f"{prefix}{name}", site.prior) for name, site in sites.items()}

    def latents_of(self, values: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
        """The likelihood's own latents among values by site name, as :meth:`distribution` takes them.

        :raises ConfigurationError: when one of them is missing.
        """
        names = self.latent_names
        missing = [name for name in names if f"{prefix}{name}" not in values]
        if missing:
            raise ConfigurationError(
                f"{type(self).__name__}: no values of {missing}. A guide made with likelihood=False has no posterior of"
                " them; predict by the larger model that it belongs to."
            )
        return {name: values[f"{prefix}{name}"] for name in names}

    @abstractmethod
    def distribution(self, f: Tensor, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Distribution of y, batch shape ``[..., N]``, from f, ``[..., N, num_outputs]``.

        :param latents: the likelihood's own latents by name, without prefix. S draws of a scalar come as ``[S, 1]``, of
            a vector of K as ``[S, 1, K]``, so that they broadcast with f.
        """

    @abstractmethod
    def mean(self, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """Expected y given f: ``[..., N]``, or ``[..., N, K]`` (class probabilities, several targets).

        :param latents: as in :meth:`distribution`.
        """

    def cdf(self, y: Tensor, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """P(Y <= y) of each target given f, shape of the mean: what quantiles of predictions are found by.

        The distribution's own; a likelihood whose distribution has none, or is of several targets, gives it here.

        :param y: broadcastable with the mean.
        :param f: of S draws, ``[S, N, num_outputs]``, float64 on the CPU as the rest.
        :raises NotImplementedError: where the distribution has none.
        """
        return self.distribution(f, latents).cdf(y)

    def quantile(self, probability: float, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """Quantile of the predictive distribution, the equal mixture over draws, ``[N]`` (``[N, K]``).

        To within 1e-8 standard deviations, exact for counts (:mod:`pyro_ssbnn.distributions.mixture`).

        :param probability: strictly between 0 and 1.
        :param f: of S draws, ``[S, N, num_outputs]``, float64.
        :param latents: of the same draws, broadcastable with f as in :meth:`distribution`.
        :raises ConfigurationError: where there is no :meth:`cdf`.
        """
        member = self.distribution(f, latents)
        spread = member.variance.mean(0) + member.mean.var(0, correction=0)
        try:
            return mixture_quantile(
                probability,
                lambda y: self.cdf(y, f, latents).mean(0),
                member.mean.mean(0),
                spread.sqrt(),
                whole=member.support is not None and member.support.is_discrete,
            )
        except NotImplementedError as error:
            raise ConfigurationError(
                f"quantiles: {type(self).__name__} has no distribution function, by which they are found. Give it"
                " cdf(self, y, f, latents), P(Y <= y) of each target."
            ) from error

    def observe(
        self, f: Tensor, y: Tensor | None, num_data: int | None = None, prefix: str = ""
    ) -> None:
        """Sample the latents, and sample or observe site ``obs`` in plate ``data``.

        :param f: the network's output, ``[..., N, num_outputs]``.
        :param y: targets to condition on, ``[N]`` (``[N, K]`` for several); None samples them.
        :param num_data: rows of the whole data set, when f and y are a minibatch of it: the log-likelihood then counts
            ``num_data / N`` times, as the priors count once. Without it a minibatch is taken for all the data, and the
            posterior is as wide as if there were no more.
        :param prefix: what all these names begin with in this network.
        """
        latents = self.sample_latents(f, prefix)
        rows = f.shape[-2]
        times = 1.0 if num_data is None else num_data / rows
        with poutine.scale(scale=times), pyro.plate(f"{prefix}data", rows, dim=-1):
            if y is None:
                pyro.sample(f"{prefix}obs", self.distribution(f, latents))
                return
            f, target, weight = self.unpacked(f, self.as_target(y, f))
            with nullcontext() if weight is None else _counted(weight):
                pyro.sample(f"{prefix}obs", self.distribution(f, latents), obs=target)

    def unpacked(self, f: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Outputs, targets and weights of rows whose targets may come with columns of what is known beside them.

        Whoever scores targets by :meth:`distribution` comes through here.

        :param f: the network's output, ``[..., N, num_outputs]``.
        :param y: targets as :meth:`as_target` gives them.
        :returns: f at these rows, which an exposure shifts; the targets that :meth:`distribution` scores; their weights
            ``[N]``, or None.
        """
        target, weight = self._apart(y)
        return f, target, weight

    def observed(self, y: Tensor, like: Tensor) -> Tensor:
        """Targets in any form, as :meth:`distribution` scores them, without columns beside them."""
        y = self.as_target(y, like)
        return self.unpacked(like.new_zeros(len(y), self.num_outputs), y)[1]

    @property
    def target_columns(self) -> int:
        """Columns of y beside the weights; with one, y is ``[N]``."""
        return 1

    def _apart(self, y: Tensor) -> tuple[Tensor, Tensor | None]:
        """Targets ``[N]`` (``[N, K]``), and their weights where y has that column."""
        if not self.weighted or y.ndim < 2 or y.shape[1] <= self.target_columns:
            return y, None
        target = y[:, :-1]
        return target.squeeze(1) if target.shape[1] == 1 else target, y[:, -1]

    def censored(self, y: Tensor) -> Tensor:
        """Which targets, as :meth:`distribution` scores them, only say that y is larger than their absolute value.

        None by default.
        """
        return torch.zeros_like(y, dtype=torch.bool)

    def as_target(self, y: Tensor, like: Tensor) -> Tensor:
        """Targets as the distribution scores them: numbers of the device and dtype of ``like``, from any dtype.

        Every entry of targets comes through here, so that 0 and 1 may be boolean and counts whole numbers. A likelihood
        of labels gives integers instead.
        """
        return y.to(like.device, like.dtype)

    def check_data(self, y: Tensor) -> None:
        """Raise :class:`DataError` unless y are targets to be fitted, with weights where :attr:`weighted` says so."""
        if self.weighted:
            columns = self.target_columns + 1
            if y.ndim != 2 or y.shape[1] != columns:
                raise DataError(
                    f"{type(self).__name__}: with weights y must be [N, {columns}], the weights last; got shape"
                    f" {list(y.shape)}. torch.column_stack([y, weights]) puts them together."
                )
            weight = y[:, -1]
            if not (weight.isfinite().all() and (weight >= 0).all() and weight.sum() > 0):
                raise DataError(
                    f"{type(self).__name__}: weights, the last column of y, must be finite, not negative, and not all"
                    " zero."
                )
            y = self._apart(y)[0]
        self.check_target(y)

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


@contextmanager
def _counted(weight: Tensor) -> Iterator[None]:
    """Rows count by their weights; Pyro takes weights of 0 as a mask only."""
    present: Any = weight > 0
    with poutine.mask(mask=present), poutine.scale(scale=torch.where(present, weight, 1.0)):
        yield
