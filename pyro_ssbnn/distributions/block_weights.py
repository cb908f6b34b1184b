"""The weights of a layer given the gates of blocks of predictors: one Normal for every set (see ``blocks``)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints, register_kl
from torch.types import _size

from pyro_ssbnn.distributions.blocks import BiasLaw, Block, WeightMoments
from pyro_ssbnn.distributions.slab import IsotropicNormal

__all__ = ["BlockNormal"]

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class BlockNormal(TorchDistribution):
    """Guide of a first layer's standardised weights given the predictors' gates; see the module.

    :param blocks: all blocks.
    :param bias: law of the biases.
    :param moments: what the KL is made of.
    :param gates: draw of the predictors' gates, ``[..., p]``.
    :param cells: cell of the slab scale that each draw is in, ``[...]``, int64.
    :param closed_scale: standard deviation of the prior, scalar tensor.
    :param unit: draw of the slab scale t, ``[..., size]``: the law is that of the weights t u, given t. None for 1.

    ``rsample`` draws from q(u | z) itself, with the gradient of the slab scale alone.
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        blocks: Sequence[Block],
        bias: BiasLaw,
        moments: WeightMoments,
        gates: Tensor,
        cells: Tensor,
        closed_scale: Tensor,
        unit: Tensor | None = None,
        batch_shape: _size | None = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.blocks, self.bias, self.moments = tuple(blocks), bias, moments
        self.gates, self.cells, self.columns = gates, cells, _spread(self.blocks, gates)
        self.closed_scale, self.unit = closed_scale, unit
        if batch_shape is None:
            shapes = [(*gates.shape[:-1], bias.mean.shape[-1])]
            shapes += [] if unit is None else [unit.shape]
            batch_shape = torch.broadcast_shapes(*shapes)
        super().__init__(
            Size(batch_shape), Size([self.columns.shape[-1] + 1]), validate_args=validate_args
        )

    def expand(self, batch_shape: _size, _instance: BlockNormal | None = None) -> BlockNormal:
        """Expand the batch shape; laws and gates broadcast."""
        return type(self)(
            self.blocks,
            self.bias,
            self.moments,
            self.gates,
            self.cells,
            self.closed_scale,
            self.unit,
            batch_shape,
            validate_args=False,
        )

    @property
    def open(self) -> Tensor:
        """Gates of the weights, the bias's last, ``[..., 1, columns + 1]``."""
        gates = self.columns
        return torch.cat([gates, torch.ones_like(gates[..., :1])], -1).unsqueeze(-2)

    def rsample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008
        """Draw of the weights, ``sample_shape + batch_shape + (columns + 1,)``."""
        shape = self._extended_shape(sample_shape)
        noise = torch.randn(shape, dtype=self.closed_scale.dtype, device=self.closed_scale.device)
        gates = self.columns.unsqueeze(-2)
        opened = torch.zeros_like(noise[..., :-1])
        for block in self.blocks:
            root, mean = block.given(self.gates[..., block.members], self.cells)
            own = noise[..., block.columns].transpose(-3, -2)  # [..., b, size, c]
            root, mean = root.expand(*own.shape, own.shape[-1]), mean.expand(own.shape)
            drawn = mean + _solve_root(root, own)
            opened[..., block.columns] = drawn.transpose(-3, -2)
        opened = opened * gates
        mean, slope, scale = (part[self.cells] for part in self.bias)
        bias = mean - (slope * opened).sum(-1) + scale * noise[..., -1]
        if self.unit is not None:
            opened, bias = opened / self.unit.unsqueeze(-1), bias / self.unit
        opened = torch.lerp(self.closed_scale * noise[..., :-1], opened, gates.expand_as(opened))
        return torch.cat([opened, bias.unsqueeze(-1)], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log q(u | z), shape of the batch."""
        if self._validate_args:
            self._validate_sample(value)
        gates = self.columns.unsqueeze(-2)
        unit = value.new_ones(()) if self.unit is None else self.unit
        opened = value * unit.unsqueeze(-1)
        weights = opened[..., :-1] * gates
        score = self._log_prior_of_closed(value[..., :-1], gates)
        for block in self.blocks:
            root, mean = block.given(self.gates[..., block.members], self.cells)
            apart = weights[..., block.columns].transpose(-3, -2) - mean
            scaled = (root.mT @ apart.unsqueeze(-1)).squeeze(-1)
            log_det = root.diagonal(dim1=-1, dim2=-2).log().sum(-1)
            score = score + (log_det - 0.5 * scaled.square().sum(-1)).sum(-2)
        mean, slope, scale = (part[self.cells] for part in self.bias)
        apart = (opened[..., -1] - mean + (slope * weights).sum(-1)) / scale
        score = score - 0.5 * apart.square() - scale.log()
        count = gates.sum(-1) + 1
        return score + count * (unit.log() - _HALF_LOG_2PI)

    def mean_kl(self, scale: Tensor) -> Tensor:
        """KL from N(0, scale^2 I), averaged over the gates, ``[..., size]``; see :meth:`WeightMoments.kl`."""
        scale = scale if self.unit is None else scale * self.unit
        return self.moments.kl(self.cells, scale.unsqueeze(-1) if scale.ndim == 0 else scale)

    def _log_prior_of_closed(self, value: Tensor, gates: Tensor) -> Tensor:
        density = -0.5 * (value / self.closed_scale).square() - self.closed_scale.log()
        return ((1 - gates) * (density - _HALF_LOG_2PI)).sum(-1)


@register_kl(BlockNormal, IsotropicNormal)
def kl_block_normal_isotropic_normal(q: BlockNormal, p: IsotropicNormal) -> Tensor:
    """E_z KL(q(u|z) || p(u)), exact over the gates."""
    scale = p.scale.reshape(-1)[:1].squeeze(-1)  # one prior scale in a layer
    return q.mean_kl(scale).expand(q.batch_shape)


def _spread(blocks: Sequence[Block], gates: Tensor) -> Tensor:
    """Gates of the predictors, ``[..., p]``, given to each of their columns, ``[..., columns]``."""
    count = sum(block.columns.numel() for block in blocks)
    out = gates.new_empty(*gates.shape[:-1], count)
    for block in blocks:
        out[..., block.columns] = gates[..., block.members[:, block.owners]]
    return out


def _solve_root(root: Tensor, noise: Tensor) -> Tensor:
    """Noise of covariance (R R')^-1."""
    return torch.linalg.solve_triangular(root.mT, noise.unsqueeze(-1), upper=True).squeeze(-1)
