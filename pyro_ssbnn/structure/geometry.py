"""How a kernel moves over an image: what a convolution's description, layer and pruned form all need to know."""

from __future__ import annotations

from dataclasses import dataclass

from pyro_ssbnn.errors import ConfigurationError

__all__ = ["ConvolutionGeometry"]


@dataclass(frozen=True)
class ConvolutionGeometry:
    """How a square kernel moves over an image.

    :param kernel_size: k, side of the kernel in pixels.
    :param stride: pixels from one output position to the next.
    :param padding: rows and columns of zeros around the image.
    :param dilation: pixels from one entry of the kernel to the next.
    :raises ConfigurationError: for values outside their domain.

    >>> ConvolutionGeometry(5).output_size(28, 28)
    (24, 24)
    """

    kernel_size: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    def __post_init__(self) -> None:
        smallest = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}
        for name, least in smallest.items():
            if getattr(self, name) < least:
                raise ConfigurationError(
                    f"convolution: {name} must be at least {least}; got {getattr(self, name)}."
                )

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output.

        :raises ConfigurationError: when the kernel is larger than the padded image.
        """
        reach = self.dilation * (self.kernel_size - 1)
        if min(height, width) + 2 * self.padding <= reach:
            raise ConfigurationError(
                f"convolution: a kernel that spans {reach + 1} pixels does not fit on a map of {height} x {width}"
                f" pixels with padding {self.padding}; give larger images, smaller kernels or more padding."
            )
        rows, columns = (
            (side + 2 * self.padding - reach - 1) // self.stride + 1 for side in (height, width)
        )
        return rows, columns
