"""Weights that a guide's means start from: random ones, or a deterministic network's."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.isolation import exclusive
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.groups import NodeGroup
from pyro_ssbnn.structure.linear import LinearGroup

__all__ = ["check_weights", "initial_weights", "standardized"]


def initial_weights(group: NodeGroup, gain: float) -> Tensor:
    """Normal weights of variance gain^2/fan-in and uniform biases within 1/sqrt(fan-in), or scales 1 and shifts 0.

    Linear terms start at 0: nothing but chance would tell one from another.
    """
    if isinstance(group, LinearGroup):
        return torch.zeros(group.num_rows, group.group_size)
    spread = 1 / math.sqrt(group.fan_in)
    with exclusive():  # not from the random numbers of another thread's call
        weight = gain * spread * torch.randn(group.num_rows, group.fan_in)
        if group.batch_normed:
            return torch.cat([weight, torch.tensor([1.0, 0.0]).expand(group.size, 2)], -1)
        bias = spread * (2 * torch.rand(group.num_rows, 1) - 1)
    return torch.cat([weight, bias], -1)


def standardized(group: NodeGroup, weights: Tensor, slab_scale: Tensor | None) -> Tensor:
    """Standardised weights u = w / t, of weights w, ``[size, group_size]``, and scales t, ``[..., size]`` (None for 1).

    A batch-normed kernel stays as it is: t acts on scale and shift only, and running statistics are those of the
    kernel.
    """
    if slab_scale is None:
        return weights
    divisor = group.spread(slab_scale).unsqueeze(-1)
    if not group.batch_normed:
        return weights / divisor
    own = weights[:, group.fan_in :] / divisor
    kernel = weights[:, : group.fan_in].expand(*own.shape[:-1], group.fan_in)
    return torch.cat([kernel, own], -1)


def check_weights(description: NetworkDescription, weights: Mapping[str, Tensor]) -> None:
    """Raise :class:`ConfigurationError` unless every layer has weights ``[size, group_size]`` of finite values."""
    names = [group.name for group in description.groups]
    if set(weights) != set(names):
        raise ConfigurationError(
            f"start_from: expected weights for the layers {names}; got {list(weights)}. Give [size, fan-in + 1] for"
            " each, the bias in the last column (fan-in + 2 under a batch norm: scale, then shift)."
        )
    for group in description.groups:
        given, expected = weights[group.name], [group.num_rows, group.group_size]
        if list(given.shape) != expected:
            raise ConfigurationError(
                f"start_from: the weights of {group.name} must be {expected} (nodes, weights of a node);"
                f" got {list(given.shape)}."
            )
        if not given.isfinite().all():
            raise ConfigurationError(
                f"start_from: the weights of {group.name} hold values that are not finite."
            )
