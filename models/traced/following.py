"""Where the members of a network's layers are as its tensors flow: what must be cut together, and what cannot be.

A layer's nodes lie along one axis of what it gives. Activations, pooling, reshaping carry them on; sums and
concatenations put them at places; the next layer reads them. An operation that mixes them, such as a layer norm, keeps
them from being cut: the layers behind it then carry no gates, for a reason that can be read.

A closed node gives exactly 0. What is made of that on the way, the *constant* of a signal, is 0 mostly. Where it is not
(a sigmoid, a batch norm with its shift), the layer that reads it takes it into its bias when it is cut, unless zeros
stand beside it at the border of a map, or in a sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pyro_ssbnn.structure.sums import PlacedSum

__all__ = ["INPUT", "Following", "Shape", "Signal"]

INPUT = "input"

Shape = tuple[int, ...]
"""Of a tensor of the network, a row."""


@dataclass(frozen=True)
class Signal:
    """What is known of a tensor of the network, its batch dimension left out.

    :param shape: of one row.
    :param source: the layer, sum, or predictors whose members it holds.
    :param axis: the dimension of ``shape`` along which they lie.
    :param width: neighbouring entries of each member along it.
    :param chain: the operations that have made a constant other than 0 of a closed member's 0; empty for 0.
    """

    shape: tuple[int, ...]
    source: str
    axis: int = 0
    width: int = 1
    chain: tuple[Any, ...] = ()

    @property
    def members(self) -> int:
        """Number of members."""
        return self.shape[self.axis] // self.width

    @property
    def dim(self) -> int:
        """The members' axis, counted from the end."""
        return self.axis - len(self.shape)


