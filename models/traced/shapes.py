"""Operations that give the same numbers, or means of them, another shape."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from typing_extensions import override

from pyro_ssbnn.models.traced.following import Following, Shape, Signal
from pyro_ssbnn.models.traced.operations import Operation, known
from pyro_ssbnn.models.wiring import Wiring

__all__ = ["Mean", "Permutation", "Reshape", "Slice"]


@known
@dataclass(frozen=True)
class Mean(Operation):
    """Mean over dimensions, counted from the end."""

    kind = "mean"
    dims: tuple[int, ...]
    keepdim: bool = False

    @override
    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        return h[0].mean(tuple(self.dims), keepdim=self.keepdim)

    @override
    def follow(self, seen: Following, name: str, shape: Shape, *signals: Signal) -> Signal:
        (signal,) = signals
        if signal.dim in self.dims:
            return seen.mixed(name, shape, signals, f"{name} takes the mean over nodes")
        before = [d for d in range(-len(signal.shape), signal.dim) if d in self.dims]
        axis = signal.axis if self.keepdim else signal.axis - len(before)
        return replace(signal, shape=shape, axis=axis)


@known
@dataclass(frozen=True)
class Reshape(Operation):
    """Another shape of the same numbers.

    :param rank: dimensions of a row before.
    :param shape: of a row afterwards; where members are cut, their dimension has what is left of them.
    """

    kind = "reshape"
    rank: int
    shape: tuple[int, ...]

    @override
    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        (x,) = h
        lead, shape = x.shape[: x.ndim - self.rank], list(self.shape)
        free = net.shape["axes"].get(name)
        if free is not None:
            entries = math.prod(x.shape[x.ndim - self.rank :])
            shape[free] = entries // math.prod(shape[:free] + shape[free + 1 :])
        return x.reshape(*lead, *shape)

    @override
    def follow(self, seen: Following, name: str, shape: Shape, *signals: Signal) -> Signal:
        (signal,) = signals
        if seen.whole(signal):
            return replace(signal, shape=shape, axis=len(shape) - 1, width=shape[-1])
        before, members = math.prod(signal.shape[: signal.axis]), signal.members
        behind = math.prod(signal.shape[signal.axis + 1 :])
        for axis, size in enumerate(shape):
            kept = math.prod(shape[:axis]) == before and size % members == 0
            # The members' entries may only be cut up, or joined with what lies behind them.
            if kept and (signal.width * behind) % (size // members) == 0:
                seen.axes[name] = axis
                return replace(signal, shape=shape, axis=axis, width=size // members)
        return seen.mixed(name, shape, signals, f"{name} reshapes across nodes")


@known
@dataclass(frozen=True)
class Permutation(Operation):
    """Dimensions of a row in another order."""

    kind = "permutation"
    dims: tuple[int, ...]

    @override
    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        lead = h[0].ndim - len(self.dims)
        return h[0].permute(*range(lead), *(lead + dim for dim in self.dims))

    @override
    def follow(self, seen: Following, name: str, shape: Shape, *signals: Signal) -> Signal:
        (signal,) = signals
        return replace(signal, shape=shape, axis=tuple(self.dims).index(signal.axis))


@known
@dataclass(frozen=True)
class Slice(Operation):
    """One place along a dimension, or several at equal distances.

    :param dim: counted from the end.
    :param start: first place.
    :param stop: end of the places; None for the first place alone, without the dimension.
    """

    kind = "slice"
    dim: int
    start: int
    stop: int | None = None
    step: int = 1

    @override
    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        if self.stop is None:
            return h[0].select(self.dim, self.start)
        places: Any = [slice(None)] * (-self.dim - 1)
        return h[0][(..., slice(self.start, self.stop, self.step), *places)]

    @override
    def follow(self, seen: Following, name: str, shape: Shape, *signals: Signal) -> Signal:
        (signal,) = signals
        if signal.dim == self.dim:
            return seen.mixed(name, shape, signals, f"{name} takes some of the nodes")
        gone = self.stop is None and self.dim < signal.dim
        return replace(signal, shape=shape, axis=signal.axis - gone)
