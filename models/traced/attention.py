"""Attention: its projections are layers whose nodes are the heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from typing_extensions import override

from pyro_ssbnn.models.traced.following import Following, Shape, Signal
from pyro_ssbnn.models.traced.layers import Dense
from pyro_ssbnn.models.traced.operations import Operation, known
from pyro_ssbnn.models.wiring import Wiring

__all__ = ["Attention", "Projection"]

_PARTS = ("query", "key", "value")


@known
@dataclass(frozen=True)
class Projection(Dense):
    """Queries, keys or values of an ``nn.MultiheadAttention``, ``[T, H d]``: a node is a head, of d rows of weights.

    :param part: ``query``, ``key`` or ``value``.
    :param width: d.
    """

    kind = "projection"
    part: str = "value"
    width: int = 1

    @property
    @override
    def path(self) -> str:
        return f"{self.module}.{self.part}"

    @override
    def weights_of(self, module: nn.Module) -> Tensor:
        found: Any = module.get_submodule(self.module)
        at = _PARTS.index(self.part)
        weight = found.in_proj_weight.detach().chunk(3)[at]
        bias = found.in_proj_bias
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach().chunk(3)[at]
        return torch.cat([weight, bias.unsqueeze(-1)], -1)

    @override
    def follow(self, seen: Following, name: str, shape: Shape, *signals: Signal) -> Signal:
        super().follow(seen, name, shape, *signals)
        seen.layers[name]["rows_per_node"] = self.width
        return Signal(shape, name, len(shape) - 1, self.width)


@known
@dataclass(frozen=True)
class Attention(Operation):
    """Scaled dot-product attention of heads side by side, ``[T, H d]``: a head whose values are 0 gives 0.

    :param width: d.
    """

    kind = "attention"
    width: int

    @override
    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        if not h[0].shape[-1]:
            return h[0]
        heads = (
            t.unflatten(-1, (t.shape[-1] // self.width, self.width)).transpose(-3, -2) for t in h
        )
        return scaled_dot_product_attention(*heads).transpose(-3, -2).flatten(-2)

    @override
    def follow(self, seen: Following, name: str, shape: Shape, *signals: Signal) -> Signal:
        query, key, value = signals
        for signal in signals:
            seen.read(signal)
        for other in (query, key):
            seen.together(value.source, other.source, name)
        return Signal(shape, value.source, len(shape) - 1, self.width)