@dataclass
class Following:
    """The record of one pass over a network's operations.

    :ivar layers: fields of each node group, by name, in forward order.
    :ivar sums: sums and what is whole, in forward order.
    :ivar blocked: why members cannot leave, by the name of layer or sum.
    :ivar axes: by name of an operation, what it must know of the members: the axis of places, or the free dimension.
    :ivar passed: the signals that layers read whose closed members pass on a constant, by the layer's name.
    :ivar norms: source (None where it stays whole) and number of channels of batch norms that follow no layer, by name.
    :ivar follows: layers whose nodes leave with another's, and that other.
    """

    layers: dict[str, dict[str, Any]] = field(default_factory=dict)
    sums: dict[str, PlacedSum] = field(default_factory=dict)
    blocked: dict[str, str] = field(default_factory=dict)
    axes: dict[str, int] = field(default_factory=dict)
    passed: dict[str, Signal] = field(default_factory=dict)
    norms: dict[str, tuple[str | None, int]] = field(default_factory=dict)
    follows: dict[str, str] = field(default_factory=dict)
    _readers: Counter[str] = field(default_factory=Counter)
    _pairs: list[tuple[str, str, str]] = field(default_factory=list)

    def whole(self, signal: Signal) -> bool:
        """Whether a signal mixes members, so that it is never cut, along no axis."""
        total = self.sums.get(signal.source)
        return total is not None and total.whole

    def stays(self, signal: Signal) -> bool:
        """Whether nothing of a signal is ever cut."""
        return signal.source == INPUT or self.whole(signal)

    def block(self, source: str, reason: str) -> None:
        """Keep all members of a source, for the first reason given."""
        if source != INPUT:
            self.blocked.setdefault(source, reason)

    def read(self, signal: Signal) -> None:
        """Count someone who makes something else of a signal."""
        self._readers[signal.source] += 1

    def together(self, leader: str, follower: str, name: str) -> None:
        """Cut the follower's members with the leader's, if no one but the operation of that name reads it."""
        self._pairs.append((leader, follower, name))

    def mixed(
        self, name: str, shape: Sequence[int], signals: Iterable[Signal], reason: str, size: int = 1
    ) -> Signal:
        """What an operation gives that mixes members, so that none of them may be cut.

        :param size: places that the result has: one for all, or the outputs of the network.
        """
        signals = list(signals)
        for signal in signals:
            self.read(signal)
            self.block(signal.source, reason)
        terms = tuple((source, ()) for source in dict.fromkeys(s.source for s in signals))
        self.sums[name] = PlacedSum(name, size, terms, whole=True)
        return Signal(tuple(shape), name, len(shape) - 1, shape[-1] if shape else 1)

    def by_channel(self, name: str, shape: Shape, signals: Iterable[Signal], reason: str) -> Signal:
        """The one signal that an operation on each channel of a map reads, mixed unless its nodes are the channels."""
        (signal,) = signals = tuple(signals)
        if self.stays(signal) or (signal.axis, signal.width) == (0, 1):
            return signal
        return self.mixed(name, shape, signals, reason)

    def placed(
        self, name: str, signals: Sequence[Signal], starts: Sequence[int], size: int
    ) -> Signal:
        """Signals added up, or put beside each other: each from a place on.

        Closed members must pass on 0 there: those that do not are kept.
        """
        for signal in signals:
            self.read(signal)
            if signal.chain:
                self.block(
                    signal.source, f"{name} adds up what closed nodes pass on, and that is not 0"
                )
        terms = tuple(
            (s.source, tuple(range(at, at + s.members)))
            for s, at in zip(signals, starts, strict=True)
        )
        self.sums[name] = PlacedSum(name, size, terms)
        self.axes[name] = signals[0].dim
        shape = list(signals[0].shape)
        shape[signals[0].axis] = size
        return replace(signals[0], shape=tuple(shape), source=name, chain=())

    def layer(self, signal: Signal, **fields: Any) -> None:
        """A layer reads a signal: record its group."""
        name, geometry = fields["name"], fields["geometry"]
        self.read(signal)
        padded = geometry is not None and geometry.zero_padded
        if signal.chain and not self.stays(signal):
            if padded:
                reason = (
                    f"{name} pads its maps with zeros, and closed nodes pass on another constant"
                )
                self.block(signal.source, reason)
            else:
                self.passed[name] = signal
        self.layers[name] = {**fields, "source": signal.source}

    def finish(self, output: Signal, ungated: Iterable[str]) -> None:
        """Settle what is cut together and what cannot be, once everything has been seen.

        :param output: the network's output, which keeps all its members.
        :param ungated: layers that are to carry no gates.
        """
        self.block(output.source, "it is the network's output")
        for name in ungated:
            self.block(name, "by choice")
        for leader, follower, name in self._pairs:
            alone = follower in self.layers and self._readers[follower] == 1
            if alone and leader in self.layers and follower not in self.blocked:
                self.follows[follower] = leader
            else:
                others = "what is no layer of its own" if alone else "what others read as well"
                for source in (follower, leader):
                    self.block(source, f"{name} reads {others} channel by channel")
        self.follows = dict(sorted(self.follows.items(), key=lambda pair: self._leaders(pair[0])))
        for name, total in reversed(self.sums.items()):
            if name in self.blocked and not total.whole:
                for term, _ in total.terms:
                    self.block(term, self.blocked[name])
        for follower, leader in self.follows.items():
            if leader in self.blocked:
                self.block(follower, self.blocked[leader])

    def gated(self) -> list[str]:
        """Layers that may carry gates, in forward order."""
        return [n for n in self.layers if n not in self.blocked and n not in self.follows]

    def _leaders(self, name: str) -> int:
        """How many layers a layer follows, one behind the other."""
        return 1 + self._leaders(self.follows[name]) if name in self.follows else 0

    def behind(self, source: str) -> set[str]:
        """The layers that a source is made of, through sums of members."""
        if source in self.layers:
            return {source}
        total = self.sums.get(source)
        if total is None or total.whole:
            return set()
        return set().union(*(self.behind(term) for term, _ in total.terms))
