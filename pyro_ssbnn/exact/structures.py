"""All structures of a small network: every assignment of open and closed to its gates, or to those left undecided."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.gates import GateGroup

__all__ = ["MAX_GATES", "Structures"]

MAX_GATES = 12
"""Most gates that are enumerated: 4,096 structures."""


@dataclass(frozen=True)
class Structures:
    """The table of all 2^K structures of K gates, or of those that agree with what is decided of some.

    Structure s opens undecided gate k when bit k of s is one: structure 0 has all of them closed, the last all open.

    :param groups: the gated groups in forward order, predictors first.
    :param table: open gates as ones, ``[2^K, gates]``, float64.
    :param names: of the gates, ``[K]``: a predictor's own name, ``x3 linear`` for its linear term, ``hidden1[3]`` for a
        node.
    """

    groups: tuple[GateGroup, ...]
    table: Tensor
    names: tuple[str, ...]
    log_weight: Tensor | None = None

    @classmethod
    def of(
        cls,
        description: NetworkDescription,
        decided: Mapping[str, Tensor] | None = None,
        exchangeable: Mapping[str, int] | None = None,
    ) -> Structures:
        r"""Enumerate the structures of a network (one structure without gates for an ungated one).

        :param decided: what is decided of the gates of some groups, ``{group: [size]}``: 1 for open, 0 for closed, NaN
            for undecided, which all others are.
        :param exchangeable: sizes n of some groups in the whole network that this one is a part of, whose members stand
            for each other. A structure with k of them open then stands for all :math:`\binom{n}{k}` that have as many:
            those of the same k share that weight.

        :raises ConfigurationError: for more than :data:`MAX_GATES` gates.
        """
        groups = description.gate_groups
        unknown = [torch.full((group.size,), torch.nan).double() for group in groups]
        known = torch.cat(
            [(decided or {}).get(g.name, u).double() for g, u in zip(groups, unknown, strict=True)]
            or [torch.zeros(0).double()]
        )
        free = known.isnan()
        count = int(free.sum())
        if count > MAX_GATES:
            sizes = ", ".join(f"{group.name} {group.size}" for group in groups)
            raise ConfigurationError(
                f"Structures: this network has {count} gates ({sizes}), hence 2^{count} structures; at most"
                f" {MAX_GATES} gates are enumerated. Take fewer nodes or predictors, or leave one of the groups"
                " ungated."
            )
        index = torch.arange(2**count)
        table = known.repeat(len(index), 1)
        table[:, free] = ((index.unsqueeze(-1) >> torch.arange(count)) & 1).double()
        names = tuple(name for group in groups for name in description.member_names(group.name))
        found = cls(groups, table, names)
        if not exchangeable:
            return found
        weights = [found._log_shares(name, size) for name, size in exchangeable.items()]
        return replace(found, log_weight=torch.stack(weights).sum(0))

    def _log_shares(self, name: str, whole: int) -> Tensor:
        """Log of the number of structures of the whole group that each of these stands for, ``[2^K]``."""
        free = self.table[:, self.columns(name)]
        free = free[:, (free != free[0]).any(0)]
        number, others = self.sizes(name).double(), self.sizes(name).double() - free.sum(-1)
        return _log_binomial(whole, number) - _log_binomial(free.shape[1], number - others)

    def __len__(self) -> int:
        return len(self.table)

    def columns(self, name: str) -> slice:
        """Columns of the table that belong to a gated group.

        :raises ConfigurationError: when no gated group has that name.
        """
        start = 0
        for group in self.groups:
            if group.name == name:
                return slice(start, start + group.size)
            start += group.size
        known = [group.name for group in self.groups]
        raise ConfigurationError(f"no gated group is called {name!r}; this network has {known}.")

    def gates(self, index: Tensor | None = None) -> dict[str, Tensor]:
        """Values of the gate sites, ``{site: [..., size]}``, of given structures (``[...]``) or of all (``[2^K]``)."""
        rows = self.table if index is None else self.table[index]
        return {group.gate_site: rows[..., self.columns(group.name)] for group in self.groups}

    def log_prior(self) -> Tensor:
        r""":math:`\log p(z)` of every structure, and its weight, ``[2^K]``."""
        total = self.table.new_zeros(len(self)) if self.log_weight is None else self.log_weight
        for group in self.groups:
            total = total + group.log_prior(self.table[:, self.columns(group.name)])
        return total

    def sizes(self, name: str) -> Tensor:
        """Number of open gates of a group in each structure, ``[2^K]``, integers."""
        return self.table[:, self.columns(name)].sum(-1).long()


def _log_binomial(n: int, k: Tensor) -> Tensor:
    return math.lgamma(n + 1) - (k + 1).lgamma() - (n - k + 1).lgamma()
