"""What flows from the predictors to the output: layers that may be empty, layers that nobody reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.groups import NodeGroup

__all__ = ["cut_off", "downstream", "flip_cost", "without_unread"]

_ACTIVATION = 16  # multiply-adds that an activation is worth
_SCORE = 50  # and the log density of an output


def cut_off(description: NetworkDescription, empty: Collection[str]) -> list[str]:
    """Empty groups that make the network a constant; none as long as something reaches the output.

    A sum is alive while one of its terms is, so an empty layer inside a residual block is bypassed. Linear terms reach
    the output by themselves.

    :param empty: names of the groups without any member.
    :returns: those that would cut the output off alone, or, if it takes several of them, all that are empty.
    """
    if _reaches_output(description, empty):
        return []
    return [name for name in empty if not _reaches_output(description, {name})] or list(empty)


def without_unread(
    description: NetworkDescription, kept: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Empty the layers that nobody reads any more, such as the first of a block whose last is closed.

    :param kept: ascending indices by group; groups not named stay whole.
    """
    left = {**kept}
    for follower, leader in description.follows:
        if leader in left:
            left.setdefault(follower, left[leader])
    read = _groups_behind(description, description.output_name)
    for group in reversed(description.layers):
        if description.leader_of(group.name) not in read:
            left[group.name] = torch.zeros(0, dtype=torch.long)
        if group.name not in left or len(left[group.name]):
            read |= _groups_behind(description, group.source)
    return left


def downstream(description: NetworkDescription, name: str) -> list[NodeGroup]:
    """Layers that read a group, directly or through others, in forward order."""
    reached, found = {name}, []
    for group in description.layers:
        if reached & _groups_behind(description, group.source):
            reached.add(group.name)
            found.append(group)
    return found


def flip_cost(description: NetworkDescription) -> int:
    """Multiply-adds, about, of one row's outputs for every gate at its other value, in a network of dense layers.

    What reads the group changes by rank one, what comes after it is computed anew
    (:mod:`pyro_ssbnn.posterior.branches`).
    """
    total, score = 0, _SCORE * description.groups[-1].size
    for gates in description.gate_groups:
        later = downstream(description, gates.name)
        products = sum(g.num_weights for g in later if g.source != gates.name)
        total += gates.size * (products + _ACTIVATION * sum(g.size for g in later) + score)
    return total


def _reaches_output(description: NetworkDescription, empty: Collection[str]) -> bool:
    """Whether the output still depends on the predictors without these groups."""
    if description.linear is not None and description.linear.name not in empty:
        return True
    alive = {description.inputs.name: description.inputs.name not in empty}
    sums = {total.name: total for total in description.sums}

    def lives(name: str) -> bool:
        if name not in alive:  # only sums of groups that came before
            alive[name] = any(lives(term) for term, _ in sums[name].terms)
        return alive[name]

    for group in description.layers:
        alive[group.name] = group.name not in empty and lives(group.source)
    return lives(description.output_name)


def _groups_behind(description: NetworkDescription, name: str) -> set[str]:
    """The groups of a source: itself, or what a sum adds up."""
    sums = {total.name: total for total in description.sums}
    found, waiting = set(), [name]
    while waiting:
        name = waiting.pop()
        if name in sums:
            waiting += [term for term, _ in sums[name].terms]
        else:
            found.add(name)
    return found
