"""Operations with tensors that are no weights of the posterior: they stay as they came."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from typing_extensions import override

from pyro_ssbnn.models.parts import ChannelNorm, FixedLayerNorm, FixedTensor, Part
from pyro_ssbnn.models.traced.following import Following, Shape, Signal
from pyro_ssbnn.models.traced.operations import Operation, known
from pyro_ssbnn.models.wiring import Wiring

__all__ = [
    "Embedding",
    "Fixed",
    "LayerNorm",
    "Norm",
    "Prefix",
    "TensorSum",
    "take_statistics",
]


@dataclass(frozen=True)
class Fixed(Operation):
    """An operation with a part of the network.

    :param module: path of the tensor, or of the module that has it; what it is called, where it is computed.
    """

    module: str

    def made(self, size: int) -> Part:
        """A new part, for so many channels where they may be cut."""
        raise NotImplementedError

    def take(self, part: Any, module: nn.Module) -> None:
        """Take the part's tensors from the module; those that are computed come with the graph."""

    @override
    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        return net.part(name, h[0])


@known
@dataclass(frozen=True)
class Norm(Fixed):
    """A batch norm that follows no layer, or not that layer alone: its scale and shift stay as they came.

    :param dims: dimensions of a map behind the channels.
    """

    kind = "norm"
    dims: int = 2
    eps: float = 1e-5
    momentum: float = 0.1

    @override
    def made(self, size: int) -> Part:
        return ChannelNorm(size, self.dims, self.momentum, self.eps)

    @override
    def take(self, part: Any, module: nn.Module) -> None:
        norm: Any = module.get_submodule(self.module)
        take_statistics(part.statistics, norm)
        if norm.affine:
            part.scale.copy_(norm.weight)
            part.shift.copy_(norm.bias)

    @override
    def follow(self, seen: Following, name: str, shape: Shape, *signals: Signal) -> Signal:
        signal = seen.by_channel(name, shape, signals, f"{name} does not norm node by node")
        source = None if seen.stays(signal) else signal.source
        seen.norms[name] = (source, shape[0])
        return replace(signal, chain=(*signal.chain, (name, self)))

    @override
    def of_constant(self, net: Any, name: str, value: Tensor) -> Tensor:
        part = net.get_submodule(name).plain(None)
        return value * part.scale.to(value) + part.shift.to(value)


@known
@dataclass(frozen=True)
class LayerNorm(Fixed):
    """A layer norm, which mixes all nodes."""

    kind = "layer_norm"
    over: tuple[int, ...] = ()
    eps: float = 1e-5

    @override
    def made(self, size: int) -> Part:
        # Zeros cost nothing until they are written to; a file may be wrong about their number.
        scale, shift = torch.zeros(*self.over), torch.zeros(*self.over)
        return FixedLayerNorm(scale, shift, self.eps)

    @override
    def take(self, part: Any, module: nn.Module) -> None:
        norm: Any = module.get_submodule(self.module)
        part.scale.fill_(1.0)
        if norm.elementwise_affine:
            part.scale.copy_(norm.weight)
            if norm.bias is not None:
                part.shift.copy_(norm.bias)

    @override
    def follow(self, seen: Following, name: str, shape: Shape, *signals: Signal) -> Signal:
        return seen.mixed(name, shape, signals, f"{name} is a layer norm, which mixes the nodes")


@known
@dataclass(frozen=True)
class TensorSum(Fixed):
    """The sum of a tensor and one that is the same for all rows, such as an embedding of positions.

    :param of: shape of the latter.
    """

    kind = "tensor_sum"
    of: tuple[int, ...] = ()

    @override
    def made(self, size: int) -> Part:
        return FixedTensor(torch.zeros(*self.of))

    @override
    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        return h[0] + net.part(name)

    @override
    def follow(self, seen: Following, name: str, shape: Shape, *signals: Signal) -> Signal:
        if seen.stays(signals[0]) and signals[0].shape == shape:
            return signals[0]
        return seen.mixed(name, shape, signals, f"{name} adds a tensor to the nodes")


@known
@dataclass(frozen=True)
class Prefix(TensorSum):
    """A tensor in front of each row's, along a dimension counted from the end, such as a token of the class."""

    kind = "prefix"
    dim: int = -2

    @override
    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        token = net.part(name).expand(*h[0].shape[: -len(self.of)], *self.of)
        return torch.cat([token, h[0]], self.dim)

    @override
    def follow(self, seen: Following, name: str, shape: Shape, *signals: Signal) -> Signal:
        return seen.mixed(name, shape, signals, f"{name} puts a tensor beside the nodes")


@known
@dataclass(frozen=True)
class Embedding(TensorSum):
    """Rows of a table, by the whole numbers that come."""

    kind = "embedding"

    @override
    def take(self, part: Any, module: nn.Module) -> None:
        table: Any = module.get_submodule(self.module)
        part.value.copy_(table.weight)

    @override
    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        return embedding(h[0].long(), net.part(name))

    @override
    def follow(self, seen: Following, name: str, shape: Shape, *signals: Signal) -> Signal:
        return seen.mixed(name, shape, signals, f"{name} is an embedding")


def take_statistics(statistics: Any, norm: Any) -> None:
    """Take a batch norm's running statistics."""
    statistics.running_mean.copy_(norm.running_mean)
    statistics.running_var.copy_(norm.running_var)
