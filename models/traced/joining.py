"""Operations that bring several tensors together: sums, products, concatenations."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from typing_extensions import override

from pyro_ssbnn.models.traced.following import Following, Shape, Signal
from pyro_ssbnn.models.traced.operations import Operation, known
from pyro_ssbnn.models.wiring import Wiring

__all__ = ["Concatenation", "Product", "Sum"]


@known
@dataclass(frozen=True)
class Sum(Operation):
    """The sum of two tensors, at places where channels may leave."""

    kind = "sum"
    signs: tuple[int, ...] = (1, 1)

    @override
    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        first, second = h
        second = second if self.signs[1] > 0 else -second
        dim = net.shape["axes"].get(name)
        return first + second if dim is None else net.add(name, first, second, dim=dim)

    @override
    def follow(self, seen: Following, name: str, shape: Shape, *signals: Signal) -> Signal:
        a, b = signals
        alike = (a.shape, a.axis, a.width) == (b.shape, b.axis, b.width)
        if alike and a.source == b.source:
            if a.chain or b.chain:
                seen.block(a.source, f"{name} adds up what closed nodes pass on, and that is not 0")
            return replace(a, chain=())
        if alike and a.width == 1 and not any(map(seen.whole, signals)):
            return seen.placed(name, signals, (0, 0), a.members)
        return seen.mixed(name, shape, signals, f"{name} adds up tensors of other nodes")


@known
@dataclass(frozen=True)
class Product(Operation):
    """The product of two tensors: one scales the nodes of the other, as squeeze-and-excitation does."""

    kind = "product"

    @override
    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        return h[0] * h[1]

    @override
    def follow(self, seen: Following, name: str, shape: Shape, *signals: Signal) -> Signal:
        a, b = signals
        sizes = math.prod(a.shape), math.prod(b.shape)
        if sizes[0] < sizes[1] or (sizes[0] == sizes[1] and a.chain and not b.chain):
            a, b = b, a  # b scales a
        if len(a.shape) != len(b.shape) or a.shape != shape or seen.stays(a):
            return seen.mixed(name, shape, signals, f"{name} multiplies nodes with each other")
        if a.source == b.source and (a.axis, a.width) == (b.axis, b.width):
            if a.chain and b.chain:
                seen.block(a.source, f"{name} multiplies what closed nodes pass on")
            return replace(a, chain=())
        if a.chain:  # 0 times whatever scales it
            return seen.mixed(name, shape, signals, f"{name} scales what closed nodes pass on")
        if b.shape[a.axis] == 1:  # the same for all nodes
            seen.read(b)
            seen.block(b.source, f"{name} scales all nodes alike")
            return a
        if (a.axis, a.width, a.members) != (b.axis, b.width, b.members) or seen.stays(b):
            return seen.mixed(name, shape, signals, f"{name} multiplies nodes with each other")
        seen.read(b)
        seen.together(a.source, b.source, name)
        return a


@known
@dataclass(frozen=True)
class Concatenation(Operation):
    """Tensors beside each other along a dimension, counted from the end."""

    kind = "concatenation"
    dim: int

    @override
    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        dim = net.shape["axes"].get(name)
        if dim is not None:
            return net.add(name, *h, dim=dim)
        lead = torch.broadcast_shapes(*(part.shape[: self.dim] for part in h))
        return torch.cat([part.expand(*lead, *part.shape[self.dim :]) for part in h], self.dim)

    @override
    def follow(self, seen: Following, name: str, shape: Shape, *signals: Signal) -> Signal:
        along = all(s.dim == self.dim and s.width == 1 and not seen.whole(s) for s in signals)
        if not along or len({s.source for s in signals}) < len(signals):
            return seen.mixed(name, shape, signals, f"{name} puts other things beside the nodes")
        starts = [sum(s.members for s in signals[:i]) for i in range(len(signals))]
        return seen.placed(name, signals, starts, shape[signals[0].axis])
