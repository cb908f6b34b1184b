"""What the engine asks of a guide, whatever its family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor
from torch.nn import Parameter

from pyro_ssbnn.structure.axes import Axis
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.network import Network

__all__ = ["Guide", "LogMoments"]

LogMoments = Mapping[str, tuple[Tensor, Tensor]]
"""Mean and variance of each latent's logarithm, by the last part of its site name."""


class Guide(Protocol):
    """A Pyro guide that knows the inclusion probabilities of its network's nodes.

    :class:`~pyro_ssbnn.guides.StructuredGuide` is the one to start from; a family of one's own is a subclass of it, or
    a module with these methods.
    """

    description: NetworkDescription
    hard: bool
    """Whether gates are drawn exactly 0 or 1, or relaxed."""
    temperature: Tensor
    """Of the gates' relaxation, a scalar."""

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Sample every latent site of the model."""

    def inclusion(self) -> dict[str, Tensor]:
        """Exact inclusion probabilities q(z = 1) of every gated group, ``{group: [size]}``, detached."""

    def inclusion_logits(self, name: str) -> Tensor:
        """Log-odds of inclusion of a gated group, ``[size]``, detached."""

    def gate_logits(self, name: str) -> Parameter:
        """The parameter of a gated group's log-odds, ``[size]``."""

    def mean_standardized(self, name: str, open: Mapping[str, Tensor] | None = None) -> Tensor:
        """E_q[t u | z = 1] / E_q[t] of a layer, ``[size, group_size]``; ``open`` are masks of the open gates."""

    def mean_slab_scale(self, name: str) -> Tensor | None:
        """E_q[t] of a layer's nodes, ``[size]``; None where t = 1."""

    def mean_weights(self, name: str) -> Tensor:
        """E_q[t u | z = 1] of a layer, ``[size, group_size]``."""

    def scale_moments(self, name: str) -> tuple[LogMoments, LogMoments]:
        """Moments of the logarithms of a layer's own and of its network-wide scale latents, detached."""

    def parameter_axes(self) -> dict[str, tuple[Axis, ...]]:
        """Axes of every parameter and buffer, by its name in the ``state_dict``."""

    def parameter_groups(self) -> dict[str, list[Parameter]]:
        """Parameters by what they are: ``means.{layer}``, ``log_scales``, ``latents``, ``gates.{group}``."""

    def narrowed(self, model: Network, kept: Mapping[str, Tensor]) -> Guide:
        """Guide of the same family and parameters for a network narrowed to these members."""

    def restarted(self, model: Network) -> Guide:
        """A new guide of the same class and options, at new starting values; what restarts are made by."""

    def close(self, closed: Mapping[str, Tensor]) -> None:
        """Close members for good, ``{group: [closed]}``: their weights follow the prior."""

    def admit(self, admitted: Mapping[str, Tensor]) -> None:
        """Let closed members in again, ``{group: [admitted]}``; what the network computes stays as it is."""

    def fix_gates(self, open: Mapping[str, Tensor]) -> None:
        """Set inclusion probabilities to 1 and 0, ``{group: [size]}``."""

    def to_config(self) -> dict[str, Any]:
        """The constructor's options, beside the network, that fix the form of the guide: ``cls(model, **record)``."""

    def parameters(self) -> Iterator[Parameter]:
        """All parameters, as :meth:`torch.nn.Module.parameters`."""

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their names in the ``state_dict``."""

    def state_dict(self) -> dict[str, Tensor]:
        """Parameters and buffers by name."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Set parameters and buffers."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Move the parameters to a device or dtype, as :meth:`torch.nn.Module.to`."""
