"""How the layers of a network are put together, said once: for the Pyro model and for its pruned form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyro
import torch
from torch import Tensor, nn

from pyro_ssbnn.layers import sample_gate
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

    def add(self, name: str, *terms: Tensor) -> Tensor:
        """The sum of that name, of its terms in the description's order, ``[..., N, places, H, W]``."""


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
        return x.unflatten(-1, image) if image else x

    def layer(self, name: str, h: Tensor) -> Tensor:
        """Sample a layer's weights and map h."""
        layer = self.network.layer(name)
        result: Tensor = layer(h, self.shared[layer.group.scope])
        return result

    def phi(self, h: Tensor) -> Tensor:
        """The activation."""
        result: Tensor = self.network.phi(h)
        return result

    def add(self, name: str, *terms: Tensor) -> Tensor:
        """The sum of that name."""
        result: Tensor = getattr(self.network, name)(*terms)
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
        for number, (_, places) in enumerate(total.terms):
            # Not saved: the record of the network has them.
            self.register_buffer(f"places{number}", torch.tensor(places, dtype=torch.long), False)

    def forward(self, *terms: Tensor) -> Tensor:
        """Sum ``[..., N, places, H, W]`` of terms ``[..., N, members, H, W]``."""
        result: Tensor | None = None
        for term, whole in zip(terms, self.whole, strict=True):
            if whole:
                result = term if result is None else result + term
        for number, (term, whole) in enumerate(zip(terms, self.whole, strict=True)):
            if whole or not term.shape[-3]:
                continue
            if result is None:
                shape = (*term.shape[:-3], self.total.size, *term.shape[-2:])
                result = term.new_zeros(shape)
            result = self._placed(result, term, self.get_buffer(f"places{number}"))
        if result is None:  # all terms are empty
            return terms[0]
        return result

    @staticmethod
    def _placed(result: Tensor, term: Tensor, places: Tensor) -> Tensor:
        draws = torch.broadcast_shapes(result.shape[:-3], term.shape[:-3])
        result = result.expand(*draws, *result.shape[-3:])
        return result.index_add(-3, places, term.expand(*draws, *term.shape[-3:]))


def sums_to_config(sums: Sequence[PlacedSum]) -> list[list[Any]]:
    """Plain record of sums."""
    return [[s.name, s.size, [[name, list(at)] for name, at in s.terms]] for s in sums]


def sums_from_config(record: Sequence[Sequence[Any]]) -> tuple[PlacedSum, ...]:
    """Sums of :func:`sums_to_config`'s record."""
    return tuple(
        PlacedSum(name, size, tuple((term, tuple(at)) for term, at in terms))
        for name, size, terms in record
    )
