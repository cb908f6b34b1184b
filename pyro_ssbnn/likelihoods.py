r"""Likelihoods: from the network's output f, ``[..., N, num_outputs]``, to the distribution of the targets.

========================= ======================================= =======================
class                     y given f                               latents
========================= ======================================= =======================
:class:`GaussianLikelihood`    Normal(f, sigma)                   ``noise.variance`` or none
:class:`CategoricalLikelihood` Categorical(softmax f)             none
:class:`BernoulliLikelihood`   Bernoulli(sigmoid f)               none
:class:`PoissonLikelihood`     Poisson(exp f)                     none
========================= ======================================= =======================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import pyro
import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.priors.base import check_positive

__all__ = [
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "GaussianLikelihood",
    "Likelihood",
    "PoissonLikelihood",
    "likelihood_from_config",
]


@dataclass(frozen=True)
class Likelihood(ABC):
    """Distribution of the targets given the network's output."""

    name: ClassVar[str]

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

    def observe(self, f: Tensor, y: Tensor | None, num_data: int | None) -> None:
        """Sample or observe site ``obs`` in plate ``data``, scaled from the minibatch to ``num_data`` rows."""
        latents = self.sample_latents(f)
        rows = f.shape[-2]
        weight = 1.0 if num_data is None else num_data / rows
        with poutine.scale(scale=weight), pyro.plate("data", rows, dim=-1):
            pyro.sample("obs", self.distribution(f, latents), obs=y)

    def check_target(self, y: Tensor) -> None:
        """Raise :class:`DataError` unless y is a target of this likelihood (finite, right shape and values)."""
        if y.ndim != 1:
            raise DataError(f"{type(self).__name__}: y must be [N]; got shape {list(y.shape)}.")
        if not torch.isfinite(y).all():
            raise DataError(
                f"{type(self).__name__}: y has missing or infinite values; remove those rows."
            )

    def to_config(self) -> dict[str, Any]:
        """Plain record for :func:`likelihood_from_config`."""
        return {"name": self.name, **asdict(self)}


@dataclass(frozen=True)
class GaussianLikelihood(Likelihood):
    r"""Normal targets; the noise variance is known, or has an InverseGamma prior and its own posterior.

    :param scale: known noise standard deviation, or None to infer ``noise.variance``.
    :param num_targets: K; y is ``[N]`` for K = 1 and ``[N, K]`` (one noise variance a target) otherwise.
    :param concentration: shape of the InverseGamma prior of the variance.
    :param rate: its rate (variance units of y); the weak default suits standardised targets.
    """

    scale: float | None = None
    num_targets: int = 1
    concentration: float = 1.0
    rate: float = 1e-3
    name = "gaussian"

    def __post_init__(self) -> None:
        positive = {"concentration": self.concentration, "rate": self.rate}
        if self.scale is not None:
            positive["scale"] = self.scale
        check_positive("GaussianLikelihood", num_targets=self.num_targets, **positive)

    @property
    def num_outputs(self) -> int:
        """One column a target."""
        return self.num_targets

    def sample_latents(self, like: Tensor) -> dict[str, Tensor]:
        """Sample ``noise.variance``, a scalar, or ``[K]`` for several targets, unless the scale is known."""
        if self.scale is not None:
            return {}
        prior = dist.InverseGamma(
            like.new_full((), self.concentration), like.new_full((), self.rate)
        )
        if self.num_targets > 1:
            prior = prior.expand([self.num_targets]).to_event(1)
        return {"noise.variance": pyro.sample("noise.variance", prior)}

    def distribution(self, f: Tensor, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Normal around f."""
        known = None if self.scale is None else f.new_full((), self.scale)
        scale = latents["noise.variance"].sqrt() if known is None else known
        if self.num_targets > 1:
            return dist.Normal(f, scale).to_event(1)
        return dist.Normal(f.squeeze(-1), scale)

    def mean(self, f: Tensor) -> Tensor:
        """F itself, without the last dimension for one target."""
        return f.squeeze(-1) if self.num_targets == 1 else f

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


@dataclass(frozen=True)
class CategoricalLikelihood(Likelihood):
    """Class labels 0..K-1 with softmax probabilities.

    :param num_classes: K, at least 2.
    """

    num_classes: int
    name = "categorical"

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ConfigurationError(
                f"CategoricalLikelihood: num_classes must be at least 2; got {self.num_classes}."
            )

    @property
    def num_outputs(self) -> int:
        """One logit a class."""
        return self.num_classes

    def distribution(self, f: Tensor, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Categorical with logits f."""
        return dist.Categorical(logits=f)

    def mean(self, f: Tensor) -> Tensor:
        """Class probabilities, ``[..., N, K]``."""
        return f.softmax(-1)

    def check_target(self, y: Tensor) -> None:
        """Integer labels 0..K-1 with at least two classes present."""
        super().check_target(y)
        if y.dtype.is_floating_point:
            raise DataError(
                f"CategoricalLikelihood: y holds class labels, an integer tensor; got {y.dtype}. Use y.long()."
            )
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= self.num_classes:
            raise DataError(
                f"CategoricalLikelihood: labels must be 0..{self.num_classes - 1}; found {low}..{high}."
                + (" Labels that start at one: pass y - 1." if low == 1 else "")
            )
        if low == high:
            raise DataError(f"CategoricalLikelihood: all labels are {low}; two classes are needed.")


@dataclass(frozen=True)
class BernoulliLikelihood(Likelihood):
    """Binary targets 0.0 and 1.0 with logistic probabilities."""

    name = "bernoulli"

    def distribution(self, f: Tensor, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Bernoulli with logit f."""
        return dist.Bernoulli(logits=f.squeeze(-1))

    def mean(self, f: Tensor) -> Tensor:
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


@dataclass(frozen=True)
class PoissonLikelihood(Likelihood):
    """Counts with rate exp(f)."""

    name = "poisson"

    def distribution(self, f: Tensor, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Poisson with log-rate f."""
        return dist.Poisson(f.squeeze(-1).exp())

    def mean(self, f: Tensor) -> Tensor:
        """The rate, ``[..., N]``."""
        return f.squeeze(-1).exp()

    def check_target(self, y: Tensor) -> None:
        """Non-negative whole numbers."""
        super().check_target(y)
        if (y < 0).any() or (y != y.round()).any():
            raise DataError("PoissonLikelihood: y must hold counts 0, 1, 2, ...; got other values.")


def likelihood_from_config(config: Mapping[str, Any]) -> Likelihood:
    """Make a likelihood from :meth:`Likelihood.to_config`'s record.

    :raises ConfigurationError: for an unknown name or unknown options.
    """
    classes = {cls.name: cls for cls in Likelihood.__subclasses__()}
    options = dict(config)
    name = options.pop("name", None)
    if name not in classes:
        raise ConfigurationError(f"likelihood: expected one of {sorted(classes)}; got {name!r}.")
    try:
        return classes[name](**options)
    except TypeError as error:
        raise ConfigurationError(f"likelihood {name!r}: {error}") from error
