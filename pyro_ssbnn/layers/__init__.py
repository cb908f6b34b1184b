"""Group layers: where priors become sample sites and weights become activations."""

from pyro_ssbnn.layers.affine import LocalReparameterization, affine
from pyro_ssbnn.layers.convolution import (
    ConvolutionGeometry,
    GroupConv2d,
    convolution,
    convolve,
    max_pool,
)
from pyro_ssbnn.layers.group import GroupLayer, GroupLinear, sample_gate

__all__ = [
    "ConvolutionGeometry",
    "GroupConv2d",
    "GroupLayer",
    "GroupLinear",
    "LocalReparameterization",
    "affine",
    "convolution",
    "convolve",
    "max_pool",
    "sample_gate",
]
