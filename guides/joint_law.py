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
    r"""Joint law of gates and first-layer weights, as buffers; zeros until :func:`pyro_ssbnn.settle` fills them in.

    A network with one target has a law in each of several cells of its slab scale t, ranges of the positive numbers:
    how large weights may be decides what the data say of a gate, and the data may leave it open over orders of
    magnitude.

    :param description: of the network.
    :param blocks: ascending indices of the predictors of each block; together each predictor once.
    :param cells: their number, G.
    :param most: sets of a block of more than fourteen predictors; what a guide holds has :data:`MOST_SETS`.
    :raises ConfigurationError: unless the blocks are such a partition, none larger than :data:`MOST_LISTED`.

    :ivar shapes: columns of each predictor of a block, for every kind of block there is; laws of one kind are held
        together.

    Buffers beside those of the laws: ``edges``, slab scales at which cells meet, ``[G - 1]``; ``share``, their
    probabilities, ``[G]``; ``centred``, whether a cell's law is that of the effective weights t u given t, or of u
    itself, ``[G]``; ``unit``, what makes means of the law effective: E[t] of a cell whose law is that of u, else 1,
    ``[G, size]``.
    """

    def __init__(
        self,
        description: NetworkDescription,
        blocks: Sequence[Sequence[int]],
        cells: int = 1,
        most: int = MOST_SETS,
    ) -> None:
        super().__init__()
        inputs, size = description.inputs, description.groups[0].size
        _check(blocks, inputs.size)
        self.members = [list(block) for block in blocks]
        self.cells = cells
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
            sets = torch.arange(num_sets(len(shape), most)).repeat(cells, count, 1)
            listed = 2 ** len(shape) > MOST_SETS  # which sets they are is part of the law
            self.register_buffer(f"sets_{number}", sets, persistent=listed)
            self.register_buffer(f"log_mass_{number}", torch.zeros(sets.shape))
            self.register_buffer(f"linear_{number}", torch.zeros(cells, count, size, c))
            self.register_buffer(f"precision_{number}", torch.zeros(cells, count, size, c, c))
        every = inputs.num_columns
        self.register_buffer("bias_mean", torch.zeros(cells, size))
        self.register_buffer("bias_slope", torch.zeros(cells, size, every))
        self.register_buffer("bias_scale", torch.ones(cells, size))
        self.register_buffer("squares", torch.zeros(cells, size))
        self.register_buffer("log_scales", torch.zeros(cells, size))
        self.register_buffer("number", torch.zeros(cells))
        self.register_buffer("open_mean", torch.zeros(cells, size, every + 1))
        self.register_buffer("edges", torch.zeros(cells - 1))
        self.register_buffer("share", torch.full((cells,), 1 / cells))
        self.register_buffer("centred", torch.zeros(cells, dtype=torch.bool))
        self.register_buffer("unit", torch.ones(cells, size))

    def fill(self, cell: int, **values: Tensor) -> None:
        """Set a cell's rows of buffers by their names."""
        for name, value in values.items():
            self.get_buffer(name)[cell] = value

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
        """Law of the predictors' gates, over all cells."""
        return BlockGate(self.blocks, self.get_buffer("share"))

    def cells_of(self, unit: Tensor | None) -> Tensor:
        """Cells that slab scales are in: ``[...]``, int64, of ``[..., size]``; of none, a scalar 0."""
        edges = self.get_buffer("edges")
        if unit is None or self.cells == 1:
            return torch.zeros((), dtype=torch.int64, device=edges.device)
        return torch.bucketize(unit.detach()[..., 0].contiguous(), edges, right=True)

    def weights(
        self, gates: Tensor, cells: Tensor, prior_scale: float, unit: Tensor | None
    ) -> BlockNormal:
        """Law of the standardised weights given gates ``[..., p]``, slab scales ``[..., size]`` and their cells."""
        closed = self.get_buffer("number").new_full((), prior_scale)
        if unit is not None:
            centred = self.get_buffer("centred")[cells].unsqueeze(-1)
            unit = torch.where(centred, unit, torch.ones_like(unit))
        return BlockNormal(self.blocks, self.bias, self.moments, gates, cells, closed, unit)

    def marginal_logits(self) -> Tensor:
        """Log-odds of each predictor's inclusion, ``[p]``; finite where probabilities round to 0 or 1."""
        share = self.get_buffer("share")
        out = share.new_zeros(sum(len(block) for block in self.members))
        never = share.new_full((), -torch.inf)
        for block in self.blocks:
            odds = []
            for table, mass in zip(block.tables, block.log_mass.unsqueeze(-1), strict=True):
                rows = table.bool()
                odds.append([torch.where(r, mass, never).logsumexp(1) for r in (rows, ~rows)])
            each = torch.stack([torch.stack(pair) for pair in odds])  # [G, 2, b, k]
            both = (each + share.log()[:, None, None, None]).logsumexp(0)
            out[block.members] = both[0] - both[1]
        return out

    def open_means(self) -> Tensor:
        """Mean of each effective weight given that its own gate is open, bias last, ``[size, columns + 1]``."""
        share = self.get_buffer("share")
        open = share.new_ones(self.cells, self.get_buffer("open_mean").shape[-1])
        for block in self.blocks:
            open[:, block.columns] = block.inclusion[..., block.owners]
        weight = (share.unsqueeze(-1) * open).clamp_min(torch.finfo(share.dtype).tiny)
        weight = weight / weight.sum(0)
        effective = self.get_buffer("open_mean") * self.get_buffer("unit").unsqueeze(-1)
        return torch.einsum("gc,gjc->jc", weight, effective)

    def conditional_mean(self, open: Tensor) -> Tensor:
        """Mean of all effective weights, closed ones 0, bias last, ``[size, columns + 1]``, given gates ``[p]``."""
        share, bias = self.get_buffer("share"), self.bias
        cells = torch.arange(self.cells, device=share.device)
        mean = torch.zeros_like(bias.slope)
        for block in self.blocks:
            _, of_block = block.given(open[block.members].expand(self.cells, -1, -1), cells)
            mean[..., block.columns] = of_block.transpose(-3, -2)
        own = bias.mean - (bias.slope * mean).sum(-1)
        effective = torch.cat([mean, own.unsqueeze(-1)], -1) * self.get_buffer("unit").unsqueeze(-1)
        law = self.gates.given(cells)
        log_mass = law.log_prob(open.expand(self.cells, -1)).sum(-1)
        if not log_mass.isfinite().any():  # gates that no cell has listed
            log_mass = torch.zeros_like(log_mass)
        return torch.einsum("g,gjc->jc", (log_mass + share.log()).softmax(0), effective)


def _check(blocks: Sequence[Sequence[int]], size: int) -> None:
    every = sorted(i for block in blocks for i in block)
    if every != list(range(size)) or max(len(block) for block in blocks) > MOST_LISTED:
        raise ConfigurationError(
            f"BlockGuide: blocks must hold each of the {size} predictors once, at most {MOST_LISTED} in a block; got"
            f" {[list(block) for block in blocks]}."
        )
