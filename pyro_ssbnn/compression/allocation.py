r"""How many nodes each layer keeps for a limit on what the network costs.

Within a layer nodes are ranked by their odds of inclusion. Across layers odds do not say what a limit asks for: they
weigh a node against its weights, whatever it computes, and a dense layer of a convolutional network, where the weights
are, would be cut first although it costs little. Across layers the data decide (NetAdapt, Yang et al. 2018). With
:math:`C` the cost and :math:`\ell` the log-likelihood of training rows (:mod:`pyro_ssbnn.compression.scoring`), the
layer whose weakest nodes lose least for what they save,

.. math:: \min_l\ \frac{\ell(S) - \ell(S \setminus W_l)}{C(S) - C(S \setminus W_l)},

gives them up, and so on until the cost is within its limit. :math:`W_l` are so many nodes that they save a step of the
way there. Layers whose maps are added up count as one: a channel of their sum is there as long as one writes to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyro_ssbnn.compression.targets import largest_within
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.structure.description import NetworkDescription

__all__ = ["allocated", "joined_layers"]

Counts = Mapping[str, int]
"""Nodes that are left of each layer."""

_STEPS = 40  # from the whole network to the limit


def allocated(
    cost: Callable[[Counts], float],
    score: Callable[[Counts], float],
    sizes: Counts,
    most: float,
    what: str,
) -> dict[str, int]:
    """Nodes to keep of each layer.

    A layer is tried again only when no other one seems better by what was found earlier, because losses mostly rise as
    layers become smaller.

    :param cost: of a network, which falls with the number of nodes of every layer.
    :param score: its log-likelihood.
    :param sizes: nodes of each layer.
    :param most: limit on the cost.
    :param what: name of the limit, for errors.
    :returns: at least 1 of each layer.
    :raises ConfigurationError: for a limit out of reach.
    """
    left, rates = dict(sizes), dict.fromkeys(sizes, -float("inf"))
    largest_within(lambda k: cost(dict.fromkeys(sizes, 1)), most, 0, what)
    now = cost(left)
    step, before = (now - most) / _STEPS, score(left)
    while now > most:
        fresh: dict[str, tuple[int, float, float]] = {}
        while True:
            layer = min(rates, key=lambda name: rates[name])
            if layer in fresh:
                break
            fewer = _fewer(cost, left, layer, max(most, now - step))
            found = {**left, layer: fewer}
            saved, after = now - cost(found), score(found)
            rates[layer] = (before - after) / saved if saved > 0 else float("inf")
            fresh[layer] = fewer, now - saved, after
        if rates[layer] == float("inf"):
            raise ConfigurationError(f"compress: {what} of {most:g}: no layer saves anything more.")
        left[layer], now, before = fresh[layer]
    return left


def joined_layers(description: NetworkDescription) -> list[tuple[str, ...]]:
    """Gated layers that are added up member by member, as in a residual network: their members leave together.

    A channel of such a sum costs as long as one layer writes to it. A layer that is added to nothing, or elsewhere
    than member by member, stands alone.
    """
    joined = {group.name: [group.name] for group in description.gated_layers}
    for total in description.sums:
        everywhere = tuple(range(total.size))
        alike = all(name in joined and places == everywhere for name, places in total.terms)
        if total.whole or not alike:
            continue
        names = list(dict.fromkeys(n for name, _ in total.terms for n in joined[name]))
        before = [id(joined[name]) for name, _ in total.terms]
        joined = {name: names if id(own) in before else own for name, own in joined.items()}
        joined[total.name] = names
    return list(dict.fromkeys(tuple(names) for names in joined.values()))


def _fewer(cost: Callable[[Counts], float], left: Counts, layer: str, most: float) -> int:
    """The most nodes of a layer that bring the cost down to so much; 1 where none do."""
    low, high = 1, left[layer] - 1
    while low < high:
        middle = (low + high + 1) // 2
        within = cost({**left, layer: middle}) <= most
        low, high = (middle, high) if within else (low, middle - 1)
    return low
