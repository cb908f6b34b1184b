"""What opening each gate adds to the log-likelihood, draw by draw, everything else as it was drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from pyro_ssbnn.posterior.branches import BranchedNetworks
from pyro_ssbnn.posterior.networks import log_likelihood, outputs
from pyro_ssbnn.structure.flow import downstream
from pyro_ssbnn.structure.gates import GateGroup
from pyro_ssbnn.structure.network import Network

__all__ = ["gains_of_opening"]

_NUMBERS = 2**20  # of a layer, held at a time
_ROWS = 512
_PASSED = 2**23  # weights and outputs held at a time, where each flip is a pass of its own

Live = Mapping[str, Sequence[int]]
Data = tuple[Tensor, Tensor]


def gains_of_opening(
    model: Network,
    groups: Sequence[GateGroup],
    values: Mapping[str, Tensor],
    live: Live,
    data: Data,
) -> dict[str, Tensor]:
    """Log p(y | open) - log p(y | closed) of each gate and draw, ``{group: [S, size]}``, float64 on the CPU.

    :param values: draws of all latents by site, ``[S, ...]``, weights those of open members.
    :param live: members by group; NaN stands for the others.
    :param data: predictors, on the device of the draws, and targets.
    """
    if BranchedNetworks.can(model):
        found = _by_rank_one(model, groups, values, live, data)
        if found is not None:
            return found
    return {g.name: _by_passes(model, g, values, live[g.name], data) for g in groups}


def _by_rank_one(
    model: Network,
    groups: Sequence[GateGroup],
    values: Mapping[str, Tensor],
    live: Live,
    data: Data,
) -> dict[str, Tensor] | None:
    """Gains in a network of dense layers; None where it does more than pass activations from one to the next."""
    widest, num_draws = model.description.widest, len(values[groups[0].gate_site])
    rows = max(1, min(_ROWS, _NUMBERS // widest))
    draws = max(1, _NUMBERS // (rows * widest))
    found = {g.name: torch.zeros(num_draws, g.size, dtype=torch.float64) for g in groups}
    for at in range(0, num_draws, draws):
        part = {name: value[at : at + draws] for name, value in values.items()}
        for x, y in zip(data[0].split(rows), data[1].split(rows), strict=True):
            networks = BranchedNetworks(model, part, x)
            if not networks.whole:
                return None
            as_drawn = log_likelihood(model, part, networks.f, y)
            for group in groups:
                sign = 2 * part[group.gate_site].double().cpu() - 1
                for members in _pieces(model, group, live, len(sign) * len(x)):
                    other = log_likelihood(model, part, networks.flipped(group, members), y)
                    gain = sign[:, members] * (as_drawn - other).T
                    found[group.name][at : at + draws, members] += gain
    return {g.name: _closed_as_nan(found[g.name], live[g.name]) for g in groups}


def _pieces(model: Network, group: GateGroup, live: Live, passed: int) -> Iterator[Sequence[int]]:
    """Members whose flips fit the memory together.

    :param passed: draws times rows.
    """
    later = downstream(model.description, group.name)
    widest = max((layer.size for layer in later), default=1)
    block = max(1, _NUMBERS // (passed * widest))
    members = live[group.name]
    return (members[at : at + block] for at in range(0, len(members), block))


def _closed_as_nan(gains: Tensor, live: Sequence[int]) -> Tensor:
    closed = torch.ones(gains.shape[1], dtype=torch.bool)
    closed[list(live)] = False
    return gains.masked_fill(closed, math.nan)


def _by_passes(
    model: Network, group: GateGroup, values: Mapping[str, Tensor], live: Sequence[int], data: Data
) -> Tensor:
    """Gains in any network: a pass for each flip, several together."""
    gates = values[group.gate_site]
    found = torch.full((len(gates), group.size), math.nan, dtype=torch.float64)
    as_drawn = log_likelihood(model, values, outputs(model, values, data[0]), data[1])
    block = max(1, _PASSED // (len(gates) * max(model.description.num_weights, len(data[0]))))
    for at in range(0, len(live), block):
        members = live[at : at + block]
        flipped = _flipped(values, group.gate_site, members)
        other = log_likelihood(model, flipped, outputs(model, flipped, data[0]), data[1])
        sign = (2 * gates[:, members] - 1).double().cpu()
        found[:, members] = sign * (as_drawn - other.reshape(len(members), -1)).T
    return found


def _flipped(values: Mapping[str, Tensor], site: str, members: Sequence[int]) -> dict[str, Tensor]:
    """Draws with one gate after the other at its other value, ``[members * S, ...]``."""
    copies = len(members)
    repeated = {
        name: value.expand(copies, *value.shape).flatten(0, 1) for name, value in values.items()
    }
    gates = values[site].repeat(copies, 1, 1)
    for copy, member in enumerate(members):
        gates[copy, :, member] = 1 - gates[copy, :, member]
    return {**repeated, site: gates.flatten(0, 1)}
