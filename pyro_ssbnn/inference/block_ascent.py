r"""Coordinate ascent over blocks of predictors in a linear model, in closed form.

Given the other blocks, the noise and the slab scales, the optimum of a block's laws
(:mod:`pyro_ssbnn.distributions.blocks`) is the posterior of a linear model with what the others explain taken off:

.. math:: \Lambda = s\,X_B^\top C X_B + \tau I,\qquad h = s\,X_B^\top C\,(y - X_{-B} E[v_{-B}]),\qquad
          q(z_B) \propto \exp\{E \log p(z) + \text{log evidence of } (h, \Lambda)_z\},

with s the precision of the noise, :math:`\tau` that of the slab, and the bias integrated out by
:math:`C = I - \kappa 1 1^\top`, :math:`\kappa = s/(sN + \tau)`. Blocks are taken in turns until nothing moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ssbnn.distributions.blocks import MOST_SETS, gates_of
from pyro_ssbnn.guides.joint_law import JointLaw
from pyro_ssbnn.inference.block_moments import BlockMoments, block_moments, outer
from pyro_ssbnn.inference.block_prior import BlockPrior
from pyro_ssbnn.inference.open_laws import Part, evidence, evidence_around, open_laws, parted
from pyro_ssbnn.inference.probable_sets import most_probable_sets, scored_neighbours
from pyro_ssbnn.structure.description import NetworkDescription

__all__ = ["BlockAscent", "Regression"]

_SWEEPS = 500
_NUMBERS = 2**23  # of the precisions of sets whose evidence is found together
_MOVED = 1e-6  # of a weight's mean, in standard deviations of the slab


class Regression(NamedTuple):
    """What the linear model takes from the laws of everything else, each ``[size]``.

    :param noise: precision of the noise, s.
    :param shrink: factor on the targets.
    :param slab: precision of the slab, :math:`\\tau`.
    :param log_slab: expected logarithm of its standard deviation.
    """

    noise: Tensor
    shrink: Tensor
    slab: Tensor
    log_slab: Tensor


class Fitted(NamedTuple):
    """Moments of the output f of the linear model, summed over the rows, each ``[size]``: E[y f] and E[f^2]."""

    cross: Tensor
    squares: Tensor


class _Table(NamedTuple):
    """Sets of a block: gates of its predictors and of its columns, ``[S, k]`` and ``[S, c]``."""

    gates: Tensor
    open: Tensor
    parts: list[Part]


class BlockAscent:
    """The data, and where the ascent has come to; in double precision.

    :param description: of the network.
    :param x: predictors ``[N, columns]``, float64.
    :param y: targets ``[N, size]``.
    :param weights: how often each row counts, ``[N]``. Rows are multiplied by their roots, a column of ones too.
    :param blocks: members of each block.
    :param mean: E[v] to start from, ``[size, columns]``.
    :param inclusion: inclusion probabilities to start from, ``[p]``.
    """

    def __init__(
        self,
        description: NetworkDescription,
        x: Tensor,
        y: Tensor,
        weights: Tensor,
        blocks: Sequence[Sequence[int]],
        mean: Tensor,
        inclusion: Tensor,
    ) -> None:
        self.one = weights.sqrt()
        self.x, self.y = self.one.unsqueeze(-1) * x, self.one.unsqueeze(-1) * y
        self.rows, self.mean = float(weights.sum()), mean.clone()
        x = self.x
        self.description, self.members = description, blocks
        self.prior = BlockPrior(description.inputs, blocks, inclusion.double())
        owners = description.inputs.columns.owners
        self.blocks, self.owners = [], []  # columns of each block, and whose they are in it
        for block in blocks:
            columns = torch.isin(owners, torch.tensor(block)).nonzero().flatten()
            self.blocks.append(columns.to(x.device))
            self.owners.append(
                torch.searchsorted(torch.tensor(block), owners[columns]).to(x.device)
            )
        self.sets = [self._first_sets(block, inclusion) for block in blocks]
        self.grams = [x[:, b].T @ x[:, b] for b in self.blocks]
        self.sums = self.one @ x
        self.moments: list[BlockMoments] = []
        self.given: Regression  # of the last ascent
        self.tables: dict[tuple[int, ...], _Table] = {}  # of all sets, by the block's owners

    def twin(self) -> BlockAscent:
        """The same, to go its own way from here."""
        other = copy(self)
        other.mean, other.prior = self.mean.clone(), self.prior.twin()
        other.sets, other.moments = [*self.sets], [*self.moments]
        return other

    def ascend(self, given: Regression, most: int = MOST_SETS) -> None:
        """All blocks in turns, then those that still move, until a turn of all moves none.

        :param most: sets that the law of a large block has, at most.
        """
        self.given = given
        y, scale = given.shrink * self.y, given.slab.rsqrt().unsqueeze(-1)
        kappa = given.noise / (given.noise * self.rows + given.slab)
        residual = y - self.x @ self.mean.T
        everyone = range(len(self.blocks))
        self.moments = self.moments or [None] * len(self.blocks)  # type: ignore[list-item]
        turn: Sequence[int] = everyone
        for _ in range(_SWEEPS):
            moved = []
            self.prior.renew()
            for index in turn:
                block = self.blocks[index]
                of_block, before = self.x[:, block], self.mean[:, block]
                around = residual + of_block @ before.T
                dots = of_block.T @ around - torch.outer(
                    self.sums[block], kappa * (self.one @ around)
                )
                found = self._best(index, (given.noise * dots).T, kappa, given, most)
                self.moments[index], self.mean[:, block] = found, found.mean
                residual = around - of_block @ found.mean.T
                if ((found.mean - before).abs() > _MOVED * scale).any():
                    moved.append(index)
            if len(everyone) == 1 or (not moved and len(turn) == len(everyone)):
                return
            turn = moved or everyone

    def _best(
        self, index: int, linear: Tensor, kappa: Tensor, given: Regression, most: int
    ) -> BlockMoments:
        """The best laws of a block.

        :param linear: h, ``[size, c]``.
        """
        sums, size = self.sums[self.blocks[index]], len(self.blocks[index])
        gram = self.grams[index] - kappa[:, None, None] * torch.outer(sums, sums)
        identity = torch.eye(size, dtype=gram.dtype, device=gram.device)
        precision = given.noise[:, None, None] * gram + given.slab[:, None, None] * identity
        members = len(self.members[index])
        if 2**members > MOST_SETS:
            self.sets[index] = self._most_probable(index, linear, precision, given, most)
        sets, table = self.sets[index], self._table(index)
        laws = open_laws(table.parts, linear, precision)
        explained = evidence(laws, len(sets), linear, given.log_slab)
        log_mass = (self.prior.of_sets(index, table.gates) + explained).log_softmax(0)
        self.prior.take(index, log_mass, table.gates)
        return block_moments(sets, table.open, log_mass, laws, linear, precision)

    def _table(self, index: int) -> _Table:
        """The sets of a block; blocks alike that have all sets share them."""
        members, owners = self.members[index], self.owners[index]
        alike = () if 2 ** len(members) > MOST_SETS else tuple(owners.tolist())
        if alike in self.tables:
            return self.tables[alike]
        gates = gates_of(self.sets[index], len(members), self.x)
        open = gates[:, owners]
        table = _Table(gates, open, parted(open))
        if alike:
            self.tables[alike] = table
        return table

    def _most_probable(
        self, index: int, linear: Tensor, precision: Tensor, given: Regression, most: int
    ) -> Tensor:
        """Sets of a large block that have a probability."""
        members, columns = len(self.members[index]), linear.shape[-1]

        def score(sets: Tensor) -> Tensor:
            parts = sets.split(max(1, _NUMBERS // columns**2))
            tables = [gates_of(part, members, linear) for part in parts]
            return torch.cat([score_of(table) for table in tables])

        def score_of(table: Tensor) -> Tensor:
            laws = open_laws(parted(table[:, self.owners[index]]), linear, precision)
            explained = evidence(laws, len(table), linear, given.log_slab)
            return self.prior.of_sets(index, table) + explained

        def near(sets: Tensor, scores: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
            parts = parted(gates_of(sets, members, linear), closed=True)
            laws = open_laws(parts, linear, precision)
            around = evidence_around(laws, linear, precision, given.slab, given.log_slab)
            return scored_neighbours(sets, scores, least, around, partial(self.prior.added, index))

        single = members == columns  # one column each
        begin = self.sets[index]
        return most_probable_sets(score, begin, members, most, near if single else None)

    def _first_sets(self, block: Sequence[int], inclusion: Tensor) -> Tensor:
        """All sets of a small block; of a large one no predictor, and those that are likely."""
        if 2 ** len(block) <= MOST_SETS:
            return torch.arange(2 ** len(block), device=self.x.device)
        bits = 1 << torch.arange(len(block), device=self.x.device)
        likely = (bits * (inclusion[list(block)] > 0.5).to(bits)).sum()
        return torch.stack([torch.zeros_like(likely), likely]).unique()

    def law(self, law: JointLaw, cell: int) -> Fitted:
        """Put the laws found into a cell of a joint law.

        :returns: what they fit.
        """
        given = self.given
        y, rows = given.shrink * self.y, given.noise * self.rows + given.slab
        kappa = given.noise / rows
        place = {tuple(members): m for members, m in zip(self.members, self.moments, strict=True)}
        for block in law.blocks:
            alike = [place[tuple(members)] for members in block.members.tolist()]
            for name in ("sets", "log_mass", "linear", "precision"):
                getattr(block, name)[cell] = torch.stack([getattr(m, name) for m in alike])
        bias = kappa * (self.one @ y - self.mean @ self.sums)
        open_mean = torch.cat([torch.zeros_like(self.mean), bias.unsqueeze(-1)], -1)
        linear = self.x @ self.mean.T  # without the bias
        squares, squared_sum = linear.square().sum(0), (self.one @ (y - linear)).square()
        total = torch.zeros_like(kappa)  # variance of what the weights add up to over the rows
        of_weights, log_scales, number = (
            torch.zeros_like(kappa),
            -0.5 * rows.log(),
            kappa.new_ones(()),
        )
        for b, m, gram in zip(self.blocks, self.moments, self.grams, strict=True):
            open_mean[:, b] = m.open_mean
            covariance = m.second - outer(m.mean)
            squares = squares + (covariance * gram).sum((-2, -1))
            total = total + (covariance @ self.sums[b]) @ self.sums[b]
            of_weights = of_weights + m.second.diagonal(dim1=-2, dim2=-1).sum(-1)
            log_scales, number = log_scales + m.log_scales, number + m.number
        squared_bias = kappa.square() * (squared_sum + total) + 1 / rows
        law.fill(
            cell,
            bias_mean=kappa * (self.one @ y),
            bias_slope=kappa.unsqueeze(-1) * self.sums,
            bias_scale=rows.rsqrt(),
            squares=of_weights + squared_bias,
            log_scales=log_scales,
            number=number,
            open_mean=open_mean,
        )
        # f = Xv + b with b = kappa 1'(y - Xv) + noise: E[b 1'Xv] has a mean and a covariance part.
        cross = (self.y * linear).sum(0) + bias * (self.one @ self.y)
        mixed = bias * (self.one @ linear) - kappa * total
        return Fitted(cross, squares + 2 * mixed + self.rows * squared_bias)
