"""Moments of a block's laws of gates and weights: sums over its sets (see :mod:`pyro_ssbnn.distributions.blocks`)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ssbnn.distributions.blocks import open_normal
from pyro_ssbnn.guides.joint_law import MOST_TOGETHER

__all__ = ["BlockMoments", "block_moments", "open_alone", "outer"]


class BlockMoments(NamedTuple):
    """A block's laws and their moments; weights of all nodes, closed ones counting as 0."""

    sets: Tensor  # [S], ascending
    log_mass: Tensor  # [S]
    linear: Tensor  # [size, c]
    precision: Tensor  # [size, c, c]
    mean: Tensor  # [size, c]
    open_mean: Tensor  # [size, c], of each weight given that its own gate is open
    second: Tensor  # E[v v'], [size, c, c]
    log_scales: Tensor  # [size]
    number: Tensor  # []


def block_moments(
    sets: Tensor, open: Tensor, log_mass: Tensor, linear: Tensor, precision: Tensor
) -> BlockMoments:
    """Moments of a block's laws.

    :param open: gates of the block's columns in every set, ``[S, c]``.
    """
    mass, (size, c) = log_mass.exp(), linear.shape
    if c > MOST_TOGETHER:
        places, gates, of_sets, precisions = open_alone(open, linear, precision)
    else:
        places, gates, of_sets, precisions = None, open, linear, precision
    gates = gates.unsqueeze(-2)
    root, mean = open_normal(gates, of_sets, precisions)
    within = torch.cholesky_inverse(root) * gates.unsqueeze(-1) * gates.unsqueeze(-2)
    log_scales = -root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    second = within + outer(mean)
    if places is None:
        average = torch.einsum("t,tji->ji", mass, mean)
        second = torch.einsum("t,tjik->jik", mass, second)
    else:
        pairs = places.unsqueeze(-1) * c + places.unsqueeze(-2)
        average = _put(mass, mean, places, c)
        second = _put(mass, second.flatten(2), pairs.flatten(1), c * c).view(size, c, c)
    inclusion = mass @ open
    open_mean = average / inclusion.clamp_min(torch.finfo(mass.dtype).tiny)
    parts = (linear, precision, average, open_mean, second)
    return BlockMoments(sets, log_mass, *parts, mass @ log_scales, inclusion.sum())


def open_alone(
    open: Tensor, linear: Tensor, precision: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Linear part and precision of the open columns of each set, m of them at most, and a few closed ones beside.

    :returns: the columns ``[n, m]``, their gates, linear part ``[n, size, m]`` and precision ``[n, size, m, m]``.
    """
    most = max(1, int(open.sum(-1).max()))
    places = open.topk(most, dim=-1).indices
    rows, of_rows = places.unsqueeze(-1), places.unsqueeze(-2)
    precision = precision.movedim(0, -1)[rows, of_rows].movedim(-1, 1)
    return places, open.gather(-1, places), linear.T[places].mT, precision


def _put(mass: Tensor, values: Tensor, places: Tensor, length: int) -> Tensor:
    """Values ``[n, size, m]`` averaged over sets, put where they belong ``[n, m]``: ``[size, length]``."""
    weighted = (mass[:, None, None] * values).transpose(0, 1).flatten(1)
    out = weighted.new_zeros(len(weighted), length)
    return out.index_add(1, places.flatten(), weighted)


def outer(mean: Tensor) -> Tensor:
    """The product of a vector with itself, ``[..., c, c]``."""
    return mean.unsqueeze(-1) * mean.unsqueeze(-2)
