"""A layer of gated nodes: its sample sites, shared by every kind of layer, and the dense layer."""

from __future__ import annotations

import pyro
import torch
from pyro.nn import PyroModule
from torch import Tensor

from pyro_ssbnn.distributions import IsotropicNormal
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.layers.affine import affine
from pyro_ssbnn.priors import Latents
from pyro_ssbnn.structure.gates import GateGroup
from pyro_ssbnn.structure.groups import NodeGroup

__all__ = ["GroupLayer", "GroupLinear", "row_plate", "sample_gate"]


def sample_gate(group: GateGroup, like: Tensor) -> Tensor | None:
    """Sample ``{group}.gate`` from its prior, ``[size]``, inside the group's plate; None when ungated."""
    if not group.gated:
        return None
    return pyro.sample(group.gate_site, group.prior_gates(like))


def row_plate(group: NodeGroup, nodes: pyro.plate) -> pyro.plate:
    """Plate over the rows of a group's weights: that of its nodes, unless some own several rows."""
    if group.rows_path == group.path:
        return nodes
    return pyro.plate(group.rows_path, group.num_rows, dim=-1)


class GroupLayer(PyroModule):
    """Nodes that own their incoming weights and bias: w = z t u.

    Subclasses map inputs by the standardised weights u and multiply each node's pre-activation by its amplitude z
    t, which is the same map as with the weights w and costs less.
    """

    def __init__(self, group: NodeGroup) -> None:
        super().__init__()
        self.group = group

    def sample_weights(self, shared: Latents, like: Tensor) -> tuple[Tensor | None, Tensor]:
        """Sample gate, scales and weights in the group's plate.

        :param shared: values of the prior's network-wide latents.
        :param like: a tensor of the wanted dtype and device.
        :returns: amplitude z t, ``[..., size]`` (None for 1), and standardised weights, ``[..., size, group_size]``.
        """
        group = self.group
        if like.dtype == torch.bfloat16:  # a rounded map; latents are not rounded
            like = like.new_empty((), dtype=torch.float32)
        nodes = pyro.plate(group.path, group.size, dim=-1)
        with nodes:
            amplitude = sample_gate(group, like)
            local = group.prior.sample_local(group.path, group.prior_size, shared, like)
            slab_scale = group.prior.slab_scale(local, shared)
        with row_plate(group, nodes):
            prior = IsotropicNormal(like.new_full((), group.prior.scale), group.group_size)
            weight = pyro.sample(group.weight_site, prior)
        if amplitude is None or slab_scale is None:
            return (slab_scale if amplitude is None else amplitude), weight
        return amplitude * slab_scale, weight

    def fold(self, weight: Tensor, amplitude: Tensor | None) -> Tensor:
        """Effective weights of the plain layer that this is in evaluation mode, ``[..., size, fan_in + 1]``, bias last.

        :param weight: standardised weights u, ``[..., size, group_size]``.
        :param amplitude: z t, ``[..., size]``; None for 1.
        """
        return weight if amplitude is None else weight * self.group.spread(amplitude).unsqueeze(-1)


class GroupLinear(GroupLayer):
    """Dense layer of gated nodes.

    :raises ConfigurationError: for a batch-normed group; only convolutions are normalised.
    """

    def __init__(self, group: NodeGroup) -> None:
        super().__init__(group)
        if group.own != 1:
            raise ConfigurationError(
                f"GroupLinear {group.name!r}: a dense layer's nodes own a bias, own=1; got own={group.own}. Batch norm"
                " belongs to convolutions (GroupConv2d)."
            )

    def forward(self, x: Tensor, shared: Latents) -> Tensor:
        """Pre-activations ``[..., N, size]`` of inputs ``[..., N, fan_in]``."""
        amplitude, weight = self.sample_weights(shared, x)
        f = affine(x, weight)
        return f if amplitude is None else f * self.group.spread(amplitude).unsqueeze(-2)
