"""What the engine asks of a network, whatever its layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from pyro_ssbnn.description import NetworkDescription
from pyro_ssbnn.likelihoods import Likelihood

if TYPE_CHECKING:
    from pyro_ssbnn.models import CompactNetwork
    from pyro_ssbnn.pruning import CutLayer

__all__ = ["Network"]


class Network(Protocol):
    """A Pyro model with a description of its node groups."""

    description: NetworkDescription
    likelihood: Likelihood
    closed_activation: float
    """What a closed node passes on: the activation of 0."""

    def __call__(self, x: Tensor, y: Tensor | None = None, num_data: int | None = None) -> Tensor:
        """Sample all sites, conditioned on y where given; returns f, ``[..., N, num_outputs]``."""

    def network(self, x: Tensor) -> Tensor:
        """Sample the weights and map x to f."""

    def narrowed(self, kept: Mapping[str, Tensor]) -> Network:
        """The network without the other members of these groups, under the priors of the whole network."""

    def to_config(self) -> dict[str, Any]:
        """Plain record of the network."""

    def assemble(self, layers: Mapping[str, CutLayer]) -> CompactNetwork:
        """Put cut layers together to a plain torch network that maps the original x to f."""
