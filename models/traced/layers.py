"""Operations that apply the layers whose nodes are groups of the network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from pyro_ssbnn.models.traced.following import Following, Shape, Signal
from pyro_ssbnn.models.traced.operations import Operation, known
from pyro_ssbnn.models.wiring import Wiring
from pyro_ssbnn.structure.geometry import ConvolutionGeometry

__all__ = ["Convolution", "Dense", "Layer"]


@dataclass(frozen=True)
class Layer(Operation):
    """A layer whose nodes are a group of the network, with the batch norm that follows it.

    :param module: path of the layer in the module it came from.
    :param size: number of its nodes.
    :param norm: path of the batch norm, whose scale and shift the nodes own; None without one.
    :param eps: of the batch norm.
    :param momentum: of its running statistics.
    """

    module: str
    size: int
    norm: str | None = None
    eps: float = 1e-5
    momentum: float = 0.1

    def weights_of(self, module: nn.Module) -> Tensor:
        """The layer's weights in the module, ``[rows, group_size]``, its bias (or 0) or scale and shift last."""
        found: Any = module.get_submodule(self.module)
        weight: Tensor = found.weight.detach().flatten(1)
        if self.norm is None:
            bias = weight.new_zeros(len(weight)) if found.bias is None else found.bias.detach()
            return torch.cat([weight, bias.unsqueeze(-1)], -1)
        norm: Any = module.get_submodule(self.norm)
        ones, zeros = weight.new_ones(len(weight)), weight.new_zeros(len(weight))
        own = [norm.weight.detach(), norm.bias.detach()] if norm.affine else [ones, zeros]
        return torch.cat([weight, torch.stack(own, -1)], -1)

    @property
    def path(self) -> str:
        """Path of what is left of it in an ordinary module."""
        return self.module

    @property
    def own(self) -> int:
        """Weights of a node beside the incoming ones."""
        return 1 if self.norm is None else 2


@known
@dataclass(frozen=True)
class Dense(Layer):
    """A dense layer on the last dimension of each row.

    :param rank: dimensions of a row. With more than one the layer is applied to each of their places; with a batch
        norm it is a convolution of a map of one pixel.
    """

    kind = "dense"
    rank: int = 1

    @override
    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        (x,) = h
        if self.norm is not None:
            return net.layer(name, x.unflatten(-1, (-1, 1, 1))).flatten(-3)
        if self.rank == 1:
            return net.layer(name, x)
        places = x.shape[-self.rank - 1 : -1]
        return net.layer(name, x.flatten(-self.rank - 1, -2)).unflatten(-2, places)

    @override
    def follow(self, seen: Following, name: str, shape: Shape, *signals: Signal) -> Signal:
        (signal,) = signals
        fan_in, last = signal.shape[-1], len(signal.shape) - 1
        if not seen.whole(signal) and signal.axis != last:
            reason = f"{name} reads along another dimension than that of the nodes"
            signal = seen.mixed(f"{name}_inputs", signal.shape, signals, reason)
        seen.layer(
            signal,
            name=name,
            size=self.size,
            fan_in=fan_in,
            columns_per_source=fan_in if seen.whole(signal) else signal.width,
            positions=math.prod(shape[:-1]),
            geometry=None if self.norm is None else ConvolutionGeometry(1),
            own=self.own,
        )
        return Signal(shape, name, len(shape) - 1)


@known
@dataclass(frozen=True)
class Convolution(Layer):
    """A convolution of maps ``[C, H, W]``, or ``[C, L]``.

    :param geometry: record of how the kernel moves; that of ``[C, L]`` has kernels of one row.
    :param groups: the filters read so many parts of the channels in turn.
    :param dims: 2, or 1.
    """

    kind = "convolution"
    geometry: Mapping[str, Any] | None = None
    groups: int = 1
    dims: int = 2

    @override
    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        if self.dims == 2:
            return net.layer(name, h[0])
        return net.layer(name, h[0].unsqueeze(-2)).squeeze(-2)

    @override
    def follow(self, seen: Following, name: str, shape: Shape, *signals: Signal) -> Signal:
        (signal,) = signals
        geometry = ConvolutionGeometry(**self.geometry or {})
        channels = signal.shape[0]
        if not seen.whole(signal) and (signal.axis, signal.width) != (0, 1):
            reason = f"{name} reads along another dimension than that of the nodes"
            signal = seen.mixed(f"{name}_inputs", signal.shape, signals, reason)
        fan_in = channels // self.groups * geometry.pixels
        per_source = fan_in if seen.whole(signal) else geometry.pixels
        if self.groups > 1:
            self._read_in_turn(seen, name, signal, channels)
            signal = replace(
                signal, chain=()
            )  # closed channels leave with the filters that read them
        seen.layer(
            signal,
            name=name,
            size=self.size,
            fan_in=fan_in,
            columns_per_source=per_source,
            positions=math.prod(shape[1:]),
            geometry=geometry,
            own=self.own,
            groups=self.groups,
        )
        return Signal(shape, name)

    def _read_in_turn(self, seen: Following, name: str, signal: Signal, channels: int) -> None:
        if self.groups == channels == self.size and not seen.stays(signal):
            seen.together(name, signal.source, name)
            return
        reason = (
            f"{name} is a convolution in {self.groups} groups, which reads its channels in turn"
        )
        seen.block(signal.source, reason)
        seen.block(name, reason)
