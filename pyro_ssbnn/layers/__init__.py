"""Group layers: where priors become sample sites and weights become activations."""

from pyro_ssbnn.layers.affine import LocalReparameterization, affine
from pyro_ssbnn.layers.group import GroupLayer, GroupLinear, sample_gate

__all__ = ["GroupLayer", "GroupLinear", "LocalReparameterization", "affine", "sample_gate"]
