r"""Augmentation of image minibatches: a random crop after zero padding, horizontal flip, random erasing.

All images of a minibatch are changed at once, each in its own way, where they lie: nothing is copied to another device
and nothing waits for it. Every pixel of the result is one of the image, or zero: crop and flip are one gather.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.registry import register

__all__ = ["ImageAugmentation"]


@register("image")
@dataclass(frozen=True)
class ImageAugmentation:
    """Random crop, flip and erasing of flattened images, ``[N, C * H * W]``, for ``fit(..., augment=...)``.

    The defaults are those usual for CIFAR. Padding and erasing write zeros: after standardisation the mean, before it
    black.

    :param image_shape: channels, height and width (C, H, W); pixels come channel by channel and row by row.
    :param padding: pixels of zeros on every side, of which a window of the image's own size is cut at an offset that is
        uniform on 0..2 padding in both directions; 0 for no crop.
    :param flip: probability that an image is mirrored left to right.
    :param erase: probability that a rectangle of it is erased, at a uniform place (Zhong et al. 2020).
    :param erase_area: least and largest share of the image that is erased, uniform in between.
    :param erase_aspect: least and largest height over width of the rectangle, log-uniform in between. Sides are rounded
        to pixels, and cut to the image's.
    :raises ConfigurationError: for values outside their domain.

    >>> ImageAugmentation((1, 2, 2), padding=0, flip=1.0)(torch.arange(4.0).reshape(1, 4))
    tensor([[1., 0., 3., 2.]])
    """

    family: ClassVar[str] = "augmentation"
    image_shape: Sequence[int]
    padding: int = 4
    flip: float = 0.5
    erase: float = 0.0
    erase_area: tuple[float, float] = (0.02, 0.33)
    erase_aspect: tuple[float, float] = (0.3, 3.3)

    def __post_init__(self) -> None:
        for name in ("image_shape", "erase_area", "erase_aspect"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        shape, area, aspect = self.image_shape, self.erase_area, self.erase_aspect
        triple = len(shape) == 3 and min(shape) >= 1
        self._require("image_shape", triple, "three positive numbers (channels, height, width)")
        self._require("padding", self.padding >= 0, "at least 0")
        for name in ("flip", "erase"):
            self._require(name, 0 <= getattr(self, name) <= 1, "a probability")
        rising = len(area) == 2 and 0 < area[0] <= area[1] <= 1
        self._require("erase_area", rising, "two rising shares within (0, 1]")
        rising = len(aspect) == 2 and 0 < aspect[0] <= aspect[1]
        self._require("erase_aspect", rising, "two rising positive ratios")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ConfigurationError(
                f"ImageAugmentation: {name} must be {expected}; got {getattr(self, name)!r}."
            )

    def __call__(self, x: Tensor) -> Tensor:
        """Change a minibatch, ``[N, C * H * W]``, with random numbers of torch's own generator on its device.

        :raises DataError: for another number of pixels.
        """
        if x.ndim != 2 or x.shape[1] != math.prod(self.image_shape):
            raise DataError(
                f"ImageAugmentation: x must be [N, {math.prod(self.image_shape)}] for images of shape"
                f" {list(self.image_shape)}; got {list(x.shape)}."
            )
        channels, height, width = self.image_shape
        if self.padding or self.flip:
            pixels, inside = self._source(x)
            images = x.unflatten(1, (channels, height * width))
            images = images.gather(2, pixels.unsqueeze(1).expand(-1, channels, -1))
            x = (images * inside.unsqueeze(1)).flatten(1) if self.padding else images.flatten(1)
        if self.erase:
            kept = ~self._rectangles(x)
            x = (x.unflatten(1, (channels, -1)) * kept.flatten(1).unsqueeze(1)).flatten(1)
        return x

    def to_config(self) -> dict[str, Any]:
        """Plain record: ``ImageAugmentation(**record)`` makes it again."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def _source(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pixel that each pixel is taken from, and whether it lies in the image, both ``[N, H * W]``."""
        _, height, width = self.image_shape
        offsets = torch.randint(0, 2 * self.padding + 1, (2, len(x), 1), device=x.device)
        mirrored = torch.rand(len(x), 1, device=x.device) < self.flip
        rows = torch.arange(height, device=x.device) + offsets[0] - self.padding
        columns = torch.arange(width, device=x.device).expand(len(x), -1)
        columns = torch.where(mirrored, width - 1 - columns, columns) + offsets[1] - self.padding
        inside = _within(rows, height).unsqueeze(2) & _within(columns, width).unsqueeze(1)
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        pixels = rows.unsqueeze(2) * width + columns.unsqueeze(1)
        return pixels.flatten(1), inside.flatten(1)

    def _rectangles(self, x: Tensor) -> Tensor:
        """Whether a pixel is erased, ``[N, H, W]``."""
        _, height, width = self.image_shape
        chance, area, aspect, top, left = torch.rand(5, len(x), 1, device=x.device)
        least, most = self.erase_area
        size = (least + (most - least) * area) * height * width
        low, high = (math.log(ratio) for ratio in self.erase_aspect)
        ratio = (low + (high - low) * aspect).exp()
        tall = (size * ratio).sqrt().round().clamp(1, height)
        wide = (size / ratio).sqrt().round().clamp(1, width)
        rows = _span(top, tall, height) & (chance < self.erase)
        return rows.unsqueeze(2) & _span(left, wide, width).unsqueeze(1)


def _within(index: Tensor, size: int) -> Tensor:
    return (index >= 0) & (index < size)


def _span(place: Tensor, length: Tensor, size: int) -> Tensor:
    """Pixels of a span of so many at a uniform place, ``[N, size]``, from uniform numbers ``[N, 1]``."""
    first = (place * (size - length + 1)).floor()
    pixels = torch.arange(size, device=place.device)
    return (pixels >= first) & (pixels < first + length)
