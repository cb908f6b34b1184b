"""The parts of a posterior that are drawn one after another: one, or the members of a mixture by their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pyro_ssbnn.guides import MixtureGuide
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.network import Network

__all__ = ["Part", "allotted", "parts_of"]


class Part(NamedTuple):
    """Draws of one guide among those of a posterior.

    :param member: its place among the members.
    :param num_draws: of it.
    :param seed: of these draws.
    """

    member: int
    model: Network
    guide: Guide
    num_draws: int
    seed: int


def parts_of(model: Network, guide: Guide | MixtureGuide, num_draws: int, seed: int) -> list[Part]:
    """The guide itself, or those members of a mixture that some of the draws fall to.

    The draws of a member are those of its own guide with the part's number and seed; the first member's seed is the
    posterior's.
    """
    if not isinstance(guide, MixtureGuide):
        return [Part(0, model, guide, num_draws, seed)]
    numbers = allotted(guide.weights, num_draws)
    parts = []
    for member, (network, own, _) in enumerate(guide.members):
        if numbers[member]:
            of_member = seed if member == 0 else _seed(seed, member)
            parts.append(Part(member, network, own, numbers[member], of_member))
    return parts


def allotted(weights: Sequence[float], num_draws: int) -> list[int]:
    """So many draws to each member, by largest remainders: each number is within one of its weight's share.

    >>> allotted([0.5, 0.3, 0.2], 9)
    [4, 3, 2]
    """
    shares = np.asarray(weights, dtype=np.float64) * num_draws / sum(weights)
    numbers = np.floor(shares + 1e-9).astype(int)  # a share that is whole but for rounding is whole
    missing = num_draws - int(numbers.sum())
    order = np.argsort(numbers - shares, kind="stable")
    numbers[order[:missing]] += 1
    return [int(number) for number in numbers]


def _seed(seed: int, member: int) -> int:
    words = np.random.SeedSequence((seed % 2**64, member)).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))
