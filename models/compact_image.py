"""The plain torch network that pruning an image network returns: only kept filters and nodes, for one or S draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from pyro_ssbnn.layers.convolution import convolve
from pyro_ssbnn.models.compact import CompactLinear, CompactNetwork
from pyro_ssbnn.models.wiring import Addition, sums_from_config, sums_to_config
from pyro_ssbnn.registry import record_of
from pyro_ssbnn.structure.geometry import ConvolutionGeometry
from pyro_ssbnn.structure.sums import PlacedSum

__all__ = ["CompactConv2d", "CompactImageNetwork"]

# Images times draws that pass together on the CPU, and images at least: maps of more leave the processor's cache, and
# their memory is asked for anew at every layer. Of 16 to 512, what is fast for a LeNet and a ResNet-20 alike.
_PIECE, _ROWS = 128, 16


class CompactConv2d(nn.Module):
    """Convolution with fixed weights: one set, or S posterior draws.

    Without filters it gives maps without channels; without source channels, its biases at every pixel.

    :param weight: ``[out, in, k, k]`` or ``[S, out, in, k, k]``.
    :param bias: ``[out]`` or ``[S, out]``.
    :param geometry: how the kernels move.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, geometry: ConvolutionGeometry) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.geometry = geometry

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, in, H, W]`` (or ``[S, N, in, H, W]``) to ``[N, out, H', W']``, or ``[S, N, ...]`` for draws."""
        if self.weight.numel():
            return convolve(x, self.weight, self.bias, self.geometry)
        sides = self.geometry.output_size(x.shape[-2], x.shape[-1])
        bias = self.bias[..., None, :, None, None]
        return bias.expand(*self.bias.shape[:-1], x.shape[-4], self.bias.shape[-1], *sides)


class CompactImageNetwork(CompactNetwork):
    """A pruned image network: ``forward`` takes the original flattened images and returns f.

    :param network: class of the network it was, whose ``wire`` says how its layers are put together.
    :param layers: convolutions and dense maps by group, in forward order.
    :param sums: sums of kept channels.
    :param shape: the network's record of its shape, with ``image_shape``.
    :param activation: name of the activation.
    :param kept: original indices of each hidden layer's kept filters and nodes.
    """

    def __init__(
        self,
        network: type[Any],
        layers: Mapping[str, CompactConv2d | CompactLinear],
        sums: Sequence[PlacedSum],
        shape: Mapping[str, Any],
        activation: str,
        kept: Mapping[str, Tensor],
    ) -> None:
        super().__init__(activation, kept, math.prod(shape["image_shape"]))
        self.network, self.shape = network, shape
        self.layers = nn.ModuleDict(layers)
        self._placed = tuple(sums)
        self.sums = nn.ModuleDict({total.name: Addition(total) for total in sums})
        bias = next(iter(layers.values())).bias
        self._draws = len(bias) if bias.ndim == 2 else 1

    def forward(self, x: Tensor) -> Tensor:
        """Output f, ``[N, num_outputs]``, or ``[S, N, num_outputs]`` for draws, at images x, ``[N, p]``.

        :raises DataError: for images of another size.
        """
        self.check_width(x)
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return self._wired(x)
        pieces = x.split(max(_ROWS, _PIECE // self._draws))
        return torch.cat([self._wired(piece) for piece in pieces], dim=-2)

    def _wired(self, x: Tensor) -> Tensor:
        f: Tensor = self.network.wire(self, x)
        return f

    def images(self, x: Tensor) -> Tensor:
        """Flattened images ``[N, p]`` as ``[N, C, H, W]``."""
        return x.unflatten(-1, tuple(self.shape["image_shape"]))

    def layer(self, name: str, h: Tensor) -> Tensor:
        """Pre-activations of a layer."""
        result: Tensor = self.layers[name](h)
        return result

    def add(self, name: str, *terms: Tensor) -> Tensor:
        """The sum of that name."""
        result: Tensor = self.sums[name](*terms)
        return result

    def to_config(self) -> dict[str, Any]:
        """Plain record that, with the ``state_dict``, makes the network again.

        :raises ConfigurationError: for a network whose class has no name of its own (:func:`pyro_ssbnn.register`).
        """
        record = record_of(self.network)
        return {
            "network": record["name"],
            "module": record["module"],
            **super().to_config(),
            "shape": {**self.shape},
            "layers": {name: _geometry_config(layer) for name, layer in self.layers.items()},
            "sums": sums_to_config(self._placed),
        }

    @classmethod
    def from_state(
        cls, network: type[Any], config: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> CompactImageNetwork:
        """Make a network from its record and its tensors.

        :raises KeyError: when an entry or a tensor is missing.
        """
        layers: dict[str, CompactConv2d | CompactLinear] = {}
        for name, geometry in config["layers"].items():
            tensors = state[f"layers.{name}.weight"], state[f"layers.{name}.bias"]
            if geometry is None:
                layers[name] = CompactLinear(*tensors)
            else:
                layers[name] = CompactConv2d(*tensors, ConvolutionGeometry(**geometry))
        kept = {name: state[f"kept_{name}"] for name in config["kept"]}
        sums = sums_from_config(config["sums"])
        return cls(network, layers, sums, config["shape"], config["activation"], kept)


def _geometry_config(layer: nn.Module) -> dict[str, int] | None:
    return asdict(layer.geometry) if isinstance(layer, CompactConv2d) else None
