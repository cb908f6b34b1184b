"""Predictors that compete in a linear model: which of them correlate, and the blocks they make."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_ssbnn.guides.joint_law import MOST_LISTED, MOST_TOGETHER
from pyro_ssbnn.structure.axes import Axis

__all__ = ["correlated_blocks", "correlations"]

_CORRELATED = 0.2  # less is left to the means of other blocks
_COLUMNS = 3  # of a block, for each predictor that it has room for


def correlations(x: Tensor, columns: Axis) -> Tensor:
    """Largest absolute correlation of any columns of two predictors, ``[p, p]``, in double precision.

    :param x: predictors ``[N, columns]``.
    :param columns: whose columns they are.
    """
    p, owners = columns.size, columns.owners.to(x.device)
    centred = x.detach().double() - x.detach().double().mean(0)
    unit = centred / centred.norm(dim=0).clamp_min(torch.finfo(torch.float64).tiny)
    of_columns = (unit.T @ unit).abs()
    found = of_columns.new_zeros(p * p)
    pairs = (owners.unsqueeze(-1) * p + owners).flatten()
    return found.scatter_reduce(0, pairs, of_columns.flatten(), "amax").view(p, p)


def correlated_blocks(
    x: Tensor, columns: Axis, most: int = MOST_TOGETHER, listed: int = MOST_LISTED
) -> list[list[int]]:
    r"""Predictors that compete: pairs in the order of their correlation, joined while a block has room.

    Up to twelve predictors are one block where there is room for them. Otherwise a pair is joined whose correlation,
    the largest of any two of their columns, exceeds 0.2 and :math:`3/\sqrt N`, what chance hardly makes of one pair.
    Blocks grow beyond twelve by what it hardly makes of any, :math:`(\sqrt{2\log m} + 1/2)/\sqrt N`, m the number
    of pairs.

    :param x: predictors ``[N, columns]``.
    :param columns: whose columns they are.
    :param most: members of a block at most, and a third of its columns.
    :param listed: members, and columns, of a block whose members correlate so much.
    :returns: ascending indices of each block, blocks in the order of their first members.
    """
    p, owners = columns.size, columns.owners.to(x.device)
    widths = owners.bincount(minlength=p).tolist()
    if p <= most and len(owners) <= _COLUMNS * most:
        return [list(range(p))]
    correlation = correlations(x, columns).triu(1)
    chance, root = math.sqrt(2 * math.log(max(1, p * (p - 1) / 2))) + 0.5, math.sqrt(len(x))
    high = (correlation > max(_CORRELATED, 3 / root)).nonzero()
    found = correlation[high[:, 0], high[:, 1]]
    order = found.argsort(descending=True, stable=True)
    strong = (found[order] > max(_CORRELATED, chance / root)).tolist()
    block_of = {j: [j] for j in range(p)}
    for (i, j), close in zip(high[order].tolist(), strong, strict=True):
        one, other = block_of[i], block_of[j]
        together = sum(widths[m] for m in (*one, *other))
        room = listed if close else most
        if one is other or len(one) + len(other) > room or together > max(_COLUMNS * most, room):
            continue
        one += other
        block_of |= dict.fromkeys(other, one)
    return [sorted(b) for b in {id(b): b for b in block_of.values()}.values()]
