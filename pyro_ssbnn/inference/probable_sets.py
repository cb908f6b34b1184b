"""The most probable sets of a block of many predictors: a search from set to set, best first.

From the best sets known so far it goes to all their neighbours: one predictor more, one fewer, or one in the place of
another, until no round finds a set that matters. The idea is that of shotgun stochastic search (Hans, Dobra and West,
2007, JASA 102, 507-516), without its chance.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from pyro_ssbnn.distributions.blocks import MOST_SETS
from pyro_ssbnn.inference.open_laws import Around

__all__ = ["most_probable_sets", "scored_neighbours"]

_ROUNDS = 40  # beyond which it ends once the list is full
_MATTERS = 5e-7  # of the probability of all known sets, for each one whose neighbours are looked at
_TOGETHER = 1 / 32  # sets whose neighbours a round looks at, of the number wanted
_FEW = 16  # the same at most once the list is full, where each neighbour costs a factorisation of its own

Score = Callable[[Tensor], Tensor]
Near = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def most_probable_sets(
    score: Score, begin: Tensor, members: int, number: int = MOST_SETS, near: Near | None = None
) -> Tensor:
    """Sets of the highest scores that the search finds, and all neighbours of the best by one predictor.

    :param score: log probability, up to a constant, of sets ``[n]``.
    :param begin: different sets to begin with, ``[n]``, int64: bit i is one where predictor i is in.
    :param members: predictors, fewer than 63.
    :param number: how many sets, fewer than there are.
    :param near: all neighbours of sets that have these scores, and their scores, of those above a given one; at less
        cost than by ``score``.
    :returns: sets ``[number]``, ascending.
    """
    sets = begin.sort().values
    scores, expanded = score(sets), torch.zeros_like(sets, dtype=torch.bool)
    for searched in itertools.count():
        full = len(sets) >= number
        together = math.ceil(_TOGETHER * number)
        if full and near is None:
            together = min(together, _FEW)
        rank = scores.masked_fill(expanded, -torch.inf)
        chosen = rank.topk(min(together, len(sets))).indices
        chosen = chosen[~expanded[chosen]]
        expanded[chosen] = True
        if near is None:
            found = _neighbours(sets[chosen], members).unique()
            found = found[~_known(found, sets)]
            of_found = score(found)
        else:
            least = scores.min() if full else scores.new_tensor(-torch.inf)
            found, of_found = _new(*near(sets[chosen], scores[chosen], least), sets)
        if len(found) == 0:
            if full:
                break
            continue
        before = scores.logsumexp(0)
        sets, scores = torch.cat([sets, found]), torch.cat([scores, of_found])
        expanded = torch.cat([expanded, torch.zeros_like(found, dtype=torch.bool)])
        gained = -float(torch.expm1(before - scores.logsumexp(0)))
        best = scores.topk(min(number, len(sets))).indices
        order = best[sets[best].argsort()]
        sets, scores, expanded = sets[order], scores[order], expanded[order]
        if full and (gained < _MATTERS * len(chosen) or searched >= _ROUNDS):
            break
    return _with_flips(sets, scores, members)


def _known(found: Tensor, sets: Tensor) -> Tensor:
    """Which of them are among the sets, which ascend."""
    return sets[torch.searchsorted(sets, found).clamp_max(len(sets) - 1)] == found


def _new(found: Tensor, scores: Tensor, sets: Tensor) -> tuple[Tensor, Tensor]:
    """Those that are not known, each once, and their scores."""
    new = ~_known(found, sets)
    found, order = found[new].sort()
    once = torch.ones_like(found, dtype=torch.bool)
    once[1:] = found[1:] != found[:-1]
    return found[once], scores[new][order][once]


def _with_flips(sets: Tensor, scores: Tensor, members: int) -> Tensor:
    """The best set and all one predictor away, in the place of the worst: no inclusion is 0 or 1 for want of a set."""
    flips = sets[scores.argmax()] ^ (1 << torch.arange(members, device=sets.device))
    missing = flips[~torch.isin(flips, sets)]
    rank = torch.where(torch.isin(sets, flips), torch.inf, scores)
    kept = sets[rank.topk(len(sets) - len(missing)).indices]
    return torch.cat([kept, missing]).sort().values


def _neighbours(sets: Tensor, members: int) -> Tensor:
    """Sets that one predictor more, fewer, or another makes of these, ``[m]``."""
    bits = 1 << torch.arange(members, device=sets.device)
    flipped = (sets.unsqueeze(-1) ^ bits).flatten()
    inside = (sets.unsqueeze(-1) & bits) != 0
    swaps = inside.unsqueeze(-1) & ~inside.unsqueeze(-2)  # [n, out, in]
    changed = sets[:, None, None] ^ (bits.unsqueeze(-1) | bits)
    return torch.cat([flipped, changed[swaps]])


def scored_neighbours(
    sets: Tensor,
    scores: Tensor,
    least: Tensor,
    around: Iterable[Around],
    added: Callable[[int], Tensor],
) -> tuple[Tensor, Tensor]:
    """All neighbours, of predictors of one column each, whose scores are above the least, and these.

    :param scores: those of the sets.
    :param around: what changes the log evidence of the sets.
    :param added: what each predictor adds to the log prior of a set of so many others, ``[k]``.
    """
    found, of_found = [], []
    for one in around:
        own, base = (each[one.part.rows].unsqueeze(-1) for each in (sets, scores))
        m, members = one.instead.shape[1:]
        bits = 1 << torch.arange(members, device=sets.device)
        open, fewer = (own & bits) != 0, own ^ bits[one.part.places]
        before = added(max(m - 1, 0))
        without = base - before[one.part.places]
        instead = without.unsqueeze(-1) + one.instead + before
        for near, values in (
            (own | bits, (base + one.more + added(m)).masked_fill(open, -torch.inf)),
            (fewer, without + one.fewer),
            (fewer.unsqueeze(-1) | bits, instead.masked_fill(open.unsqueeze(1), -torch.inf)),
        ):
            above = values > least
            found.append(near[above])
            of_found.append(values[above])
    return torch.cat(found), torch.cat(of_found)
