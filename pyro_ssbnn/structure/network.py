"""What the engine asks of a network, whatever its layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from pyro_ssbnn.likelihoods import Likelihood
from pyro_ssbnn.structure.axes import Axis
from pyro_ssbnn.structure.cut import CutLayer
from pyro_ssbnn.structure.description import NetworkDescription

__all__ = ["Network"]


class Network(Protocol):
    """A Pyro model with a description of its node groups."""

    description: NetworkDescription
    likelihood: Likelihood
    closed_activation: float
    """What a closed node passes on: the activation of 0; see :meth:`passed_on`."""
    training: bool
    """Whether batch norms take the statistics of the batch (and move the running ones), or the running ones."""

    def __call__(self, x: Tensor, y: Tensor | None = None, num_data: int | None = None) -> Tensor:
        """Sample all sites, conditioned on y where given; returns f, ``[..., N, num_outputs]``."""

    def network(self, x: Tensor) -> Tensor:
        """Sample the weights and map x to f."""

    def narrowed(self, kept: Mapping[str, Tensor]) -> Network:
        """The network without the other members of these groups, under the priors of the whole network."""

    def modules(self) -> Iterator[nn.Module]:
        """The network and all its parts, as :meth:`torch.nn.Module.modules`."""

    def train(self, mode: bool = True) -> Any:
        """Set ``training``."""

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Move the running statistics to a device or dtype, as :meth:`torch.nn.Module.to` does."""

    def state_dict(self) -> dict[str, Any]:
        """Running statistics by name; a network without batch norm has none."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Set the running statistics."""

    def statistics_axes(self) -> dict[str, tuple[Axis, ...]]:
        """Axes of every entry of the ``state_dict``."""

    def passed_on(self) -> float | Mapping[str, Tensor]:
        """What closed nodes pass on to the layers that read them, in evaluation mode.

        One number for all, the activation of 0; or, where it is not 0, ``{layer: [fan_in]}`` for each incoming weight.
        """

    def passes_nothing(self, name: str) -> bool:
        """Whether the closed nodes of a group pass on 0 to everyone, so that they may leave during training."""

    def fold(self, name: str, weight: Tensor, amplitude: Tensor | None) -> Tensor:
        """Effective weights of a layer in evaluation mode, ``[..., size, fan_in + 1]``, bias last.

        :param weight: standardised weights u, ``[..., size, group_size]``.
        :param amplitude: z t, ``[..., size]``; None for 1.
        """

    def to_config(self) -> dict[str, Any]:
        """Plain record of the network."""

    def assemble(self, layers: Mapping[str, CutLayer]) -> nn.Module:
        """Put cut layers together to a plain torch network that maps the original x to f."""
