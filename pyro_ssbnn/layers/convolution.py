r"""Convolutions of gated filters: the layer, its map as an effectful operation, the same map for many draws at once.

With :math:`h_c` the map of source channel c and :math:`u_{jc}` the kernel of filter j on it,

.. math:: f_j = z_j t_j \Big(b_j + \sum_c u_{jc} \star h_c\Big)

With batch norm, filters have no biases but the scale and shift of their normalised maps
(:mod:`pyro_ssbnn.layers.normalization`).

Draws of the weights are evaluated in one call of the convolution where they share the input: draw s is a block of
filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pyro.poutine.runtime import effectful
from torch import Tensor
from torch.nn.functional import conv2d

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.layers.group import GroupLayer
from pyro_ssbnn.layers.normalization import ChannelStatistics, batch_norm
from pyro_ssbnn.priors import Latents
from pyro_ssbnn.structure.geometry import ConvolutionGeometry
from pyro_ssbnn.structure.groups import NodeGroup

__all__ = [
    "ConvolutionGeometry",
    "GroupConv2d",
    "convolution",
    "convolve",
    "folded",
    "gated_convolution",
]


def convolve(
    x: Tensor, kernel: Tensor, bias: Tensor | None, geometry: ConvolutionGeometry
) -> Tensor:
    """Convolve images with one set of filters, or with those of S draws.

    Filters whose kernels have fewer channels than the maps read them in turn: the first ones the first channels, and so
    on, as in a convolution of C / c groups.

    :param x: ``[..., N, C, H, W]``, its leading dimensions broadcastable with the filters'.
    :param kernel: ``[..., size, c, k, k]``, c = C or a divisor of it.
    :param bias: ``[..., size]``, or None.
    :returns: ``[..., N, size, H', W']``, equal to a loop over draws up to rounding.
    """
    stride, padding, dilation = geometry.stride, geometry.padding, geometry.dilation
    groups = max(1, x.shape[-3] // max(1, kernel.shape[-3]))
    if kernel.ndim == 4:
        flat = conv2d(x.flatten(0, -4), kernel, bias, stride, padding, dilation, groups)
        return flat.unflatten(0, x.shape[:-3])
    draws = torch.broadcast_shapes(x.shape[:-4], kernel.shape[:-4])
    kernel = kernel.expand(*draws, *kernel.shape[-4:]).flatten(0, -5)  # [S, size, c, k, k]
    bias = None if bias is None else bias.expand(*draws, bias.shape[-1]).flatten(0, -2)
    if groups > 1:  # so many groups of channels more
        maps = x.expand(*draws, *x.shape[-4:]).flatten(0, -5).transpose(0, 1).flatten(1, 2)
        all_biases = None if bias is None else bias.flatten()
        all_groups = groups * len(kernel)
        filters = kernel.flatten(0, 1)
        out = conv2d(maps, filters, all_biases, stride, padding, dilation, all_groups)
        return out.unflatten(1, kernel.shape[:2]).transpose(0, 1).unflatten(0, draws)
    if x.ndim == 4:  # all filters of all draws on the same maps
        all_biases = None if bias is None else bias.flatten()
        out = conv2d(x, kernel.flatten(0, 1), all_biases, stride, padding, dilation)
        return out.unflatten(1, kernel.shape[:2]).transpose(0, 1).unflatten(0, draws)
    # Maps of their own: one call each. A grouped convolution of all of them takes three times as long on the CPU.
    maps = x.expand(*draws, *x.shape[-4:]).flatten(0, -5)
    biases = [None] * len(maps) if bias is None else bias
    each = [
        conv2d(m, k, b, stride, padding, dilation)
        for m, k, b in zip(maps, kernel, biases, strict=True)
    ]
    return torch.stack(each).unflatten(0, draws)


def folded(x: Tensor, image: Sequence[int]) -> Tensor:
    """Flattened images ``[..., N, C H W]`` as ``[..., N, C, H, W]``.

    In the layout in which what follows is quickest: channel beside channel on the CPU, and for rounded products on
    CUDA. All later maps then have it, too.
    """
    images = x.unflatten(-1, tuple(image))
    if images.ndim == 4 and _channels_last(x.device):
        return images.contiguous(memory_format=torch.channels_last)
    return images


def _channels_last(device: torch.device) -> bool:
    """Whether convolutions on a device are quicker channel beside channel, as tensor cores want it."""
    if device.type != "cuda":
        return device.type == "cpu"
    cudnn: Any = torch.backends.cudnn
    try:
        return torch.is_autocast_enabled("cuda") or bool(cudnn.allow_tf32)
    except RuntimeError:  # set by torch's newer names
        return bool(cudnn.conv.fp32_precision == "tf32")


@effectful(type="affine")
def convolution(x: Tensor, weight: Tensor, geometry: ConvolutionGeometry, own: int = 1) -> Tensor:
    """Pre-activations ``[..., N, size, H', W']`` of maps ``[..., N, C, H, W]``, weights ``[..., size, C k k + own]``.

    Columns run over the kernel of the first channel, row by row, then the second's, ...; the bias is the last where it
    is all that filters own (own = 1), otherwise the last columns are left to a batch norm. The same kind of effectful
    operation as :func:`~pyro_ssbnn.layers.affine`, so that handlers of one serve the other.
    """
    kernel = weight[..., :-own].unflatten(-1, (-1, *geometry.sides))
    return convolve(x, kernel, weight[..., -1] if own == 1 else None, geometry)


@effectful(type="gated_convolution")
def gated_convolution(
    x: Tensor, weight: Tensor, amplitude: Tensor, geometry: ConvolutionGeometry
) -> Tensor:
    """Convolution with the weights z t u: maps are larger than weights, so that weights are multiplied.

    An operation of its own, so that handlers may take it apart.

    :param weight: standardised weights u, ``[..., size, C k k + 1]``.
    :param amplitude: z t, ``[..., size]``.
    """
    return convolution(x, weight * amplitude.unsqueeze(-1), geometry)


class GroupConv2d(GroupLayer):
    """Convolution of gated filters; a filter owns its kernels on the channels it reads and its bias, or batch norm.

    :param group: ``size`` filters of ``fan_in`` = c k k weights, c = C, or fewer where they read the channels in turn
        (:class:`~pyro_ssbnn.structure.channels.ChannelGroup`); ``own`` = 2 where a batch norm follows.
    :param geometry: kernel size, stride, padding and dilation.
    :raises ConfigurationError: for a fan-in that holds no whole number of channels.
    """

    def __init__(self, group: NodeGroup, geometry: ConvolutionGeometry) -> None:
        super().__init__(group)
        pixels = geometry.pixels
        if group.fan_in % pixels:
            raise ConfigurationError(
                f"GroupConv2d {group.name!r}: fan_in must be channels times {pixels}, the entries of its kernel; got"
                f" {group.fan_in}."
            )
        self.geometry = geometry
        self.statistics = ChannelStatistics(group.size) if group.batch_normed else None

    def forward(self, x: Tensor, shared: Latents) -> Tensor:
        """Pre-activations ``[..., N, size, H', W']`` of maps ``[..., N, C, H, W]``."""
        amplitude, weight = self.sample_weights(shared, x)
        if self.statistics is not None:
            f = convolution(x, weight, self.geometry, self.group.own)
            return batch_norm(f, weight, amplitude, self.statistics)
        if amplitude is None:
            return convolution(x, weight, self.geometry)
        return gated_convolution(x, weight, amplitude, self.geometry)

    def fold(self, weight: Tensor, amplitude: Tensor | None) -> Tensor:
        """Effective weights, the running statistics folded in; see :meth:`GroupLayer.fold`."""
        if self.statistics is None:
            return super().fold(weight, amplitude)
        return self.statistics.fold(weight, amplitude)
