"""Times that may be censored on the right, as one signed number each."""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions.constraints import Constraint

__all__ = ["RightCensored"]


Shape: TypeAlias = Size | list[int] | tuple[int, ...]

_ONE = Size()


class _Signed(Constraint):
    """Finite numbers other than 0."""

    def check(self, value: Tensor) -> Tensor:
        return value.isfinite() & (value != 0)


class RightCensored(TorchDistribution):
    r"""Positive times; a value t > 0 is an event at t, a value -t says that nothing happened until t.

    .. math:: \log p(y) = \log p(t)\ (y = t),\qquad \log P(T > t)\ (y = -t).

    Samples, mean and variance are those of the times themselves: nothing censors them.

    :param times: a distribution of times, without event dimensions.
    :param log_density: function from t to log p(t).
    :param log_survival: function from t to log P(T > t), accurate where that is small.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = _Signed()

    def __init__(self, times: TorchDistribution, log_density: Any, log_survival: Any) -> None:
        self.times, self.log_density, self.log_survival = times, log_density, log_survival
        super().__init__(times.batch_shape, validate_args=False)

    def expand(self, batch_shape: Shape, _instance: Any = None) -> RightCensored:
        """The same, of a larger batch."""
        return RightCensored(self.times.expand(batch_shape), self.log_density, self.log_survival)

    def sample(self, sample_shape: Shape = _ONE) -> Tensor:
        """Times, ``[*sample_shape, *batch_shape]``."""
        return self.times.sample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of events, log probability of surviving censored times."""
        time = value.abs()
        return torch.where(value > 0, self.log_density(time), self.log_survival(time))

    def cdf(self, value: Tensor) -> Tensor:
        """P(T <= value), 0 for negative values."""
        return torch.where(value > 0, -torch.expm1(self.log_survival(value.abs())), 0.0)

    @property
    def mean(self) -> Tensor:
        """Mean time."""
        return self.times.mean

    @property
    def variance(self) -> Tensor:
        """Variance of the time."""
        return self.times.variance
