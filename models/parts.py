"""Parts of a network that have no weights in the posterior: they stay at the values they came with."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.layers import ChannelStatistics

__all__ = [
    "ChannelNorm",
    "ChannelScale",
    "FixedLayerNorm",
    "FixedTensor",
    "Part",
    "parts_from_config",
    "parts_to_config",
]


class Part(nn.Module):
    """A part of a network, and of its pruned form; its tensors are buffers."""

    kind: ClassVar[str]

    @abstractmethod
    def plain(self, kept: Tensor | None) -> Part:
        """The part of a pruned network.

        :param kept: indices of the members that are left along its tensors; None for all.
        """

    def to_config(self) -> dict[str, Any]:
        """Plain record of what the tensors do not tell."""
        return {"kind": self.kind}


class ChannelScale(Part):
    """Each channel times a scale plus a shift.

    :param scale: ``[C]``.
    :param shift: ``[C]``.
    :param dims: dimensions of a map behind the channels.
    """

    kind = "scale"
    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor, dims: int) -> None:
        super().__init__()
        self.dims = dims
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, h: Tensor) -> Tensor:
        """Map ``[..., C, H, W]``."""
        scale, shift = (v.view(-1, *[1] * self.dims) for v in (self.scale, self.shift))
        return torch.addcmul(shift, h, scale)

    def plain(self, kept: Tensor | None) -> ChannelScale:
        """The scales and shifts of the channels that are left."""
        scale, shift = self.scale, self.shift
        if kept is not None:
            scale, shift = scale[kept.to(scale.device)], shift[kept.to(shift.device)]
        return ChannelScale(scale.clone(), shift.clone(), self.dims)

    def to_config(self) -> dict[str, Any]:
        """Record with the dimensions of a map."""
        return {**super().to_config(), "dims": self.dims}


class ChannelNorm(Part):
    """A batch norm that follows no layer: statistics as everywhere, its scale and shift as they came.

    :param size: channels.
    :param dims: dimensions of a map behind the channels, 0 to 2.
    """

    kind = "norm"
    scale: Tensor
    shift: Tensor

    def __init__(self, size: int, dims: int, momentum: float, eps: float) -> None:
        super().__init__()
        self.dims = dims
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("shift", torch.zeros(size))
        self.statistics = ChannelStatistics(size, momentum, eps)

    def forward(self, h: Tensor) -> Tensor:
        """Normalised maps ``[..., N, C, H, W]``."""
        y = h.reshape(*h.shape, *[1] * (2 - self.dims))
        return self.statistics(y, self.scale, self.shift).reshape(h.shape)

    def plain(self, kept: Tensor | None) -> ChannelScale:
        """What it does with the running statistics."""
        mean, var = self.statistics.running_mean, self.statistics.running_var
        scale = self.scale * (var + self.statistics.eps).rsqrt()
        return ChannelScale(scale, self.shift - scale * mean, self.dims).plain(kept)


class FixedTensor(Part):
    """A tensor beside the rows: an embedding of positions, a token of the class, a table of embeddings.

    :param value: ``[*shape]``.
    """

    kind = "tensor"
    value: Tensor

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    def forward(self) -> Tensor:
        """The tensor."""
        return self.value

    def plain(self, kept: Tensor | None) -> FixedTensor:
        """The tensor as it is."""
        return FixedTensor(self.value.clone())


class FixedLayerNorm(Part):
    """A layer norm over the last dimensions, its scale and shift as they came.

    :param scale: ``[*shape]``.
    :param shift: ``[*shape]``.
    """

    kind = "layer_norm"
    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, h: Tensor) -> Tensor:
        """Normalised ``[..., *shape]``."""
        return layer_norm(h, self.scale.shape, self.scale, self.shift, self.eps)

    def plain(self, kept: Tensor | None) -> FixedLayerNorm:
        """The layer norm as it is."""
        return FixedLayerNorm(self.scale.clone(), self.shift.clone(), self.eps)

    def to_config(self) -> dict[str, Any]:
        """Record with epsilon."""
        return {**super().to_config(), "eps": self.eps}


_OF_PRUNED: dict[str, Any] = {
    part.kind: part for part in (ChannelScale, FixedTensor, FixedLayerNorm)
}


def parts_to_config(parts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Plain record of a pruned network's parts."""
    return {name: part.to_config() for name, part in parts.items()}


def parts_from_config(
    record: Mapping[str, Mapping[str, Any]], state: Mapping[str, Tensor]
) -> dict[str, nn.Module]:
    """Parts of :func:`parts_to_config`'s record and a pruned network's tensors.

    :raises ConfigurationError: for an unknown kind.
    :raises KeyError: when a tensor is missing.
    """
    parts: dict[str, nn.Module] = {}
    for name, entry in record.items():
        prefix = f"parts.{name}."
        tensors = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
        options = {k: v for k, v in entry.items() if k != "kind"}
        try:
            parts[name] = _OF_PRUNED[entry["kind"]](**tensors, **options)
        except (KeyError, TypeError) as error:
            raise ConfigurationError(
                f"the part {name} cannot be made again ({error!r})."
            ) from error
    return parts
