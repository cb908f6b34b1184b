r"""Coordinate ascent over blocks of predictors in a linear model, in closed form.

Given the other blocks, the noise and the slab scales, the optimum of a block's laws
(:mod:`pyro_ssbnn.distributions.blocks`) is the posterior of a linear model with what the others explain taken off:

.. math:: \Lambda = s\,X_B^\top C X_B + \tau I,\qquad h = s\,X_B^\top C\,(y - X_{-B} E[v_{-B}]),\qquad
          q(z_B) \propto \exp\{E \log p(z) + \text{log evidence of } (h, \Lambda)_z\},

with s the precision of the noise, :math:`\tau` that of the slab, and the bias integrated out by
:math:`C = I - \kappa 1 1^\top`, :math:`\kappa = s/(sN + \tau)`. Blocks are taken in turns until nothing moves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ssbnn.distributions.blocks import MOST_SETS, block_evidence, gates_of
from pyro_ssbnn.guides.joint_law import MOST_LISTED, MOST_TOGETHER, JointLaw
from pyro_ssbnn.inference.block_moments import BlockMoments, block_moments, open_alone, outer
from pyro_ssbnn.inference.block_prior import BlockPrior
from pyro_ssbnn.inference.probable_sets import most_probable_sets
from pyro_ssbnn.structure.axes import Axis
from pyro_ssbnn.structure.description import NetworkDescription

__all__ = ["BlockAscent", "Regression", "correlated_blocks", "correlations"]

_SWEEPS = 500
_MOVED = 1e-6  # of a weight's mean, in standard deviations of the slab
_CORRELATED = 0.2  # less is left to the means of other blocks
_NUMBERS = 2**23  # of the precisions of sets whose evidence is found together
_COLUMNS = 3  # of a block, for each predictor that it has room for


def correlations(x: Tensor, columns: Axis) -> Tensor:
    """Largest absolute correlation of any columns of two predictors, ``[p, p]``, in double precision.

    :param x: predictors ``[N, columns]``.
    :param columns: whose columns they are.
    """
    p, owners = columns.size, columns.owners.to(x.device)
    centred = x.detach().double() - x.detach().double().mean(0)
    unit = centred / centred.norm(dim=0).clamp_min(torch.finfo(torch.float64).tiny)
    of_columns = (unit.T @ unit).abs()
    found = of_columns.new_zeros(p * p)
    pairs = (owners.unsqueeze(-1) * p + owners).flatten()
    return found.scatter_reduce(0, pairs, of_columns.flatten(), "amax").view(p, p)


def correlated_blocks(
    x: Tensor, columns: Axis, most: int = MOST_TOGETHER, listed: int = MOST_LISTED
) -> list[list[int]]:
    r"""Predictors that compete: pairs in the order of their correlation, joined while a block has room.

    Up to twelve predictors are one block where there is room for them. Otherwise a pair is joined whose correlation,
    the largest of any two of their columns, exceeds 0.2 and :math:`3/\sqrt N`, what chance hardly makes of one pair.
    Blocks grow beyond twelve by what it hardly makes of any, :math:`(\sqrt{2\log m} + 1/2)/\sqrt N`, m the number
    of pairs.

    :param x: predictors ``[N, columns]``.
    :param columns: whose columns they are.
    :param most: members of a block at most, and a third of its columns.
    :param listed: members, and columns, of a block whose members correlate so much.
    :returns: ascending indices of each block, blocks in the order of their first members.
    """
    p, owners = columns.size, columns.owners.to(x.device)
    widths = owners.bincount(minlength=p).tolist()
    if p <= most and len(owners) <= _COLUMNS * most:
        return [list(range(p))]
    correlation = correlations(x, columns).triu(1)
    chance, root = math.sqrt(2 * math.log(max(1, p * (p - 1) / 2))) + 0.5, math.sqrt(len(x))
    high = (correlation > max(_CORRELATED, 3 / root)).nonzero()
    found = correlation[high[:, 0], high[:, 1]]
    order = found.argsort(descending=True, stable=True)
    strong = (found[order] > max(_CORRELATED, chance / root)).tolist()
    block_of = {j: [j] for j in range(p)}
    for (i, j), close in zip(high[order].tolist(), strong, strict=True):
        one, other = block_of[i], block_of[j]
        together = sum(widths[m] for m in (*one, *other))
        room = listed if close else most
        if one is other or len(one) + len(other) > room or together > max(_COLUMNS * most, room):
            continue
        one += other
        block_of |= dict.fromkeys(other, one)
    return [sorted(b) for b in {id(b): b for b in block_of.values()}.values()]


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

    def twin(self) -> BlockAscent:
        """The same, to go its own way from here."""
        other = copy(self)
        other.mean, other.prior = self.mean.clone(), self.prior.twin()
        other.sets, other.moments = [*self.sets], [*self.moments]
        return other

    def ascend(self, given: Regression) -> None:
        """All blocks in turns, then those that still move, until a turn of all moves none."""
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
                found = self._best(index, (given.noise * dots).T, kappa, given)
                self.moments[index], self.mean[:, block] = found, found.mean
                residual = around - of_block @ found.mean.T
                if ((found.mean - before).abs() > _MOVED * scale).any():
                    moved.append(index)
            if not moved and turn is everyone:
                return
            turn = moved or everyone

    def _best(self, index: int, linear: Tensor, kappa: Tensor, given: Regression) -> BlockMoments:
        """The best laws of a block.

        :param linear: h, ``[size, c]``.
        """
        sums, size = self.sums[self.blocks[index]], len(self.blocks[index])
        gram = self.grams[index] - kappa[:, None, None] * torch.outer(sums, sums)
        identity = torch.eye(size, dtype=gram.dtype, device=gram.device)
        precision = given.noise[:, None, None] * gram + given.slab[:, None, None] * identity
        members = len(self.members[index])

        def score(sets: Tensor) -> Tensor:
            parts = sets.split(max(1, _NUMBERS // size**2))
            each = [self._log_joint(index, part, linear, precision, given) for part in parts]
            return torch.cat(each)

        if 2**members > MOST_SETS:
            self.sets[index], scores = most_probable_sets(score, self.sets[index], members)
        else:
            scores = score(self.sets[index])
        table, log_mass = gates_of(self.sets[index], members, linear), scores.log_softmax(0)
        self.prior.take(index, log_mass, table)
        open = table[:, self.owners[index]]
        return block_moments(self.sets[index], open, log_mass, linear, precision)

    def _log_joint(
        self, index: int, sets: Tensor, linear: Tensor, precision: Tensor, given: Regression
    ) -> Tensor:
        """Log prior and evidence of sets of a block, up to a constant, ``[n]``."""
        table = gates_of(sets, len(self.members[index]), linear)
        open = table[:, self.owners[index]]
        if table.shape[-1] > MOST_TOGETHER:
            _, open, linear, precision = open_alone(open, linear, precision)
        evidence = block_evidence(open, linear, precision, given.log_slab)
        return self.prior.of_sets(index, table) + evidence

    def _first_sets(self, block: Sequence[int], inclusion: Tensor) -> Tensor:
        """All sets of a small block; of a large one no predictor, and those that are likely."""
        if 2 ** len(block) <= MOST_SETS:
            return torch.arange(2 ** len(block), device=self.x.device)
        bits = 1 << torch.arange(len(block), device=self.x.device)
        likely = (bits * (inclusion[list(block)] > 0.5).to(bits)).sum()
        return torch.stack([torch.zeros_like(likely), likely]).unique()

    def law(self, given: Regression, law: JointLaw, cell: int) -> Fitted:
        """Put the laws found into a cell of a joint law.

        :returns: what they fit.
        """
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
