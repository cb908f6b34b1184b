"""Selections by rank: nodes are ranked by their odds of inclusion, and as many are kept as a target takes.

With the ranking :math:`\\eta_{(1)} \\ge \\eta_{(2)} \\ge \\dots` of the log-odds of all gated nodes, the selections

.. math:: S_k = \\{(1), \\dots, (k)\\} \\cup \\{\\text{the best node of each layer}\\}

are nested, so that what a network costs rises with k, and k is found by bisection.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.selection.rules import Selection
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.flow import without_unread
from pyro_ssbnn.structure.guide import Guide

__all__ = ["Ranking", "largest_within", "ranked", "smallest_that", "work_of"]

Ranking = Callable[[int, str], Selection]
"""The selection of the k best nodes, with a name for its rule."""


def ranked(guide: Guide, description: NetworkDescription) -> tuple[Ranking, int]:
    """The nested selections of a guide's nodes, and the number of nodes in all.

    :raises ConfigurationError: for a network without gated nodes.
    """
    logits = {g.name: guide.inclusion_logits(g.name).cpu() for g in description.gated_layers}
    if not logits:
        raise ConfigurationError("compress: no layer of the network carries gates.")
    sizes = {name: len(values) for name, values in logits.items()}
    order = torch.cat(list(logits.values())).argsort(descending=True, stable=True)
    place = torch.empty_like(order).index_copy_(0, order, torch.arange(len(order)))
    places = dict(zip(logits, place.split(list(sizes.values())), strict=True))

    def best(k: int, rule: str) -> Selection:
        kept = {name: _with_best(at < k, at) for name, at in places.items()}
        return Selection(kept, sizes, rule)

    return best, len(order)


def _with_best(open: Tensor, place: Tensor) -> Tensor:
    """Indices of the open nodes and of the layer's best."""
    return open.index_fill(0, place.argmin(), True).nonzero().flatten()


def work_of(description: NetworkDescription, selection: Selection) -> int:
    """Multiply-adds of the pruned network for one row."""
    return description.narrowed(without_unread(description, selection.kept)).multiply_adds


def largest_within(cost: Callable[[int], float], most: float, number: int, what: str) -> int:
    """The largest k whose cost is within a limit.

    :param cost: rises with k.
    :param number: largest k there is.
    :raises ConfigurationError: when the smallest costs more.
    """
    least = cost(0)
    if least > most:
        raise ConfigurationError(
            f"compress: {what} of {most:g} cannot be reached: with one node a layer it is {least:g} still. Layers"
            " that carry no gates stay whole (see the report)."
        )
    low, high = 0, number
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(middle) <= most else (low, middle - 1)
    return low


def smallest_that(holds: Callable[[int], bool], number: int) -> int:
    """The smallest k for which something holds that holds for all larger ones; all of them if it holds for none."""
    low, high = 0, number
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low
