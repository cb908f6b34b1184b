"""What stands between the layers of a network and around them: each operation maps tensors, and carries members on.

Operations are data, so that a network made of them can be written down and made again. Each is called with tensors
``[..., N, *shape]`` that may be led by draws, and told the name of its place in the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.layers import max_pool
from pyro_ssbnn.models.following import Following, Signal
from pyro_ssbnn.models.wiring import Wiring

__all__ = [
    "FUNCTIONS",
    "OPERATIONS",
    "POOLS",
    "Concatenation",
    "Elementwise",
    "Mean",
    "Operation",
    "Permutation",
    "Pool",
    "Product",
    "Reshape",
    "Slice",
    "Sum",
    "operation",
]

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "add": lambda h, value: h + value,
    "celu": functional.celu,
    "divide": lambda h, value: h / value,
    "elu": functional.elu,
    "gelu": functional.gelu,
    "hardsigmoid": functional.hardsigmoid,
    "hardswish": functional.hardswish,
    "hardtanh": functional.hardtanh,
    "identity": lambda h: h,
    "leaky_relu": functional.leaky_relu,
    "mish": functional.mish,
    "multiply": lambda h, value: h * value,
    "power": lambda h, value: h**value,
    "relu": functional.relu,
    "relu6": functional.relu6,
    "selu": functional.selu,
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "subtract_from": lambda h, value: value - h,
    "tanh": torch.tanh,
}
"""Functions of one number, by name."""

POOLS: dict[str, Callable[..., Tensor]] = {
    "adaptive_avg_pool1d": functional.adaptive_avg_pool1d,
    "adaptive_avg_pool2d": functional.adaptive_avg_pool2d,
    "adaptive_max_pool1d": functional.adaptive_max_pool1d,
    "adaptive_max_pool2d": functional.adaptive_max_pool2d,
    "avg_pool1d": functional.avg_pool1d,
    "avg_pool2d": functional.avg_pool2d,
    "interpolate": functional.interpolate,
    "max_pool1d": functional.max_pool1d,
    "max_pool2d": functional.max_pool2d,
}
"""What maps each channel by itself, by name."""


class Operation:
    """One operation; subclasses are frozen dataclasses of plain fields."""

    kind: ClassVar[str]

    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        """Map tensors ``[..., N, *shape]``."""
        raise NotImplementedError

    def follow(
        self, seen: Following, name: str, shape: tuple[int, ...], *signals: Signal
    ) -> Signal:
        """What is known of the result, of this shape a row."""
        raise NotImplementedError

    def of_constant(self, net: Any, name: str, value: Tensor) -> Tensor:
        """What closed members pass on, ``[members]``, that came in so."""
        return value

    def to_config(self) -> dict[str, Any]:
        """Plain record of the operation."""
        return {"op": self.kind, **asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True)
class Elementwise(Operation):
    """A function of each number.

    :param function: one of :data:`FUNCTIONS`.
    """

    kind = "elementwise"
    function: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        # The network's own activation is the identity; who watches activations watches that.
        return net.phi(FUNCTIONS[self.function](h[0], **self.options))

    def follow(self, seen: Following, name: str, shape: tuple[int, ...], *signals: Signal) -> Signal:
        (signal,) = signals
        value = self.of_constant(None, name, torch.zeros((), dtype=torch.float64))
        chain = (*signal.chain, (name, self)) if signal.chain or float(value) != 0.0 else ()
        return replace(signal, chain=chain)

    def of_constant(self, net: Any, name: str, value: Tensor) -> Tensor:
        return FUNCTIONS[self.function](value, **self.options)


@dataclass(frozen=True)
class Pool(Operation):
    """Pooling or interpolation of maps ``[C, H, W]``, or ``[C, L]``, channel by channel.

    :param function: one of :data:`POOLS`.
    """

    kind = "pool"
    function: str
    options: Mapping[str, Any] = field(default_factory=dict)
    dims: int = 2

    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        (x,) = h
        rank, channels = self.dims + 1, x.shape[-self.dims - 1]
        if not channels:  # torch refuses to pool no channel
            x = x.new_zeros(*x.shape[:-rank], 1, *x.shape[-self.dims :])
        size = self._squares()
        if size:
            pooled = max_pool(x, size)
        else:
            flat = POOLS[self.function](x.flatten(0, -rank - 1), **self.options)
            pooled = flat.unflatten(0, x.shape[:-rank])
        return pooled if channels else pooled.narrow(-rank, 0, 0)

    def follow(self, seen: Following, name: str, shape: tuple[int, ...], *signals: Signal) -> Signal:
        (signal,) = signals
        if not seen.stays(signal) and (signal.axis, signal.width) != (0, 1):
            return seen.mixed(name, shape, signals, f"{name} does not pool channel by channel")
        padding = self.options.get("padding", 0)
        zeros = self.function.startswith("avg") and padding not in (0, [0, 0], [0])
        if signal.chain and (zeros or self.options.get("mode") == "bicubic"):
            reason = f"{name} pads its maps with zeros, and closed nodes pass on another constant"
            seen.block(signal.source, reason)
        return replace(signal, shape=shape)

    def _squares(self) -> int:
        """Side of the squares that max-pooling covers the map with, 0 for anything else."""
        if self.function != "max_pool2d":
            return 0
        plain = {"padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False}
        size = self.options["kernel_size"]
        given = {name: self.options.get(name, value) for name, value in plain.items()}
        simple = isinstance(size, int) and self.options.get("stride") in (None, size)
        return size if simple and given == plain else 0


@dataclass(frozen=True)
class Mean(Operation):
    """Mean over dimensions, counted from the end."""

    kind = "mean"
    dims: tuple[int, ...]
    keepdim: bool = False

    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        return h[0].mean(tuple(self.dims), keepdim=self.keepdim)

    def follow(self, seen: Following, name: str, shape: tuple[int, ...], *signals: Signal) -> Signal:
        (signal,) = signals
        if signal.dim in self.dims:
            return seen.mixed(name, shape, signals, f"{name} takes the mean over nodes")
        before = [d for d in range(-len(signal.shape), signal.dim) if d in self.dims]
        axis = signal.axis if self.keepdim else signal.axis - len(before)
        return replace(signal, shape=shape, axis=axis)


@dataclass(frozen=True)
class Reshape(Operation):
    """Another shape of the same numbers.

    :param rank: dimensions of a row before.
    :param shape: of a row afterwards; where members are cut, their dimension has what is left of them.
    """

    kind = "reshape"
    rank: int
    shape: tuple[int, ...]

    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        (x,) = h
        lead, shape = x.shape[: x.ndim - self.rank], list(self.shape)
        free = net.shape["axes"].get(name)
        if free is not None:
            entries = math.prod(x.shape[x.ndim - self.rank :])
            shape[free] = entries // math.prod(shape[:free] + shape[free + 1 :])
        return x.reshape(*lead, *shape)

    def follow(self, seen: Following, name: str, shape: tuple[int, ...], *signals: Signal) -> Signal:
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


@dataclass(frozen=True)
class Permutation(Operation):
    """Dimensions of a row in another order."""

    kind = "permutation"
    dims: tuple[int, ...]

    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        lead = h[0].ndim - len(self.dims)
        return h[0].permute(*range(lead), *(lead + dim for dim in self.dims))

    def follow(self, seen: Following, name: str, shape: tuple[int, ...], *signals: Signal) -> Signal:
        (signal,) = signals
        return replace(signal, shape=shape, axis=tuple(self.dims).index(signal.axis))


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

    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        if self.stop is None:
            return h[0].select(self.dim, self.start)
        places = [slice(None)] * (-self.dim - 1)
        return h[0][(..., slice(self.start, self.stop, self.step), *places)]

    def follow(self, seen: Following, name: str, shape: tuple[int, ...], *signals: Signal) -> Signal:
        (signal,) = signals
        if signal.dim == self.dim:
            return seen.mixed(name, shape, signals, f"{name} takes some of the nodes")
        gone = self.stop is None and self.dim < signal.dim
        return replace(signal, shape=shape, axis=signal.axis - gone)


@dataclass(frozen=True)
class Sum(Operation):
    """The sum of two tensors, at places where channels may leave."""

    kind = "sum"
    signs: tuple[int, ...] = (1, 1)

    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        first, second = h
        second = second if self.signs[1] > 0 else -second
        dim = net.shape["axes"].get(name)
        return first + second if dim is None else net.add(name, first, second, dim=dim)

    def follow(self, seen: Following, name: str, shape: tuple[int, ...], *signals: Signal) -> Signal:
        a, b = signals
        alike = (a.shape, a.axis, a.width) == (b.shape, b.axis, b.width)
        if alike and a.source == b.source:
            if a.chain or b.chain:
                seen.block(a.source, f"{name} adds up what closed nodes pass on, and that is not 0")
            return replace(a, chain=())
        if alike and a.width == 1 and not any(map(seen.whole, signals)):
            return seen.placed(name, signals, (0, 0), a.members)
        return seen.mixed(name, shape, signals, f"{name} adds up tensors of other nodes")


@dataclass(frozen=True)
class Product(Operation):
    """The product of two tensors: one scales the nodes of the other, as squeeze-and-excitation does."""

    kind = "product"

    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        return h[0] * h[1]

    def follow(self, seen: Following, name: str, shape: tuple[int, ...], *signals: Signal) -> Signal:
        a, b = signals
        if math.prod(a.shape) < math.prod(b.shape):
            a, b = b, a
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


@dataclass(frozen=True)
class Concatenation(Operation):
    """Tensors beside each other along a dimension, counted from the end."""

    kind = "concatenation"
    dim: int

    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        dim = net.shape["axes"].get(name)
        if dim is not None:
            return net.add(name, *h, dim=dim)
        lead = torch.broadcast_shapes(*(part.shape[: self.dim] for part in h))
        return torch.cat([part.expand(*lead, *part.shape[self.dim :]) for part in h], self.dim)

    def follow(self, seen: Following, name: str, shape: tuple[int, ...], *signals: Signal) -> Signal:
        along = all(s.dim == self.dim and s.width == 1 and not seen.whole(s) for s in signals)
        if not along or len({s.source for s in signals}) < len(signals):
            return seen.mixed(name, shape, signals, f"{name} puts other things beside the nodes")
        starts = [sum(s.members for s in signals[:i]) for i in range(len(signals))]
        return seen.placed(name, signals, starts, shape[signals[0].axis])


OPERATIONS: dict[str, type[Operation]] = {
    cls.kind: cls
    for cls in (Concatenation, Elementwise, Mean, Permutation, Pool, Product, Reshape, Slice, Sum)
}
"""Operations by name; :mod:`~pyro_ssbnn.models.applied` adds those that apply layers and parts."""


def operation(record: Mapping[str, Any]) -> Operation:
    """Make an operation of its record.

    :raises ConfigurationError: for an unknown one.
    """
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items() if k != "op"}
    try:
        return OPERATIONS[record["op"]](**fields)
    except (KeyError, TypeError) as error:
        raise ConfigurationError(f"traced network: bad operation {dict(record)} ({error!r}).") from error
