"""Group layers: where priors become sample sites and weights become activations."""

from pyro_ssbnn.geometry import ConvolutionGeometry
from pyro_ssbnn.layers.affine import LocalReparameterization, affine
from pyro_ssbnn.layers.convolution import (
    GroupConv2d,
    convolution,
    convolve,
    max_pool,
)
from pyro_ssbnn.layers.group import GroupLayer, GroupLinear, sample_gate
from pyro_ssbnn.layers.normalization import ChannelStatistics, batch_norm, scale_and_shift

__all__ = [
    "ChannelStatistics",
    "ConvolutionGeometry",
    "GroupConv2d",
    "GroupLayer",
    "GroupLinear",
    "LocalReparameterization",
    "affine",
    "batch_norm",
    "convolution",
    "convolve",
    "max_pool",
    "sample_gate",
    "scale_and_shift",
]
