r"""Joint laws of predictors in blocks: any law of a block's gates, and weights that follow them as a Normal does.

Predictors are parted into blocks of a few that compete. Blocks are independent, and within a block B of k predictors

.. math:: q(z_B) \text{ is a table of probabilities},\qquad
          q(v_{jB} \mid z_B) = N\big(\Lambda_{zz}^{-1} h_z,\ \Lambda_{zz}^{-1}\big),

of all :math:`2^k` sets of up to fourteen predictors, or of the :data:`MOST_SETS` most probable ones of more (all others
have probability 0). :math:`v_{jB}` are the weights of node j that are open, and z picks their rows and columns of the
block's *linear part* h and *precision* :math:`\Lambda`. Closed weights follow their prior. The bias follows all
weights,

.. math:: v_{j0} \mid v \sim N\big(c_j - \textstyle\sum_i g_{ji} z_i v_{ji},\ s_j^2\big).

For a linear network with Gaussian noise this is the family in which the exact posterior lies where one block holds all
predictors: there :math:`\Lambda = X^\top X/\sigma^2 + I/\sigma_0^2` and :math:`h = X^\top y/\sigma^2` with the bias
integrated out, and :math:`q(z) \propto p(z)\,p(y | z)` (:func:`block_evidence`).

All of it may depend on the slab scale, which says what an open gate stands for: its range is cut into G *cells*, with
a law in each. Blocks are independent given the cell.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import register_kl
from torch.types import _size

from pyro_ssbnn.distributions.gate import Gate, gate_values

__all__ = [
    "MOST_SETS",
    "BiasLaw",
    "Block",
    "BlockGate",
    "WeightMoments",
    "gates_of",
    "num_sets",
    "open_normal",
]

MOST_SETS = 16_384
"""Sets that a block's law is a table of, at most: all those of fourteen predictors."""


def num_sets(members: int, most: int = MOST_SETS) -> int:
    """Length of the table of a block of so many predictors; of a large one, so many sets."""
    return 2**members if 2**members <= MOST_SETS else most


def gates_of(sets: Tensor, members: int, like: Tensor) -> Tensor:
    """Gates ``[..., k]`` of sets of a block's predictors: gate i is open where bit i of the number is one."""
    bits = torch.arange(members, device=sets.device)
    return ((sets.unsqueeze(-1) >> bits) & 1).to(like.dtype)


