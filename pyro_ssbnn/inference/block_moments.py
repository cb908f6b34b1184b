"""Moments of a block's laws of gates and weights: sums over its sets (see :mod:`pyro_ssbnn.distributions.blocks`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ssbnn.inference.open_laws import OpenLaws

__all__ = ["BlockMoments", "block_moments", "outer"]


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
    sets: Tensor,
    open: Tensor,
    log_mass: Tensor,
    laws: Sequence[OpenLaws],
    linear: Tensor,
    precision: Tensor,
) -> BlockMoments:
    """Moments of a block's laws.

    :param open: gates of the block's columns in every set, ``[S, c]``.
    :param laws: of the open weights of all sets.
    """
    mass, (size, c) = log_mass.exp(), linear.shape
    average, second = linear.new_zeros(size, c), linear.new_zeros(size, c * c)
    log_scales = linear.new_zeros(size)
    for law in laws:
        own = mass[law.part.rows]
        squares = own[:, None, None] * (law.covariance + outer(law.mean))
        second.index_add_(1, law.part.pairs.flatten(), squares.flatten(1))
        average.index_add_(1, law.part.places.flatten(), (own.unsqueeze(-1) * law.mean).flatten(1))
        log_scales = log_scales + law.log_scale @ own
    inclusion = mass @ open
    open_mean = average / inclusion.clamp_min(torch.finfo(mass.dtype).tiny)
    parts = (linear, precision, average, open_mean, second.view(size, c, c))
    return BlockMoments(sets, log_mass, *parts, log_scales, inclusion.sum())


def outer(mean: Tensor) -> Tensor:
    """The product of a vector with itself, ``[..., c, c]``."""
    return mean.unsqueeze(-1) * mean.unsqueeze(-2)
