r"""Joint laws of predictors in blocks: any law of a block's gates, and weights that follow them as a Normal does.

Predictors are parted into blocks of a few that compete. Blocks are independent, and within a block B of k predictors

.. math:: q(z_B) \text{ is a table of } 2^k \text{ probabilities},\qquad
          q(v_{jB} \mid z_B) = N\big(\Lambda_{zz}^{-1} h_z,\ \Lambda_{zz}^{-1}\big),

where :math:`v_{jB}` are the weights of node j that are open, and z picks their rows and columns of the block's *linear
part* h and *precision* :math:`\Lambda`. Closed weights follow their prior. The bias follows all weights,

.. math:: v_{j0} \mid v \sim N\big(c_j - \textstyle\sum_i g_{ji} z_i v_{ji},\ s_j^2\big).

For a linear network with Gaussian noise this is the family in which the exact posterior lies where one block holds all
predictors: there :math:`\Lambda = X^\top X/\sigma^2 + I/\sigma_0^2` and :math:`h = X^\top y/\sigma^2` with the bias
integrated out, and :math:`q(z) \propto p(z)\,p(y | z)` (:func:`block_evidence`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import register_kl
from torch.types import _size

from pyro_ssbnn.distributions.coupled import gate_table
from pyro_ssbnn.distributions.gate import Gate, gate_values

__all__ = [
    "BiasLaw",
    "Block",
    "BlockGate",
    "WeightMoments",
    "block_evidence",
    "open_normal",
]


@dataclass(frozen=True)
class Block:
    """The laws of b blocks of the same shape: k predictors that have c columns of x, and as many weights of a node.

    :param members: predictors of each block, ``[b, k]``.
    :param columns: their columns, ``[b, c]``.
    :param owners: place among the k of the predictor that each column belongs to, ``[c]``.
    :param log_mass: log q(z) of every row of the table of a block's gates, ``[b, 2^k]``.
    :param linear: h of every node, ``[b, size, c]``.
    :param precision: :math:`\\Lambda`, ``[b, size, c, c]``.
    """

    members: Tensor
    columns: Tensor
    owners: Tensor
    log_mass: Tensor
    linear: Tensor
    precision: Tensor

    @property
    def table(self) -> Tensor:
        """All gates of a block, ``[2^k, k]``."""
        return gate_table(self.members.shape[-1], self.log_mass)

    def given(self, gates: Tensor) -> tuple[Tensor, Tensor]:
        """Cholesky root of the precision and mean of the weights, given gates.

        :param gates: ``[..., b, k]``.
        :returns: roots ``[..., b, size, c, c]``, of the identity in the rows of closed weights, and means
            ``[..., b, size, c]``, there 0.
        """
        open = gates[..., self.owners].unsqueeze(-2)
        return open_normal(open, self.linear, self.precision)


class BiasLaw(NamedTuple):
    """Law of the biases given the weights, N(mean - slope' v, scale^2): ``[size]``, ``[size, columns]``, ``[size]``."""

    mean: Tensor
    slope: Tensor
    scale: Tensor


class WeightMoments(NamedTuple):
    """What the KL of a node's weights is made of, each averaged over the gates.

    :param squares: E of the sum of squares of the open weights, bias included, ``[size]``.
    :param log_scales: E of half the log-determinant of their covariance, ``[size]``.
    :param number: expected number of open weights, a scalar.
    """

    squares: Tensor
    log_scales: Tensor
    number: Tensor


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


def block_evidence(gates: Tensor, linear: Tensor, precision: Tensor, log_slab: Tensor) -> Tensor:
    r"""Log evidence of sets of predictors, up to a constant that all sets share, ``[...]``.

    .. math:: \sum_j \tfrac12 h_z^\top\Lambda_{zz}^{-1}h_z - \tfrac12\log|\Lambda_{zz}| - |z|\,E\log(t_j\sigma_0)

    :param gates: those of the c columns, ``[..., c]``.
    :param linear: h, ``[size, c]``.
    :param precision: :math:`\Lambda`, ``[size, c, c]``, the prior's among it.
    :param log_slab: :math:`E\log(t_j\sigma_0)`, ``[size]``.
    """
    root, mean = open_normal(gates.unsqueeze(-2), linear, precision)
    explained = 0.5 * (mean * linear).sum(-1)
    log_det = root.diagonal(dim1=-1, dim2=-2).log().sum(-1)
    return (explained - log_det - gates.sum(-1, keepdim=True) * log_slab).sum(-1)


class BlockGate(TorchDistribution):
    """Gates of p predictors in independent blocks, one joint draw in the last batch dimension.

    The entries of :meth:`log_prob`, ``[..., p]``, *sum* to the joint log-mass; a single one means nothing. So do those
    of the KL. Draws carry no gradient: the law is not one that is trained.

    :param blocks: all blocks; every predictor is in one.
    """

    arg_constraints = {}  # noqa: RUF012
    support = gate_values
    has_rsample = False

    def __init__(
        self,
        blocks: Sequence[Block],
        batch_shape: _size | None = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.blocks = tuple(blocks)
        size = sum(block.members.numel() for block in self.blocks)
        super().__init__(
            Size([size]) if batch_shape is None else Size(batch_shape),
            Size(),
            validate_args=validate_args,
        )

    def expand(self, batch_shape: _size, _instance: BlockGate | None = None) -> BlockGate:
        """Expand the batch shape; the last dimension stays the p gates of one draw."""
        return type(self)(self.blocks, batch_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Marginal inclusion probabilities, ``[p]``."""
        out = self.blocks[0].log_mass.new_zeros(self.batch_shape[-1])
        for block in self.blocks:
            out[block.members] = block.log_mass.exp() @ block.table
        return out

    def sample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008
        """Draw gates, ``sample_shape + batch_shape``."""
        shape = self._extended_shape(sample_shape)
        out = self.blocks[0].log_mass.new_zeros(shape)
        with torch.no_grad():
            for block in self.blocks:
                cumulated = block.log_mass.double().exp().cumsum(-1)
                count = math.prod(shape[:-1])
                uniform = torch.rand(
                    len(cumulated), count, dtype=torch.float64, device=cumulated.device
                )
                index = torch.searchsorted(cumulated, uniform * cumulated[:, -1:], right=True)
                drawn = block.table[index.clamp_max(cumulated.shape[-1] - 1)]
                out[..., block.members] = drawn.transpose(0, 1).reshape(
                    *shape[:-1], *block.members.shape
                )
        return out

    def log_prob(self, value: Tensor) -> Tensor:
        """Equal shares ``[..., p]`` of the joint log-mass of gates that are 0 or 1."""
        if self._validate_args:
            self._validate_sample(value)
        total = value.new_zeros(value.shape[:-1])
        for block in self.blocks:
            bits = 2 ** torch.arange(block.members.shape[-1], device=value.device)
            index = (value[..., block.members].round().long() * bits).sum(-1)
            blocks = torch.arange(len(block.members), device=value.device)
            total = total + block.log_mass[blocks, index].sum(-1)
        size = value.shape[-1]
        return (total / size).unsqueeze(-1).expand(*value.shape[:-1], size)


@register_kl(BlockGate, Gate)
def kl_block_gate_gate(q: BlockGate, p: Gate) -> Tensor:
    """Shares ``[..., p]`` of the exact KL, summed over the tables of all blocks."""
    size = q.batch_shape[-1]
    prior = p.logits.expand(q.batch_shape)[(0,) * (len(q.batch_shape) - 1)]
    total = torch.nn.functional.softplus(prior).sum()
    for block in q.blocks:
        mass = block.log_mass.exp()
        entropy = torch.special.entr(mass).sum()
        total = total - entropy - ((mass @ block.table) * prior[block.members]).sum()
    return (total / size).expand(q.batch_shape)
