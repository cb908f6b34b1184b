"""Batch norms of a minibatch that several ranks share: moments of all its rows, not of each rank's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor

from pyro_ssbnn.inference.elbo import AnalyticELBO, ELBOTerms
from pyro_ssbnn.inference.ranks import Ranks

__all__ = ["SharedELBO", "SharedMoments"]


class SharedMoments(Messenger):
    """Normalise by the moments of the whole minibatch; one reduction forward, and one backward, for each batch norm.

    :param rows: of the minibatch.
    """

    def __init__(self, ranks: Ranks, rows: int) -> None:
        super().__init__()
        self.ranks, self.rows = ranks, rows

    def _pyro_normalization(self, msg: Message) -> None:
        y, running_mean, running_var, scale, shift, training, momentum, eps = msg["args"]
        if not training:
            return
        dims = [0, *range(2, y.ndim)]
        # About the running mean: squares of what is far from zero would lose the variance's digits.
        centre = running_mean.detach().clone()
        around = y - _of_channels(centre, y)
        moments = torch.stack([around.mean(dims), around.square().mean(dims)])
        off, square = _SharedMean.apply(moments, self.ranks, self.rows)
        mean, var = centre + off, (square - off.square()).clamp_min(0)
        part = self.ranks.part(self.rows)
        own = len(range(*part.indices(self.rows)))
        count = around.numel() // len(centre) * self.rows / own
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_((var * (count / (count - 1))).to(running_var), momentum)
        factor = (var + eps).rsqrt() if scale is None else (var + eps).rsqrt() * scale
        out = (around - _of_channels(off, y)) * _of_channels(factor, y)
        msg["value"] = out if shift is None else out + _of_channels(shift, y)
        msg["done"] = True


class SharedELBO(AnalyticELBO):
    """The bound of a rank's part of a minibatch, under :class:`SharedMoments`."""

    def __init__(self, ranks: Ranks, rows: int, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.shared = SharedMoments(ranks, rows)

    def terms(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> ELBOTerms:
        """As :meth:`AnalyticELBO.terms`."""
        with self.shared:
            return super().terms(model, guide, *args, **kwargs)


class _SharedMean(torch.autograd.Function):
    """Mean over the ranks, which is its own adjoint: a rank's loss counts in the sum by the same weight."""

    @staticmethod
    def forward(context: Any, value: Tensor, ranks: Ranks, rows: int) -> Tensor:
        context.ranks, context.rows = ranks, rows
        return ranks.mean(value, rows)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return context.ranks.mean(gradient.contiguous(), context.rows), None, None


def _of_channels(value: Tensor, y: Tensor) -> Tensor:
    """Values of channels, ``[C]``, to be broadcast over maps ``[N, C, ...]``."""
    return value.reshape(1, -1, *[1] * (y.ndim - 2))
