r"""Monotone maps of a target that is far from Normal: logarithm, and Yeo and Johnson's (2000) power.

.. math:: g(y) = \frac{(1 + y)^\lambda - 1}{\lambda}\ (y \ge 0),\qquad
          g(y) = -\frac{(1 - y)^{2 - \lambda} - 1}{2 - \lambda}\ (y < 0),

logarithms where an exponent is 0. Powers stay in [0, 2], where every number is the image of one: otherwise some
predictions would have no value in the target's own units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError, DataError

__all__ = ["TRANSFORMS", "Transform"]

TRANSFORMS = ("none", "log", "yeo-johnson")

_LARGEST = 300.0  # exponent whose exponential has a finite square


@dataclass(frozen=True)
class Transform:
    """A map g of the target.

    :param name: one of ``TRANSFORMS``.
    :param power: of Yeo and Johnson's map, 0 to 2; 1 is the identity.
    :raises ConfigurationError: for another name or power.

    >>> y = torch.tensor([-3.0, 0.0, 20.0])
    >>> g = Transform("yeo-johnson", 0.3)
    >>> bool(torch.allclose(g.inverse(g(y)), y.double()))
    True
    """

    name: str = "none"
    power: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in TRANSFORMS or not 0 <= self.power <= 2:
            raise ConfigurationError(
                f"transform_target: expected one of {', '.join(TRANSFORMS)}, with a power from 0 to 2; got"
                f" {self.name!r}, {self.power!r}."
            )

    @classmethod
    def fit(cls, name: str, y: Tensor, label: str = "y") -> Transform:
        """Learn the power from the training rows, by maximum likelihood of a Normal.

        :param y: ``[N]`` targets in their own units.
        :param label: of the target, for the message.
        :raises DataError: for logarithms of targets that are not positive.
        """
        if name == "log" and not bool((y > 0).all()):
            raise DataError(
                f"target {label!r} has values that are not positive, such as {float(y.min()):g}, which have no"
                " logarithm. Take yeo-johnson."
            )
        if name != "yeo-johnson":
            return cls(name)
        from scipy.optimize import minimize_scalar
        from scipy.stats import yeojohnson_llf

        values = y.double().numpy()
        found = minimize_scalar(
            lambda power: -yeojohnson_llf(power, values), bounds=(0.0, 2.0), method="bounded"
        )
        return cls(name, float(np.clip(found.x, 0.0, 2.0)))

    @property
    def is_identity(self) -> bool:
        """Whether targets pass unchanged."""
        return self.name == "none"

    def __call__(self, y: Tensor) -> Tensor:
        """Values of g, in double precision."""
        if self.is_identity:
            return y
        y = y.double()
        if self.name == "log":
            return y.log()
        upper, lower = _power(y.clamp_min(0), self.power), _power(-y.clamp_max(0), 2 - self.power)
        return torch.where(y >= 0, upper, -lower)

    def inverse(self, values: Tensor) -> Tensor:
        """The y of these values of g; finite, however far from the data."""
        if self.is_identity:
            return values
        values = values.double()
        if self.name == "log":
            return values.clamp_max(_LARGEST).exp()
        upper = _root(values.clamp_min(0), self.power)
        lower = _root(-values.clamp_max(0), 2 - self.power)
        return torch.where(values >= 0, upper, -lower)

    def log_slope(self, y: Tensor) -> Tensor:
        """``log g'(y)``, what a log density of g(y) gains as one of y."""
        y = y.double()
        if self.is_identity:
            return torch.zeros_like(y)
        if self.name == "log":
            return -y.log()
        return y.sign() * (self.power - 1) * y.abs().log1p()


def _power(size: Tensor, power: float) -> Tensor:
    return torch.expm1(power * size.log1p()) / power if power else size.log1p()


def _root(values: Tensor, power: float) -> Tensor:
    exponent = (power * values).log1p() / power if power else values
    return torch.expm1(exponent.clamp_max(_LARGEST))
