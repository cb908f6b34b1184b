"""Scaling of features and target, learnt from the training data alone and undone on predictions.

The model sees ``x' = (x - loc) / scale`` and, in regression, ``y' = (y - loc) / scale``. Own units are computed with in
double precision; only a run rounds the scaled values to its own.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_ssbnn.data.dataset import Dataset
from pyro_ssbnn.data.wording import column, listed
from pyro_ssbnn.errors import DataError


@dataclass(frozen=True, eq=False)
class FeatureScaling:
    """Affine scaling of each feature, ``x' = (x - loc) / scale``.

    :param loc: ``[p]``, subtracted; in the units of the features. Kept in float64.
    :param scale: ``[p]``, positive, divided by (a standard deviation, never a variance). Kept in float64.
    :raises DataError: shapes that differ, values that are not finite, a scale that is not positive.
    """

    loc: Tensor
    scale: Tensor

    def __post_init__(self) -> None:
        if self.loc.ndim != 1 or self.loc.shape != self.scale.shape or not len(self.loc):
            raise DataError(
                f"FeatureScaling: expected loc and scale of shape [p], got "
                f"{list(self.loc.shape)} and {list(self.scale.shape)}."
            )
        finite = bool(self.loc.isfinite().all()) and bool(self.scale.isfinite().all())
        if not finite or bool((self.scale <= 0).any()):
            raise DataError("FeatureScaling: expected finite loc and finite, positive scale.")
        object.__setattr__(self, "loc", self.loc.to(torch.float64))
        object.__setattr__(self, "scale", self.scale.to(torch.float64))

    @classmethod
    def standardize(cls, dataset: Dataset) -> "FeatureScaling":
        """Learn the mean and the standard deviation (divisor N) of each column.

        Images get one factor for all pixels instead (see ``pixels``): border pixels that never
        change are normal there, and the pixels share a unit.

        :raises DataError: a table with constant columns, all named.
        """
        if dataset.image_shape is not None:
            return cls.pixels(dataset)
        names = dataset.feature_names
        x = dataset.x.to(torch.float64)
        scale = x.std(0, correction=0)
        low, high = x.aminmax(dim=0)
        # Differences in the last places are rounding: of 0.3 and 0.1 + 0.2, say.
        rounding = 8 * torch.finfo(torch.float64).eps * torch.maximum(low.abs(), high.abs())
        constant = (high - low <= rounding) | (scale <= torch.finfo(torch.float32).tiny)
        if bool(constant.any()):
            which = [int(i) for i in constant.nonzero().flatten()]
            described = ", ".join(column(names, i) for i in which[:10])
            more = f" and {len(which) - 10} more" if len(which) > 10 else ""
            verb, them = ("is", "it") if len(which) == 1 else ("are", "them")
            raise DataError(
                f"FeatureScaling.standardize: {described}{more} {verb} constant over the "
                f"{len(dataset)} rows (or changes by rounding alone), which tells the model nothing "
                f"and cannot be scaled: drop {them}."
            )
        return cls(x.mean(0), scale)

    @classmethod
    def pixels(cls, dataset: Dataset, factor: float | None = None) -> "FeatureScaling":
        """Divide every pixel by the same factor, ``x' = x / factor``, so that zero stays zero.

        :param dataset: images.
        :param factor: positive divisor; None takes the root mean square of all pixels, which gives inputs of mean
            square one, as standardised columns have.
        :raises DataError: a factor that is not positive and finite, or images that are zero throughout.
        """
        if factor is None:
            # In pieces: a copy of all images in double precision may not fit in memory.
            squares = sum(float(part.double().square().sum()) for part in dataset.x.split(2048))
            factor = math.sqrt(squares / dataset.x.numel())
            if factor == 0.0:
                raise DataError(
                    "FeatureScaling.pixels: every pixel of every image is zero; check "
                    "the file the images were read from."
                )
        if not (math.isfinite(factor) and factor > 0):
            raise DataError(
                f"FeatureScaling.pixels: expected a positive, finite factor to divide "
                f"by, got {factor}; 255 brings bytes to the interval from 0 to 1."
            )
        p = dataset.num_features
        return cls(torch.zeros(p), torch.full((p,), float(factor)))

    @classmethod
    def identity(cls, p: int) -> "FeatureScaling":
        """Leave ``p`` features as they are."""
        return cls(torch.zeros(p), torch.ones(p))

    def transform(self, x: Tensor) -> Tensor:
        """Scale ``x [..., p]``; dtype and device of ``x`` are kept.

        :raises DataError: a last dimension that is not p.
        """
        if x.ndim < 1 or x.shape[-1] != len(self.loc):
            raise DataError(
                f"FeatureScaling.transform: expected x of shape [..., {len(self.loc)}],"
                f" got {list(x.shape)}."
            )
        return _standardised(x, self.loc, self.scale)

    def to_dict(self) -> dict[str, Any]:
        """Give lists of floats that JSON keeps exactly."""
        return {"loc": self.loc.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "FeatureScaling":
        """Rebuild from ``to_dict``; DataError when an entry is missing."""
        loc, scale = entries(stored, "FeatureScaling", "loc", "scale")
        return cls(torch.tensor(loc, dtype=torch.float64), torch.tensor(scale, dtype=torch.float64))


@dataclass(frozen=True)
class TargetScaling:
    """Affine scaling of the target, ``y' = (y - loc) / scale``; the identity unless regression.

    A density follows by the change of variable: ``log p(y) = log p'(y') - log_scale``.

    :param loc: mean of the training target, in its own units.
    :param scale: standard deviation (divisor N) of the training target, in its own units.

    >>> scaling = TargetScaling(loc=10.0, scale=2.0)
    >>> scaling.inverse(scaling.transform(torch.tensor([14.0])))
    tensor([14.], dtype=torch.float64)
    """

    loc: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        finite = math.isfinite(self.loc) and math.isfinite(self.scale)
        if not (finite and self.scale > 0):
            raise DataError(
                f"TargetScaling: expected finite loc and positive, finite scale, got "
                f"loc={self.loc}, scale={self.scale}."
            )

    @classmethod
    def fit(cls, dataset: Dataset) -> "TargetScaling":
        """Standardise a regression target; leave labels and counts as they are.

        :raises DataError: a constant regression target.
        """
        if dataset.task != "regression":
            return cls.identity()
        y = dataset.y.to(torch.float64)
        low, high = float(y.min()), float(y.max())
        if high - low <= 8 * torch.finfo(torch.float64).eps * max(abs(low), abs(high)):
            raise DataError(
                f"TargetScaling.fit: the target {dataset.target_name!r} is constant, it equals "
                f"{float(y[0]):g} in all {len(dataset)} rows: there is nothing to predict. Choose "
                f"another target or other rows."
            )
        return cls(float(y.mean()), float(y.std(correction=0)))

    @classmethod
    def identity(cls) -> "TargetScaling":
        """Leave the target as it is."""
        return cls(0.0, 1.0)

    @property
    def is_identity(self) -> bool:
        """Whether targets pass unchanged."""
        return self.loc == 0.0 and self.scale == 1.0

    @property
    def log_scale(self) -> float:
        """``log(scale)``: subtract it from a log density of ``y'`` to get the one of ``y``."""
        return math.log(self.scale)

    def transform(self, y: Tensor) -> Tensor:
        """Scale targets of any shape, dtype kept; labels and counts pass unchanged."""
        if self.is_identity:
            return y
        loc, scale = torch.tensor([self.loc, self.scale], dtype=torch.float64)
        return _standardised(y, loc, scale)

    def inverse(self, mean: Tensor) -> Tensor:
        """Bring predicted means, quantiles or draws of any shape back to the target's units.

        In float64, since a target such as 1e8 +- 10 has no room in single precision; as they are
        where the target was not scaled.
        """
        return mean if self.is_identity else _double(mean) * self.scale + self.loc

    def inverse_scale(self, standard_deviation: Tensor) -> Tensor:
        """Bring standard deviations (not variances) back to the target's units, in float64."""
        return standard_deviation if self.is_identity else _double(standard_deviation) * self.scale

    def to_dict(self) -> dict[str, float]:
        """Give floats that JSON keeps exactly."""
        return {"loc": self.loc, "scale": self.scale}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "TargetScaling":
        """Rebuild from ``to_dict``; DataError when an entry is missing."""
        loc, scale = entries(stored, "TargetScaling", "loc", "scale")
        return cls(float(loc), float(scale))


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