@dataclass(frozen=True)
class Block:
    """The laws of b blocks of the same shape: k predictors that have c columns of x, and as many weights of a node.

    There is one law for each of G cells of the slab scale.

    :param members: predictors of each block, ``[b, k]``.
    :param columns: their columns, ``[b, c]``.
    :param owners: place among the k of the predictor that each column belongs to, ``[c]``.
    :param sets: those that have a probability, ascending numbers (:func:`gates_of`), ``[G, b, S]``, int64.
    :param log_mass: log q(z) of each of them, ``[G, b, S]``.
    :param linear: h of every node, ``[G, b, size, c]``.
    :param precision: :math:`\\Lambda`, ``[G, b, size, c, c]``.
    """

    members: Tensor
    columns: Tensor
    owners: Tensor
    sets: Tensor
    log_mass: Tensor
    linear: Tensor
    precision: Tensor

    @property
    def tables(self) -> Iterator[Tensor]:
        """Gates of all sets, ``[b, S, k]``, cell by cell."""
        return (gates_of(sets, self.members.shape[-1], self.log_mass) for sets in self.sets)

    @property
    def inclusion(self) -> Tensor:
        """Inclusion probabilities, ``[G, b, k]``."""
        masses = self.log_mass.exp().unsqueeze(-2)
        each = [m @ table for m, table in zip(masses, self.tables, strict=True)]
        return torch.stack(each).squeeze(-2)

    def given(self, gates: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Cholesky root of the precision and mean of the weights, given gates and cells.

        :param gates: ``[..., b, k]``.
        :param cells: ``[...]``, int64.
        :returns: roots ``[..., b, size, c, c]``, of the identity in the rows of closed weights, and means
            ``[..., b, size, c]``, there 0.
        """
        open = gates[..., self.owners].unsqueeze(-2)
        return open_normal(open, self.linear[cells], self.precision[cells])


class BiasLaw(NamedTuple):
    """Law of the biases given the weights, N(mean - slope' v, scale^2).

    Mean and scale are ``[G, size]``, the slope ``[G, size, columns]``.
    """

    mean: Tensor
    slope: Tensor
    scale: Tensor


class WeightMoments(NamedTuple):
    """What the KL of a node's weights is made of, each averaged over the gates.

    :param squares: E of the sum of squares of the open weights, bias included, ``[G, size]``.
    :param log_scales: E of half the log-determinant of their covariance, ``[G, size]``.
    :param number: expected number of open weights, ``[G]``.
    """

    squares: Tensor
    log_scales: Tensor
    number: Tensor

    def kl(self, cells: Tensor, scale: Tensor) -> Tensor:
        r"""KL from N(0, scale^2 I), averaged over the gates, ``[..., size]``.

        .. math:: \frac{E\lVert v\rVert^2}{2 s^2} - \tfrac12 E\log|\Sigma_z| - \tfrac12 E|z| + E|z| \log s

        :param cells: ``[...]``, int64.
        :param scale: s, the slab scale among it where the weights are effective ones, ``[..., size]``.
        """
        of_squares = 0.5 * self.squares[cells] / scale.square()
        number = self.number[cells].unsqueeze(-1)
        return of_squares - self.log_scales[cells] + number * (scale.log() - 0.5)


def open_normal(gates: Tensor, linear: Tensor, precision: Tensor) -> tuple[Tensor, Tensor]:
    r"""Root of :math:`\Lambda_{zz}` and the mean :math:`\Lambda_{zz}^{-1}h_z` of the weights that are open.

    :param gates: ``[..., k]``, linear part h ``[..., k]`` and precision ``[..., k, k]`` broadcast with them.
    :returns: Cholesky roots ``[..., k, k]``, of the identity in the rows of closed weights, so that all sets share one
        shape, and means ``[..., k]``, there 0.
    """
    masked = precision * gates.unsqueeze(-1) * gates.unsqueeze(-2)
    root = torch.linalg.cholesky(masked + torch.diag_embed(1 - gates))
    right = (gates * linear).unsqueeze(-1)
    return root, torch.cholesky_solve(right, root).squeeze(-1)


class BlockGate(TorchDistribution):
    """Gates of p predictors in blocks, one joint draw in the last batch dimension.

    The entries of :meth:`log_prob`, ``[..., p]``, *sum* to the joint log-mass; a single one means nothing. So do those
    of the KL. Draws carry no gradient: the law is not one that is trained.

    :param blocks: all blocks; every predictor is in one. They are independent given the cell.
    :param share: probability of each cell, ``[G]``.
    :param cells: the law given these cells, ``[...]``, int64, the batch dimensions before the last; None for the law
        over all cells.
    """

    arg_constraints = {}  # noqa: RUF012
    support = gate_values
    has_rsample = False

    def __init__(
        self,
        blocks: Sequence[Block],
        share: Tensor,
        cells: Tensor | None = None,
        batch_shape: _size | None = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.blocks, self.share, self.cells = tuple(blocks), share, cells
        if batch_shape is None:
            size = sum(block.members.numel() for block in self.blocks)
            batch_shape = [*(() if cells is None else cells.shape), size]
        super().__init__(Size(batch_shape), Size(), validate_args=validate_args)

    def expand(self, batch_shape: _size, _instance: BlockGate | None = None) -> BlockGate:
        """Expand the batch shape; the last dimension stays the p gates of one draw."""
        return type(self)(self.blocks, self.share, self.cells, batch_shape, validate_args=False)

    def given(self, cells: Tensor) -> BlockGate:
        """The law given cells ``[...]``."""
        return type(self)(self.blocks, self.share, cells, validate_args=False)

    def of_cells(self, each: Tensor) -> Tensor:
        """What belongs to cells, ``[G]``, as equal shares of each gate, ``[..., p]``.

        :raises NotImplementedError: for the law over several cells, which has no KL in closed form.
        """
        if self.cells is None and len(self.share) > 1:
            raise NotImplementedError("the KL of a law over several cells has no closed form")
        own = each[0] if self.cells is None else each[self.cells]
        return (own / self.batch_shape[-1]).unsqueeze(-1).expand(self.batch_shape)

    @property
    def mean(self) -> Tensor:
        """Marginal inclusion probabilities, ``[p]``; given cells, ``[..., p]``."""
        out = self.share.new_zeros(len(self.share), self.batch_shape[-1])
        for block in self.blocks:
            out[:, block.members] = block.inclusion
        return self.share @ out if self.cells is None else out[self.cells]

    def sample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008
        """Draw gates, ``sample_shape + batch_shape``."""
        shape = self._extended_shape(sample_shape)
        out = self.share.new_zeros(shape)
        with torch.no_grad():
            cells = self._drawn_cells(shape[:-1]).flatten()
            for block in self.blocks:
                # Cell g's masses add up from g to g + 1, so that one search serves all of them.
                cumulated = block.log_mass.double().exp().cumsum(-1)
                cumulated = cumulated / cumulated[..., -1:]
                steps = torch.arange(len(cumulated), device=out.device)[:, None, None]
                cumulated = (cumulated + steps).transpose(0, 1).flatten(1)
                uniform = torch.rand(
                    len(cumulated), len(cells), dtype=torch.float64, device=out.device
                )
                index = torch.searchsorted(cumulated, cells + uniform, right=True)
                sets = block.sets.transpose(0, 1).flatten(1)
                drawn = sets.gather(-1, index.clamp_max(sets.shape[-1] - 1))
                gates = gates_of(drawn, block.members.shape[-1], out)
                out[..., block.members] = gates.transpose(0, 1).reshape(
                    *shape[:-1], *block.members.shape
                )
        return out

    def log_prob(self, value: Tensor) -> Tensor:
        """Equal shares ``[..., p]`` of the joint log-mass of gates that are 0 or 1; -inf where that is not listed."""
        if self._validate_args:
            self._validate_sample(value)
        if self.cells is not None:
            total = self._log_mass(value, self.cells.expand(value.shape[:-1]))
        else:
            cells = torch.arange(len(self.share), device=value.device)
            each = [self._log_mass(value, cell.expand(value.shape[:-1])) for cell in cells]
            total = (torch.stack(each, -1) + self.share.log()).logsumexp(-1)
        size = value.shape[-1]
        return (total / size).unsqueeze(-1).expand(*value.shape[:-1], size)

    def _drawn_cells(self, shape: Size) -> Tensor:
        if self.cells is not None:
            return self.cells.expand(shape)
        if len(self.share) == 1:
            return torch.zeros(shape, dtype=torch.int64, device=self.share.device)
        return torch.multinomial(self.share, math.prod(shape), replacement=True).view(shape)

    def _log_mass(self, value: Tensor, cells: Tensor) -> Tensor:
        """Joint log-mass of gates ``[..., p]`` given cells ``[...]``."""
        total = value.new_zeros(value.shape[:-1])
        for block in self.blocks:
            k = block.members.shape[-1]
            bits = 2 ** torch.arange(k, device=value.device)
            drawn = (value[..., block.members].round().long() * bits).sum(-1)
            # A cell is written before the bits of the set: numbers ascend over all cells.
            drawn = (drawn + (cells << k).unsqueeze(-1)).movedim(-1, 0).flatten(1).contiguous()
            steps = torch.arange(len(self.share), device=value.device)[:, None, None]
            sets = (block.sets + (steps << k)).transpose(0, 1).flatten(1)  # [b, G S]
            place = torch.searchsorted(sets, drawn).clamp_max(sets.shape[-1] - 1)
            masses = block.log_mass.transpose(0, 1).flatten(1)
            never = masses.new_full((), -torch.inf)
            each = torch.where(sets.gather(-1, place) == drawn, masses.gather(-1, place), never)
            total = total + each.sum(0).reshape(total.shape)
        return total


@register_kl(BlockGate, Gate)
def kl_block_gate_gate(q: BlockGate, p: Gate) -> Tensor:
    """Shares ``[..., p]`` of the exact KL given the cells, summed over the tables of all blocks."""
    prior = p.logits.expand(q.batch_shape)[(0,) * (len(q.batch_shape) - 1)]
    total = torch.nn.functional.softplus(prior).sum()
    for block in q.blocks:
        entropy = torch.special.entr(block.log_mass.exp()).sum((-2, -1))
        total = total - entropy - (block.inclusion * prior[block.members]).sum((-2, -1))
    return q.of_cells(total)
