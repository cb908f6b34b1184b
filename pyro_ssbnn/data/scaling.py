"""Scaling of pixels and of the target, learnt from the training data alone and undone on predictions.

In regression the model sees ``y' = (g(y) - loc) / scale``, with g the identity unless one is asked for
(:mod:`~pyro_ssbnn.data.transforms`). Own units are computed with in double precision; only a run
rounds the scaled values to its own.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from pyro_ssbnn.data.dataset import Dataset, Task
from pyro_ssbnn.data.transforms import Transform
from pyro_ssbnn.data.wording import listed
from pyro_ssbnn.errors import DataError


@dataclass(frozen=True)
class PixelScaling:
    """Every pixel divided by the same factor, ``x' = x / factor``, so that zero stays zero.

    Border pixels that never change are normal, and pixels share a unit.

    :param factor: positive divisor.
    :raises DataError: a factor that is not positive and finite.
    """

    factor: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and self.factor > 0):
            raise DataError(
                f"PixelScaling: expected a positive, finite factor to divide by, got {self.factor}; 255 brings bytes to"
                " the interval from 0 to 1."
            )

    @classmethod
    def fit(cls, dataset: Dataset) -> "PixelScaling":
        """Learn the root mean square of all pixels, which gives inputs of mean square one, as standardised columns
        have.

        :raises DataError: images that are zero throughout.
        """
        # In pieces: a copy of all images in double precision may not fit in memory.
        squares = sum(float(part.double().square().sum()) for part in dataset.x.split(2048))
        factor = math.sqrt(squares / dataset.x.numel())
        if factor == 0.0:
            raise DataError(
                "PixelScaling.fit: every pixel of every image is zero; check the file the images were read from."
            )
        return cls(factor)

    def encode(self, x: Tensor) -> Tensor:
        """Scale ``x [..., p]``; dtype and device of ``x`` are kept."""
        return x / self.factor

    def to_dict(self) -> dict[str, Any]:
        """Give floats that JSON keeps exactly."""
        return {"factor": self.factor}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "PixelScaling":
        """Rebuild from ``to_dict``; DataError when an entry is missing."""
        return cls(float(entries(stored, "PixelScaling", "factor")[0]))


@dataclass(frozen=True)
class TargetScaling:
    """Scaling of the target, ``y' = (g(y) - loc) / scale``; the identity unless regression.

    A density follows by the change of variable: ``log p(y) = log p'(y') + log_slope(y)``.

    :param loc: mean of g of the training target.
    :param scale: standard deviation (divisor N) of g of the training target.
    :param map: g.

    >>> scaling = TargetScaling(loc=10.0, scale=2.0)
    >>> scaling.inverse(scaling.transform(torch.tensor([14.0])))
    tensor([14.], dtype=torch.float64)
    """

    loc: float = 0.0
    scale: float = 1.0
    map: Transform = field(default_factory=Transform)

    def __post_init__(self) -> None:
        finite = math.isfinite(self.loc) and math.isfinite(self.scale)
        if not (finite and self.scale > 0):
            raise DataError(
                f"TargetScaling: expected finite loc and positive, finite scale, got "
                f"loc={self.loc}, scale={self.scale}."
            )

    @classmethod
    def fit(
        cls, y: Tensor, task: Task, name: str = "y", transform: str = "none"
    ) -> "TargetScaling":
        """Standardise a regression target; leave labels and counts as they are.

        :param y: ``[N]`` targets in their own units.
        :param name: of the target, for the message.
        :param transform: one of ``TRANSFORMS``, of a regression target.
        :raises DataError: a constant regression target, one that cannot be transformed.
        """
        if task != "regression":
            if transform != "none":
                raise DataError(
                    f"target {name!r}: only measurements are transformed; the task here is {task}."
                )
            return cls.identity()
        y = y.to(torch.float64)
        low, high = float(y.min()), float(y.max())
        if high - low <= 8 * torch.finfo(torch.float64).eps * max(abs(low), abs(high)):
            raise DataError(
                f"target {name!r} is constant, it equals {float(y[0]):g} in all {len(y)} rows: there is nothing to"
                " predict. Choose another target or other rows."
            )
        mapped = Transform.fit(transform, y, name)
        y = mapped(y)
        return cls(float(y.mean()), float(y.std(correction=0)), mapped)

    @classmethod
    def identity(cls) -> "TargetScaling":
        """Leave the target as it is."""
        return cls(0.0, 1.0)

    @property
    def is_identity(self) -> bool:
        """Whether targets pass unchanged."""
        return self.loc == 0.0 and self.scale == 1.0 and self.map.is_identity

    def log_slope(self, y: Tensor) -> Tensor:
        """``log |dy'/dy|`` at targets in own units: add it to a log density of ``y'`` to get the one of ``y``."""
        return self.map.log_slope(y) - math.log(self.scale)

    def transform(self, y: Tensor) -> Tensor:
        """Scale targets of any shape, dtype kept; labels and counts pass unchanged."""
        if self.is_identity:
            return y
        loc, scale = torch.tensor([self.loc, self.scale], dtype=torch.float64)
        return _standardised(self.map(y), loc, scale)

    def inverse(self, values: Tensor) -> Tensor:
        """Bring quantiles or draws of any shape back to the target's units; means, too, where g is the identity.

        In float64, since a target such as 1e8 +- 10 has no room in single precision; as they are
        where the target was not scaled.
        """
        if self.is_identity:
            return values
        return self.map.inverse(_double(values) * self.scale + self.loc)

    def to_dict(self) -> dict[str, Any]:
        """Give floats that JSON keeps exactly."""
        affine: dict[str, Any] = {"loc": self.loc, "scale": self.scale}
        return affine if self.map.is_identity else {**affine, "map": asdict(self.map)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "TargetScaling":
        """Rebuild from ``to_dict``; DataError when an entry is missing."""
        loc, scale = entries(stored, "TargetScaling", "loc", "scale")
        given = stored.get("map", {})
        return cls(float(loc), float(scale), Transform(**given))


def _standardised(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """``(x - loc) / scale`` in the dtype and on the device of ``x``, as exact as that dtype allows.

    ``loc`` may have more digits than the dtype of ``x``; what rounding takes off is subtracted in a second step.
    """
    high = loc.to(x.dtype)
    low = (loc - high.to(loc)).to(x.dtype)
    return (x - high.to(x.device) - low.to(x.device)) / scale.to(x)


def _double(values: Tensor) -> Tensor:
    """In double precision; on the CPU where the device has none."""
    return values.to("cpu" if values.is_mps else values.device, torch.float64)


def entries(stored: Mapping[str, Any], where: str, *keys: str) -> list[Any]:
    """Take ``keys`` from a stored dictionary; DataError naming the keys that are missing."""
    missing = [key for key in keys if key not in stored]
    if missing:
        raise DataError(
            f"{where}.from_dict: expected the entries {listed(keys)} written by "
            f"to_dict, but {listed(missing)} are missing."
        )
    return [stored[key] for key in keys]
