"""All structures of a small network: every assignment of open and closed to its gates."""

from __future__ import annotations

from dataclasses import dataclass

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
    """The table of all 2^K structures of K gates.

    Structure s opens gate k when bit k of s is one: structure 0 has all gates closed, the last one all open.

    :param groups: the gated groups in forward order, predictors first.
    :param table: open gates as ones, ``[2^K, K]``, float64.
    :param names: of the gates, ``[K]``: a predictor's own name, ``x3 linear`` for its linear term, ``hidden1[3]`` for a
        node.
    """

    groups: tuple[GateGroup, ...]
    table: Tensor
    names: tuple[str, ...]

    @classmethod
    def of(cls, description: NetworkDescription) -> Structures:
        """Enumerate the structures of a network (one structure without gates for an ungated one).

        :raises ConfigurationError: for more than :data:`MAX_GATES` gates.
        """
        groups = description.gate_groups
        count = sum(group.size for group in groups)
        if count > MAX_GATES:
            sizes = ", ".join(f"{group.name} {group.size}" for group in groups)
            raise ConfigurationError(
                f"Structures: this network has {count} gates ({sizes}), hence 2^{count} structures; at most"
                f" {MAX_GATES} gates are enumerated. Take fewer nodes or predictors, or leave one of the groups"
                " ungated."
            )
        index = torch.arange(2**count)
        table = (index.unsqueeze(-1) >> torch.arange(count)) & 1
        names = tuple(name for group in groups for name in description.member_names(group.name))
        return cls(groups, table.double(), names)

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
        r""":math:`\log p(z)` of every structure, ``[2^K]``."""
        total = self.table.new_zeros(len(self))
        for group in self.groups:
            total = total + group.log_prior(self.table[:, self.columns(group.name)])
        return total

    def sizes(self, name: str) -> Tensor:
        """Number of open gates of a group in each structure, ``[2^K]``, integers."""
        return self.table[:, self.columns(name)].sum(-1).long()
