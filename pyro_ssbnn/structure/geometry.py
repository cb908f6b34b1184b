"""How a kernel moves over an image: what a convolution's description, layer and pruned form all need to know."""

from __future__ import annotations

from dataclasses import dataclass

from pyro_ssbnn.errors import ConfigurationError

__all__ = ["ConvolutionGeometry"]

Sides = int | tuple[int, int]
"""One number for rows and columns alike, or one for each."""


@dataclass(frozen=True)
class ConvolutionGeometry:
    """How a kernel moves over an image; one number for rows and columns, or a pair of them.

    :param kernel_size: k, side of the kernel in pixels.
    :param stride: pixels from one output position to the next.
    :param padding: rows and columns of zeros around the image.
    :param dilation: pixels from one entry of the kernel to the next.
    :raises ConfigurationError: for values outside their domain.

    >>> ConvolutionGeometry(5).output_size(28, 28)
    (24, 24)
    >>> ConvolutionGeometry((1, 7), padding=(0, 3)).output_size(28, 28)
    (28, 28)
    """

    kernel_size: Sides
    stride: Sides = 1
    padding: Sides = 0
    dilation: Sides = 1

    def __post_init__(self) -> None:
        smallest = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}
        for name, least in smallest.items():
            rows, columns = _pair(getattr(self, name))
            if min(rows, columns) < least:
                raise ConfigurationError(
                    f"convolution: {name} must be at least {least}; got {getattr(self, name)}."
                )
            # Said in one way only.
            object.__setattr__(self, name, rows if rows == columns else (rows, columns))

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns of the kernel."""
        return _pair(self.kernel_size)

    @property
    def pixels(self) -> int:
        """Entries of the kernel on one channel."""
        rows, columns = self.sides
        return rows * columns

    @property
    def zero_padded(self) -> bool:
        """Whether some positions read zeros around the image."""
        return max(_pair(self.padding)) > 0

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output.

        :raises ConfigurationError: when the kernel is larger than the padded image.
        """
        padding, dilation, stride = map(_pair, (self.padding, self.dilation, self.stride))
        reach = [d * (k - 1) for d, k in zip(dilation, self.sides, strict=True)]
        if any(
            side + 2 * p <= r for side, p, r in zip((height, width), padding, reach, strict=True)
        ):
            spans = " x ".join(str(r + 1) for r in dict.fromkeys(reach))
            raise ConfigurationError(
                f"convolution: a kernel that spans {spans} pixels does not fit on a map of {height} x {width}"
                f" pixels with padding {self.padding}; give larger images, smaller kernels or more padding."
            )
        rows, columns = (
            (side + 2 * p - r - 1) // s + 1
            for side, p, r, s in zip((height, width), padding, reach, stride, strict=True)
        )
        return rows, columns


def _pair(value: Sides) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    rows, columns = value
    return rows, columns
