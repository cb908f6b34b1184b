"""The most probable sets of a block of many predictors: a search from set to set, best first.

From the best sets known so far it goes to all their neighbours: one predictor more, one fewer, or one in the place of
another, until no round finds a set that matters. The idea is that of shotgun stochastic search (Hans, Dobra and West,
2007, JASA 102, 507-516), without its chance.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from pyro_ssbnn.distributions.blocks import MOST_SETS

__all__ = ["most_probable_sets"]

_ROUNDS = 40  # beyond which it ends once the list is full
_FIRST = 128  # sets whose neighbours a round looks at
_LATER = 16  # the same once the list is full
_MATTERS = 1e-5  # of the probability of all sets that are known


def most_probable_sets(
    score: Callable[[Tensor], Tensor], begin: Tensor, members: int, number: int = MOST_SETS
) -> tuple[Tensor, Tensor]:
    """Sets of the highest scores that the search finds, and all neighbours of the best by one predictor.

    :param score: log probability, up to a constant, of sets ``[n]``.
    :param begin: different sets to begin with, ``[n]``, int64: bit i is one where predictor i is in.
    :param members: predictors, fewer than 63.
    :param number: how many sets, fewer than there are.
    :returns: sets ``[number]``, ascending, and their scores.
    """
    sets, scores = begin, score(begin)
    expanded = torch.zeros_like(sets, dtype=torch.bool)
    for searched in itertools.count():
        known, full = len(sets), len(sets) == number
        rank = torch.where(expanded, -torch.inf, scores)
        chosen = rank.topk(min(_LATER if full else _FIRST, known)).indices
        chosen = chosen[~expanded[chosen]]
        expanded[chosen] = True
        near = _neighbours(sets[chosen], members).unique()
        new = near[~torch.isin(near, sets)]
        if len(new) == 0:
            if full:
                break
            continue
        sets, scores = torch.cat([sets, new]), torch.cat([scores, score(new)])
        expanded = torch.cat([expanded, torch.zeros_like(new, dtype=torch.bool)])
        gained = float(scores.softmax(0)[known:].sum())
        order = _wanted(sets, scores, members).topk(min(number, len(sets))).indices
        sets, scores, expanded = sets[order], scores[order], expanded[order]
        if full and (gained < _MATTERS or searched >= _ROUNDS):
            break
    order = sets.argsort()
    return sets[order], scores[order]


def _wanted(sets: Tensor, scores: Tensor, members: int) -> Tensor:
    """Scores, infinite for the best set and those one predictor away: no inclusion is then 0 or 1 for want of a set."""
    best = sets[scores.argmax()]
    flips = best ^ (1 << torch.arange(members, device=sets.device))
    kept = torch.isin(sets, torch.cat([flips, best.unsqueeze(0)]))
    return torch.where(kept, torch.inf, scores)


def _neighbours(sets: Tensor, members: int) -> Tensor:
    """Sets that one predictor more, fewer, or another makes of these, ``[m]``."""
    bits = 1 << torch.arange(members, device=sets.device)
    flipped = (sets.unsqueeze(-1) ^ bits).flatten()
    inside = (sets.unsqueeze(-1) & bits) != 0
    swaps = inside.unsqueeze(-1) & ~inside.unsqueeze(-2)  # [n, out, in]
    changed = sets[:, None, None] ^ (bits.unsqueeze(-1) | bits)
    return torch.cat([flipped, changed[swaps]])
