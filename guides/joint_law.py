"""The joint law that a linear network's predictors settle to, as tensors that a guide holds and a file keeps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pyro_ssbnn.distributions.block_weights import BlockNormal
from pyro_ssbnn.distributions.blocks import (
    MOST_SETS,
    BiasLaw,
    Block,
    BlockGate,
    WeightMoments,
    num_sets,
)
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.structure.description import NetworkDescription

__all__ = ["MOST_LISTED", "MOST_TOGETHER", "JointLaw"]

MOST_TOGETHER = 12
"""Predictors of a block at most that may correlate by chance: 4,096 sets."""
MOST_LISTED = 50
"""Predictors of a block at most that correlate by more."""

_LAW = ("sets", "log_mass", "linear", "precision")


class JointLaw(nn.Module):
    """Joint law of gates and first-layer weights, as buffers; zeros until :func:`pyro_ssbnn.settle` fills them in.

    :param description: of the network.
    :param blocks: ascending indices of the predictors of each block; together each predictor once.
    :param centred: whether the law is that of the effective weights t u given the slab scale t, or of u itself.
    :raises ConfigurationError: unless the blocks are such a partition, none larger than :data:`MOST_LISTED`.

    :ivar shapes: columns of each predictor of a block, for every kind of block there is; laws of one kind are held
        together.
    """

    def __init__(
        self,
        description: NetworkDescription,
        blocks: Sequence[Sequence[int]],
        centred: bool = False,
    ) -> None:
        super().__init__()
        inputs, size = description.inputs, description.groups[0].size
        _check(blocks, inputs.size)
        self.members = [list(block) for block in blocks]
        self.centred = centred
        widths = inputs.widths or (1,) * inputs.size
        kinds: dict[tuple[int, ...], list[list[int]]] = {}
        for block in self.members:
            kinds.setdefault(tuple(widths[i] for i in block), []).append(block)
        self.shapes = list(kinds)
        places = torch.arange(inputs.num_columns).split(list(widths))
        for number, (shape, alike) in enumerate(kinds.items()):
            columns = torch.stack([torch.cat([places[i] for i in block]) for block in alike])
            owners = torch.arange(len(shape)).repeat_interleave(torch.tensor(shape))
            count, c = columns.shape
            fixed = {"members": torch.tensor(alike), "columns": columns, "owners": owners}
            for name, value in fixed.items():
                self.register_buffer(f"{name}_{number}", value, persistent=False)
            sets = torch.arange(num_sets(len(shape))).repeat(count, 1)
            listed = 2 ** len(shape) > MOST_SETS  # which sets they are is part of the law
            self.register_buffer(f"sets_{number}", sets, persistent=listed)
            self.register_buffer(f"log_mass_{number}", torch.zeros(sets.shape))
            self.register_buffer(f"linear_{number}", torch.zeros(count, size, c))
            self.register_buffer(f"precision_{number}", torch.zeros(count, size, c, c))
        self.register_buffer("bias_mean", torch.zeros(size))
        self.register_buffer("bias_slope", torch.zeros(size, inputs.num_columns))
        self.register_buffer("bias_scale", torch.ones(size))
        self.register_buffer("squares", torch.zeros(size))
        self.register_buffer("log_scales", torch.zeros(size))
        self.register_buffer("number", torch.zeros(()))
        self.register_buffer("open_mean", torch.zeros(size, inputs.num_columns + 1))

    def fill(self, **values: Tensor) -> None:
        """Set buffers by their names."""
        for name, value in values.items():
            self.get_buffer(name).copy_(value)

    @property
    def open_means(self) -> Tensor:
        """E[v] of each weight given that its own gate is open, bias last, ``[size, columns + 1]``."""
        return self.get_buffer("open_mean")

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Laws of the blocks, those of one shape together."""
        names = ("members", "columns", "owners", *_LAW)
        kinds = range(len(self.shapes))
        return tuple(Block(*(self.get_buffer(f"{name}_{n}") for name in names)) for n in kinds)

    @property
    def bias(self) -> BiasLaw:
        """Law of the biases."""
        return BiasLaw(*(self.get_buffer(f"bias_{name}") for name in BiasLaw._fields))

    @property
    def moments(self) -> WeightMoments:
        """What the KL of the weights is made of."""
        return WeightMoments(*(self.get_buffer(name) for name in WeightMoments._fields))

    @property
    def gates(self) -> BlockGate:
        """Law of the predictors' gates."""
        return BlockGate(self.blocks)

    def weights(self, gates: Tensor, prior_scale: float, unit: Tensor | None) -> BlockNormal:
        """Law of the standardised weights given gates ``[..., p]`` and slab scales ``[..., size]``."""
        closed = self.get_buffer("number").new_full((), prior_scale)
        own = unit if self.centred else None
        return BlockNormal(self.blocks, self.bias, self.moments, gates, closed, own)

    def marginal_logits(self) -> Tensor:
        """Log-odds of each predictor's inclusion, ``[p]``; finite where probabilities round to 0 or 1."""
        out = self.get_buffer("number").new_zeros(sum(len(block) for block in self.members))
        for block in self.blocks:
            table, mass = block.table.bool(), block.log_mass.unsqueeze(-1)
            never = mass.new_full((), -torch.inf)
            odds = [torch.where(rows, mass, never).logsumexp(1) for rows in (table, ~table)]
            out[block.members] = odds[0] - odds[1]
        return out

    def conditional_mean(self, open: Tensor) -> Tensor:
        """E[v | z] of all weights, closed ones 0, bias last, ``[size, columns + 1]``, given gates ``[p]``."""
        bias = self.bias
        mean = torch.zeros_like(bias.slope)
        for block in self.blocks:
            _, of_block = block.given(open[block.members])
            mean[:, block.columns] = of_block.transpose(0, 1)
        own = bias.mean - (bias.slope * mean).sum(-1)
        return torch.cat([mean, own.unsqueeze(-1)], -1)


def _check(blocks: Sequence[Sequence[int]], size: int) -> None:
    every = sorted(i for block in blocks for i in block)
    if every != list(range(size)) or max(len(block) for block in blocks) > MOST_LISTED:
        raise ConfigurationError(
            f"BlockGuide: blocks must hold each of the {size} predictors once, at most {MOST_LISTED} in a block; got"
            f" {[list(block) for block in blocks]}."
        )
