"""Group layers: where priors become sample sites and weights become activations."""

from pyro_ssbnn.layers.affine import affine
from pyro_ssbnn.layers.convolution import (
    GroupConv2d,
    convolution,
    convolve,
    folded,
    gated_convolution,
)
from pyro_ssbnn.layers.group import GroupLayer, GroupLinear, row_plate, sample_gate
from pyro_ssbnn.layers.linear_terms import LinearTerms, linear_terms
from pyro_ssbnn.layers.local_reparameterization import LocalReparameterization
from pyro_ssbnn.layers.normalization import ChannelStatistics, batch_norm, scale_and_shift
from pyro_ssbnn.layers.pooling import FusiblePooling, max_pool
from pyro_ssbnn.structure.geometry import ConvolutionGeometry

__all__ = [
    "ChannelStatistics",
    "ConvolutionGeometry",
    "FusiblePooling",
    "GroupConv2d",
    "GroupLayer",
    "GroupLinear",
    "LinearTerms",
    "LocalReparameterization",
    "affine",
    "batch_norm",
    "convolution",
    "convolve",
    "folded",
    "gated_convolution",
    "linear_terms",
    "max_pool",
    "row_plate",
    "sample_gate",
    "scale_and_shift",
]
