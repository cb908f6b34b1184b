r"""Batch norm whose scale and shift belong to the filters' groups.

With y the convolution of a filter's standardised kernel, and mean and variance over rows and pixels,

.. math:: f_j = z_j t_j (a_j n_j + b_j),\qquad n_j = \frac{y_j - \mathrm{mean}_j}{\sqrt{\mathrm{var}_j + \epsilon}},

where scale a and shift b are the last two weights of :math:`u_j`: a closed gate gives exactly zero. Since n does not
change when a kernel is multiplied by a number (but for :math:`\epsilon`), the slab scale t is left out of it. With the
running mean and variance the layer is a plain convolution, of

.. math:: w'_j = \frac{z_j t_j a_j}{\sqrt{\mathrm{var}_j + \epsilon}} u_j,\qquad
          b'_j = z_j t_j \Big(b_j - \frac{a_j\,\mathrm{mean}_j}{\sqrt{\mathrm{var}_j + \epsilon}}\Big).
"""

from __future__ import annotations

import torch
from pyro.poutine.runtime import effectful
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ChannelStatistics", "batch_norm", "normalization", "scale_and_shift"]


class ChannelStatistics(nn.Module):
    """Normalise maps: by the batch's own mean and variance in training mode, by running ones in evaluation mode.

    Each draw of the weights has statistics of its own in a batch; the running ones move by their average over draws.

    :param size: number of channels.
    :param momentum: share of the batch in the running statistics after it.
    :param eps: added to the variance.

    Buffers, ``[size]``: ``running_mean`` and ``running_var``, the unbiased variance.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, size: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.register_buffer("running_mean", torch.zeros(size))
        self.register_buffer("running_var", torch.ones(size))

    def reset_running_stats(self) -> None:
        """Forget the running statistics, as :meth:`torch.nn.BatchNorm2d.reset_running_stats` does."""
        self.running_mean.zero_()
        self.running_var.fill_(1)

    def forward(
        self, y: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """Normalised maps, times scale plus shift where given, in one pass.

        :param y: ``[..., N, C, H, W]``; leading dimensions are draws.
        :param scale: ``[..., C]``, its leading dimensions broadcastable to those of y.
        :param shift: of the same shape rule.
        """
        draws = y.shape[:-4]
        dtype = y.dtype if y.dtype in (torch.float32, torch.float64) else torch.float32
        mean, var = (v.to(y.device, dtype) for v in (self.running_mean, self.running_var))
        if draws:  # each channel of each draw is a channel: [S, N, C, H, W] -> [N, S * C, H, W]
            mean, var = (v.expand(*draws, -1).flatten().clone() for v in (mean, var))
            scale, shift = (
                v if v is None else v.expand(*draws, v.shape[-1]).flatten() for v in (scale, shift)
            )
            y = y.flatten(0, -5).transpose(0, 1).flatten(1, 2)
        out = normalization(y, mean, var, scale, shift, self.training, self.momentum, self.eps)
        if self.training and mean is not self.running_mean:
            size = len(self.running_mean)
            self.running_mean.copy_(mean.view(-1, size).mean(0))
            self.running_var.copy_(var.view(-1, size).mean(0))
        if not draws:
            return out
        return out.unflatten(1, (-1, len(self.running_mean))).transpose(0, 1).unflatten(0, draws)

    def fold(self, weight: Tensor, amplitude: Tensor | None) -> Tensor:
        """Kernels and biases of the plain convolution that this is with the running statistics.

        :param weight: standardised weights, ``[..., size, fan_in + 2]``.
        :param amplitude: z t, ``[..., size]``; None for 1.
        :returns: ``[..., size, fan_in + 1]``, bias last.
        """
        mean, var = self.running_mean.to(weight), self.running_var.to(weight)
        scale, shift = _scale_and_shift_of(weight, amplitude)
        scale = scale * (var + self.eps).rsqrt()
        bias = shift - scale * mean
        return torch.cat([scale.unsqueeze(-1) * weight[..., :-2], bias.unsqueeze(-1)], -1)


@effectful(type="normalization")
def normalization(
    y: Tensor,
    mean: Tensor,
    var: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """:func:`torch.nn.functional.batch_norm`, as an operation that handlers may replace.

    :param y: maps ``[N, C, H, W]``.
    :param mean: running mean, ``[C]``, which training changes in place; so with the running variance.
    """
    return functional.batch_norm(y, mean, var, scale, shift, training, momentum, eps)


@effectful(type="affine")
def scale_and_shift(n: Tensor, weight: Tensor) -> Tensor:
    """The affine map u_scale n + u_shift of each channel, an operation like :func:`~pyro_ssbnn.layers.affine`.

    :param n: maps ``[..., N, size, H, W]``.
    :param weight: ``[..., size, group_size]``, whose last two columns are scale and shift.
    """
    scale, shift = (v[..., None, :, None, None] for v in (weight[..., -2], weight[..., -1]))
    return torch.addcmul(shift, n, scale)


@effectful(type="batch_norm")
def batch_norm(
    y: Tensor, weight: Tensor, amplitude: Tensor | None, statistics: ChannelStatistics
) -> Tensor:
    """z t (u_scale n + u_shift) of maps y, in one pass over them; handlers may take it apart.

    :param y: ``[..., N, size, H, W]``.
    :param weight: ``[..., size, group_size]``, whose last two columns are scale and shift.
    :param amplitude: z t, ``[..., size]``; None for 1.
    """
    return statistics(y, *_scale_and_shift_of(weight, amplitude))


def _scale_and_shift_of(weight: Tensor, amplitude: Tensor | None) -> tuple[Tensor, Tensor]:
    """z t u_scale and z t u_shift, ``[..., size]``."""
    scale, shift = weight[..., -2], weight[..., -1]
    return (scale, shift) if amplitude is None else (amplitude * scale, amplitude * shift)
