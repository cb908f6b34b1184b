"""The affine map of a dense node group, as an effectful operation that handlers may replace."""

from __future__ import annotations

import torch
from pyro.poutine.runtime import effectful
from torch import Tensor
from torch.nn.functional import linear

__all__ = ["affine"]


@effectful(type="affine")
def affine(x: Tensor, weight: Tensor) -> Tensor:
    """Pre-activations ``[..., N, size]`` of inputs ``[..., N, fan_in]`` and weights ``[..., size, fan_in + 1]``.

    The bias is the weights' last column. An effectful operation (of type ``affine``), so that handlers may replace it.
    """
    if weight.ndim == 2:
        return linear(x, weight[:, :-1], weight[:, -1])
    return torch.matmul(x, weight[..., :-1].mT) + weight[..., -1].unsqueeze(-2)
