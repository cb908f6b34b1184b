"""What stands between the layers of a network and around them: each operation maps tensors, and carries members on.

Operations are data, so that a network made of them can be written down and made again. Each is called with tensors
``[..., N, *shape]`` that may be led by draws, and told the name of its place in the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.layers import max_pool
from pyro_ssbnn.models.traced.following import Following, Shape, Signal
from pyro_ssbnn.models.wiring import Wiring

__all__ = [
    "FUNCTIONS",
    "POOLS",
    "Elementwise",
    "Operation",
    "Pool",
    "known",
    "operation",
]

_Operation = TypeVar("_Operation", bound="Operation")

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "add": lambda h, value: h + value,
    "celu": functional.celu,
    "divide": lambda h, value: h / value,
    "elu": functional.elu,
    "gelu": functional.gelu,
    "hardsigmoid": functional.hardsigmoid,
    "hardswish": functional.hardswish,
    "hardtanh": functional.hardtanh,
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


_OPERATIONS: dict[str, type[Operation]] = {}
"""Operations by name, as records give it."""


def known(cls: type[_Operation]) -> type[_Operation]:
    """Let records name an operation; a class decorator."""
    _OPERATIONS[cls.kind] = cls
    return cls


class Operation:
    """One operation; subclasses are frozen dataclasses of plain fields."""

    kind: ClassVar[str]

    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        """Map tensors ``[..., N, *shape]``."""
        raise NotImplementedError

    def follow(self, seen: Following, name: str, shape: Shape, *signals: Signal) -> Signal:
        """What is known of the result, of this shape a row."""
        raise NotImplementedError

    def of_constant(self, net: Any, name: str, value: Tensor) -> Tensor:
        """What closed members pass on, ``[members]``, that came in so."""
        return value

    def to_config(self) -> dict[str, Any]:
        """Plain record of the operation."""
        return {"op": self.kind, **asdict(self)}  # type: ignore[call-overload]


@known
@dataclass(frozen=True)
class Elementwise(Operation):
    """A function of each number.

    :param function: one of :data:`FUNCTIONS`.
    """

    kind = "elementwise"
    function: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @override
    def __call__(self, net: Wiring, name: str, *h: Tensor) -> Tensor:
        # The network's own activation is the identity; who watches activations watches that.
        return net.phi(FUNCTIONS[self.function](h[0], **self.options))

    @override
    def follow(self, seen: Following, name: str, shape: Shape, *signals: Signal) -> Signal:
        (signal,) = signals
        value = self.of_constant(None, name, torch.zeros((), dtype=torch.float64))
        chain = (*signal.chain, (name, self)) if signal.chain or float(value) != 0.0 else ()
        return replace(signal, chain=chain)

    @override
    def of_constant(self, net: Any, name: str, value: Tensor) -> Tensor:
        return FUNCTIONS[self.function](value, **self.options)


@known
@dataclass(frozen=True)
class Pool(Operation):
    """Pooling or interpolation of maps ``[C, H, W]``, or ``[C, L]``, channel by channel.

    :param function: one of :data:`POOLS`.
    """

    kind = "pool"
    function: str
    options: Mapping[str, Any] = field(default_factory=dict)
    dims: int = 2

    @override
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

    @override
    def follow(self, seen: Following, name: str, shape: Shape, *signals: Signal) -> Signal:
        signal = seen.by_channel(name, shape, signals, f"{name} does not pool channel by channel")
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


def operation(record: Mapping[str, Any]) -> Operation:
    """Make an operation of its record.

    :raises ConfigurationError: for an unknown one.
    """
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items() if k != "op"}
    try:
        return _OPERATIONS[record["op"]](**fields)
    except (KeyError, TypeError) as error:
        raise ConfigurationError(
            f"traced network: bad operation {dict(record)} ({error!r})."
        ) from error
