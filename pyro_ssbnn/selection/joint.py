r"""What a guide's joint law says of its gates: tables of blocks, credible sets, the inclusion of a set.

A *credible set* is a smallest set of members of which at least one is in the network with a given probability. Where
members stand for each other, none of them may be likely, and yet it may be certain that one of them is in: read the
set. Within a block of k members whose joint law is a table,

.. math:: P(\text{none of } S) = \sum_{z \subseteq S^c} q(z)

is found for all :math:`2^k` sets at once (a sum over subsets), so that the sets are the smallest there are. In blocks
of more than fourteen, members are added one by one, that which raises the probability most, and dropped where they
prove dispensable: small sets, perhaps not the smallest. Sets are taken in the order of their size, disjoint, and only
where the data, not the prior alone, say that one is in: their Bayes factor is above 1. A set is of one block. Blocks
are independent, or independent given the cell that the slab scale is in.

Source of the idea: Wang, Sarkar, Carbonetto and Stephens (2020, JRSS B 82, 1273-1300), whose sets are those of one
effect of a sum of single effects; here they are read off the law of all gates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_ssbnn.checks import is_number, is_whole
from pyro_ssbnn.distributions import BlockGate, CoupledGate
from pyro_ssbnn.distributions.blocks import gates_of
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides import MixtureGuide
from pyro_ssbnn.selection.predictor_law import GateTable, PredictorLaw
from pyro_ssbnn.structure.gates import GateGroup
from pyro_ssbnn.structure.guide import Guide

__all__ = [
    "CredibleSet",
    "GateTable",
    "cells_of_gates",
    "credible_sets",
    "gate_tables",
    "set_inclusion",
]

_ROUNDING = 1e-9  # of a sum of probabilities


@dataclass(frozen=True)
class CredibleSet:
    """Members of a group, at least one of which is in the network with this probability.

    :param group: name of the group, such as ``input``.
    :param members: ascending indices.
    :param probability: that one of them or more are in.
    :param prior_probability: the same under the prior, :math:`1 - (1 - \\lambda)^{|S|}` of a fixed number.
    """

    group: str
    members: tuple[int, ...]
    probability: float
    prior_probability: float

    @property
    def log_bayes_factor(self) -> float:
        """Evidence that one is in: log of posterior against prior odds; infinite where the probability rounds to 1."""
        return _logit(self.probability) - _logit(self.prior_probability)


def cells_of_gates(guide: Guide | PredictorLaw, name: str) -> list[tuple[float, list[GateTable]]]:
    """Laws of a gated group's gates, block by block, in each cell of the slab scale, and the cells' probabilities.

    Independent gates are blocks of one. A guide whose gates do not depend on the slab scale has one cell.

    :raises ConfigurationError: for an unknown group, or one without gates.
    """
    if isinstance(guide, PredictorLaw):
        return [(1.0, guide.tables(name))]
    logits = guide.inclusion_logits(name)
    law = guide.gate_law(name) if name in getattr(guide, "coupled", ()) else None  # type: ignore[attr-defined]
    if isinstance(law, BlockGate):
        found: list[list[GateTable]] = [[] for _ in law.share]
        for block in law.blocks:
            masses = block.log_mass.detach().cpu().double().softmax(-1)
            for tables, sets, mass in zip(found, block.sets.cpu(), masses, strict=True):
                laws = zip(block.members.tolist(), sets, mass, strict=True)
                tables += [GateTable(tuple(members), s, m) for members, s, m in laws]
        share = law.share.detach().cpu().double()
        ordered = [sorted(tables, key=lambda table: table.members) for tables in found]
        return list(zip((share / share.sum()).tolist(), ordered, strict=True))
    if isinstance(law, CoupledGate):
        mass = law.table_log_prob().detach().cpu().double().softmax(-1)
        return [(1.0, [GateTable(tuple(range(len(logits))), torch.arange(len(mass)), mass)])]
    inclusion = guide.inclusion()[name].detach().cpu().double()
    pairs = torch.stack([1 - inclusion, inclusion], -1)
    sets = torch.arange(2)
    return [(1.0, [GateTable((member,), sets, pair) for member, pair in enumerate(pairs)])]


def gate_tables(guide: Guide | PredictorLaw, name: str) -> list[GateTable]:
    """Laws of a gated group's blocks of gates, each over all cells; see :func:`cells_of_gates`.

    :raises ConfigurationError: for an unknown group, or one without gates.
    """
    cells = cells_of_gates(guide, name)
    if len(cells) == 1:
        return cells[0][1]
    found = []
    for laws in zip(*(tables for _, tables in cells), strict=True):
        sets, place = torch.cat([table.sets for table in laws]).unique(return_inverse=True)
        weighted = [share * t.probability for (share, _), t in zip(cells, laws, strict=True)]
        mass = torch.zeros(len(sets), dtype=torch.float64)
        mass.index_add_(0, place, torch.cat(weighted))
        found.append(GateTable(laws[0].members, sets, mass))
    return found


def set_inclusion(
    guide: Guide | MixtureGuide | PredictorLaw, members: Sequence[int | str], group: str = "input"
) -> float:
    """Probability that at least one of these members is in the network; of a mixture the average of its fits'.

    :param members: indices (a tensor of them, too), or names of predictors.
    :param group: their group, the predictors by default.
    :raises ConfigurationError: for unknown members, or a group without gates.
    """
    if isinstance(guide, MixtureGuide) and group in guide.inclusion():
        return sum(weight * set_inclusion(one, members, group) for _, one, weight in guide.members)
    chosen = _indices(guide, members, group)
    cells = cells_of_gates(guide, group)
    return max(0.0, 1 - sum(share * _none_in(tables, chosen) for share, tables in cells))


def credible_sets(
    guide: Guide | PredictorLaw, probability: float = 0.95, group: str = "input"
) -> list[CredibleSet]:
    """Smallest disjoint sets of members of which one at least is in the network; see the module.

    :param probability: least posterior probability of each set, in (0, 1).
    :param group: the predictors by default.
    :returns: sets, the smallest first, and of these the likeliest.
    :raises ConfigurationError: for a probability outside (0, 1), or a group without gates.
    """
    if not (is_number(probability) and 0 < probability < 1):
        raise ConfigurationError(
            f"credible_sets: probability must lie strictly between 0 and 1; got {probability!r}."
        )
    gated = guide.description[group]
    found = []
    for table in gate_tables(guide, group):
        for places, reached in _sets(table, probability):
            members = tuple(table.members[place] for place in places)
            prior = -math.expm1(gated.log_closed(members))
            one = CredibleSet(group, members, reached, prior)
            if one.log_bayes_factor <= 0:
                break  # what is larger says even less
            found.append(one)
    return sorted(found, key=lambda s: (len(s.members), -s.probability, s.members))


def _none_in(tables: Sequence[GateTable], chosen: set[int]) -> float:
    """Probability that none of these members is in, of independent blocks."""
    none = 1.0
    for table in tables:
        inside = [place for place, member in enumerate(table.members) if member in chosen]
        if inside:
            mask = sum(1 << place for place in inside)
            none *= float(table.probability[table.sets & mask == 0].sum())
    return none


def _sets(table: GateTable, probability: float) -> Iterator[tuple[list[int], float]]:
    """Places in a block of its smallest disjoint sets, with their probabilities."""
    size = len(table.members)
    if len(table.sets) < 2**size:
        yield from _grown_sets(table, probability)
        return
    reached, sets = 1 - _none_of(table), table.sets
    sizes = gates_of(sets, size, sets).sum(-1)
    taken = 0
    while True:
        allowed = (reached >= probability - _ROUNDING) & (sets & taken == 0) & (sizes > 0)
        if not allowed.any():
            return
        least = allowed & (sizes == sizes[allowed].min())
        best = int(torch.where(least, reached, -torch.inf).argmax())
        taken |= best
        yield [i for i in range(size) if best >> i & 1], float(reached[best])


def _grown_sets(table: GateTable, probability: float) -> Iterator[tuple[list[int], float]]:
    """The same in a block of which not all sets have a probability: grown member by member, then thinned."""
    gates = gates_of(table.sets, len(table.members), table.probability)
    free = torch.ones(len(table.members), dtype=torch.float64)
    enough = probability - _ROUNDING

    def reached(places: list[int]) -> float:
        return float(table.probability[gates[:, places].sum(-1) > 0].sum())

    while True:
        chosen: list[int] = []
        while reached(chosen) < enough:
            none_yet = table.probability * (gates[:, chosen].sum(-1) == 0)
            gain = (none_yet @ gates) * free
            best = int(gain.argmax())
            if gain[best] <= 0:
                return
            chosen.append(best)
            free[best] = 0
        for place in tuple(chosen):
            others = [other for other in chosen if other != place]
            if reached(others) >= enough:
                chosen = others
                free[place] = 1
        yield sorted(chosen), reached(chosen)


def _none_of(table: GateTable) -> Tensor:
    """P(no member of S is in) for every set S of a block's members, ``[2^k]``."""
    size = len(table.members)
    below = table.probability.clone()
    for bit in range(size):  # sums over subsets, one member after the other
        pairs = below.view(-1, 2, 1 << bit)
        pairs[:, 1] += pairs[:, 0]
    return below.flip(0).clamp(0, 1)  # at the complement of S


def _indices(guide: Guide | PredictorLaw, members: Sequence[int | str], name: str) -> set[int]:
    group: GateGroup = guide.description[name]
    names = list(getattr(group, "names", ()))
    chosen = set()
    for member in members:
        index = names.index(member) if isinstance(member, str) and member in names else member
        index = index.item() if isinstance(index, Tensor) and index.ndim == 0 else index
        if not (is_whole(index) and 0 <= index < group.size):
            raise ConfigurationError(
                f"set_inclusion: {name} has no member {member!r}; give indices from 0 to {group.size - 1}"
                f"{', or names of predictors' if names else ''}."
            )
        chosen.add(int(index))
    return chosen


def _logit(probability: float) -> float:
    return math.inf if probability >= 1 else math.log(probability) - math.log1p(-probability)
