"""How the layers of a network are put together, said once: for the Pyro model and for its pruned form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyro
import torch
from torch import Tensor, nn

from pyro_ssbnn.layers import folded, sample_gate
from pyro_ssbnn.priors import Latents
from pyro_ssbnn.structure.sums import PlacedSum

__all__ = ["Addition", "SampledWiring", "Wiring"]


class Wiring(Protocol):
    """What a network's ``wire`` puts together: the layers of a Pyro model with weights just drawn, or pruned ones."""

    @property
    def shape(self) -> Mapping[str, Any]:
        """Record of the network's shape: what its ``_wire_config`` gives, its ``_shape_config`` by default."""

    def inputs(self, x: Tensor) -> Tensor:
        """Predictors ``[N, p]`` as the first layer reads them: gated or selected; images as ``[N, C, H, W]``."""

    def layer(self, name: str, h: Tensor) -> Tensor:
        """Pre-activations of a layer, ``[..., N, size, H', W']`` or ``[..., N, size]``."""

    def phi(self, h: Tensor) -> Tensor:
        """The network's activation."""

    def add(self, name: str, *terms: Tensor, dim: int = -3) -> Tensor:
        """The sum of that name, of its terms in the description's order, ``[..., N, places, H, W]``.

        :param dim: where the places lie, counted from the end.
        """

    def part(self, name: str, *h: Tensor) -> Tensor:
        """What a part of the network without weights of its own in the posterior makes of h."""


@dataclass(frozen=True)
class SampledWiring:
    """One pass through a Pyro model: its layers sample as they are called.

    :param network: the :class:`~pyro_ssbnn.models.GatedNetwork`.
    :param shared: values of the network-wide latents, by scope.
    """

    network: Any
    shared: Mapping[str, Latents]

    @property
    def shape(self) -> Mapping[str, Any]:
        """Record of the network's shape."""
        shape: Mapping[str, Any] = self.network._wire_config()
        return shape

    def inputs(self, x: Tensor) -> Tensor:
        """Sample the predictors' gates, and fold images."""
        inputs, image = self.network.description.inputs, self.network.image_shape
        if inputs.gated:
            with pyro.plate(inputs.path, inputs.size, dim=-1):
                gate = sample_gate(inputs, x)
            x = x * inputs.spread(gate).unsqueeze(-2)
        return folded(x, image) if image else x

    def layer(self, name: str, h: Tensor) -> Tensor:
        """Sample a layer's weights and map h."""
        layer = self.network.layer(name)
        result: Tensor = layer(h, self.shared[layer.group.scope])
        return result

    def phi(self, h: Tensor) -> Tensor:
        """The activation."""
        result: Tensor = self.network.phi(h)
        return result

    def add(self, name: str, *terms: Tensor, dim: int = -3) -> Tensor:
        """The sum of that name."""
        result: Tensor = getattr(self.network, name)(*terms, dim=dim)
        return result

    def part(self, name: str, *h: Tensor) -> Tensor:
        """A part without weights in the posterior."""
        result: Tensor = getattr(self.network, name)(*h)
        return result


class Addition(nn.Module):
    """Add maps at the places that a sum gives their channels.

    :param total: the sum; terms without members are skipped.
    """

    def __init__(self, total: PlacedSum) -> None:
        super().__init__()
        self.total = total
        everywhere = tuple(range(total.size))
        self.whole = [places == everywhere for _, places in total.terms]
        self.beside = sum((places for _, places in total.terms), ()) == everywhere
        for number, (_, places) in enumerate(total.terms):
            # Not saved: the record of the network has them.
            self.register_buffer(f"places{number}", torch.tensor(places, dtype=torch.long), False)

    def forward(self, *terms: Tensor, dim: int = -3) -> Tensor:
        """Sum ``[..., N, places, H, W]`` of terms ``[..., N, members, H, W]``.

        :param dim: where members and places lie, counted from the end.
        """
        if self.beside:
            lead = torch.broadcast_shapes(*(term.shape[:dim] for term in terms))
            return torch.cat([term.expand(*lead, *term.shape[dim:]) for term in terms], dim)
        result: Tensor | None = None
        for term, whole in zip(terms, self.whole, strict=True):
            if whole:
                result = term if result is None else result + term
        for number, (term, whole) in enumerate(zip(terms, self.whole, strict=True)):
            if whole or not term.shape[dim]:
                continue
            if result is None:
                shape = (*term.shape[:dim], self.total.size, *term.shape[dim:][1:])
                result = term.new_zeros(shape)
            result = _placed(result, term, self.get_buffer(f"places{number}"), dim)
        if result is None:  # all terms are empty
            return terms[0]
        return result


def _placed(result: Tensor, term: Tensor, places: Tensor, dim: int) -> Tensor:
    if dim == -3 and _lies_last(result):  # torch's index_add would change the layout
        moved = _placed(result.movedim(-3, -1), term.movedim(-3, -1), places, -1)
        return moved.movedim(-1, -3)
    draws = torch.broadcast_shapes(result.shape[:dim], term.shape[:dim])
    result = result.expand(*draws, *result.shape[dim:])
    return result.index_add(dim, places, term.expand(*draws, *term.shape[dim:]))


def _lies_last(maps: Tensor) -> bool:
    """Whether maps ``[N, C, H, W]`` lie channel beside channel in memory."""
    if maps.ndim != 4 or maps.is_contiguous():
        return False
    return maps.is_contiguous(memory_format=torch.channels_last)


def sums_to_config(sums: Sequence[PlacedSum]) -> list[list[Any]]:
    """Plain record of sums."""
    return [
        [s.name, s.size, [[name, list(at)] for name, at in s.terms], *([True] if s.whole else [])]
        for s in sums
    ]


def sums_from_config(record: Sequence[Sequence[Any]]) -> tuple[PlacedSum, ...]:
    """Sums of :func:`sums_to_config`'s record."""
    return tuple(
        PlacedSum(name, size, tuple((term, tuple(at)) for term, at in terms), *whole)
        for name, size, terms, *whole in record
    )
