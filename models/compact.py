"""The plain torch network that pruning returns: no Pyro, no gates, only the kept nodes, for one or S draws."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from pyro_ssbnn.errors import DataError
from pyro_ssbnn.layers.convolution import convolve
from pyro_ssbnn.models.activations import ACTIVATIONS
from pyro_ssbnn.models.parts import parts_from_config, parts_to_config
from pyro_ssbnn.models.wiring import Addition, sums_from_config, sums_to_config
from pyro_ssbnn.registry import record_of
from pyro_ssbnn.structure.cut import CutLayer
from pyro_ssbnn.structure.geometry import ConvolutionGeometry
from pyro_ssbnn.structure.groups import NodeGroup
from pyro_ssbnn.structure.linear import LinearGroup
from pyro_ssbnn.structure.sums import PlacedSum

__all__ = ["CompactConv2d", "CompactLinear", "CompactNetwork", "plain_layer"]

# Images times draws that pass together on the CPU, and images at least: maps of more leave the processor's cache, and
# their memory is asked for anew at every layer. Of 16 to 512, what is fast for a LeNet and a ResNet-20 alike.
_PIECE, _ROWS = 128, 16


class CompactLinear(nn.Module):
    """Affine map with fixed weights: one set, or S posterior draws evaluated in one batched product.

    Without inputs it gives its biases, without nodes nothing.

    :param weight: ``[out, in]`` or ``[S, out, in]``.
    :param bias: ``[out]`` or ``[S, out]``.
    :param index: which entries of what comes are its inputs, ``[in]``; None for all.
    """

    weight: Tensor
    bias: Tensor
    index: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor, index: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.register_buffer("index", index)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, in]`` (or ``[S, N, in]``) to ``[N, out]``, or ``[S, N, out]`` for draws."""
        if self.index is not None:
            x = x.index_select(-1, self.index)
        if not self.weight.numel():  # reads nothing, or has no node
            bias = self.bias.unsqueeze(-2)
            return bias.expand(*self.bias.shape[:-1], x.shape[-2], self.bias.shape[-1])
        if self.weight.ndim == 2:
            return linear(x, self.weight, self.bias)
        if x.ndim == 2:  # one product for all draws: the input is shared
            draws, size, fan_in = self.weight.shape
            flat = linear(x, self.weight.reshape(draws * size, fan_in), self.bias.reshape(-1))
            # Not len(x): an exporter would take it for a constant.
            return flat.reshape(x.shape[0], draws, size).transpose(0, 1)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight.mT)


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


class CompactNetwork(nn.Module):
    """A pruned network: ``forward`` takes the *original* predictors (images flattened) and returns f.

    :param network: class of the network it was, whose ``wire`` says how its layers are put together.
    :param layers: dense maps and convolutions by group, in forward order.
    :param activation: name of the activation.
    :param kept: original indices of each hidden layer's kept nodes.
    :param shape: what ``wire`` reads, with ``image_shape`` (C, H, W) where predictors are images.
    :param num_inputs: p, number of original columns of x; None for a file that does not say it.
    :param input_index: original indices of the kept predictors' columns, or None when all are kept.
    :param sums: sums of kept channels.
    :param parts: what has no weights in the posterior, such as a batch norm that follows no layer.
    """

    input_index: Tensor | None

    def __init__(
        self,
        network: type[Any],
        layers: Mapping[str, CompactConv2d | CompactLinear],
        activation: str,
        kept: Mapping[str, Tensor],
        *,
        shape: Mapping[str, Any],
        num_inputs: int | None,
        input_index: Tensor | None = None,
        sums: Sequence[PlacedSum] = (),
        parts: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.shape, self.num_inputs = network, shape, num_inputs
        self.register_buffer("input_index", input_index)
        self.activation = activation
        self.phi = ACTIVATIONS[activation]()
        self.kept_names = tuple(kept)
        for name, indices in kept.items():
            self.register_buffer(f"kept_{name}", indices)
        self.layers = nn.ModuleDict(layers)
        self._placed = tuple(sums)
        self.sums = nn.ModuleDict({s.name: Addition(s) for s in sums if not s.whole})
        self.parts: Any = nn.ModuleDict(parts) if parts else {}
        bias = next(iter(layers.values())).bias
        self._draws = len(bias) if bias.ndim == 2 else 1

    @property
    def kept(self) -> dict[str, Tensor]:
        """Original index of every kept node, ``{layer: [kept]}``."""
        return {name: getattr(self, f"kept_{name}") for name in self.kept_names}

    def forward(self, x: Tensor) -> Tensor:
        """Output f, ``[N, num_outputs]``, or ``[S, N, num_outputs]`` for draws, at predictors x, ``[N, p]``.

        :raises DataError: for another number of columns than there were predictors before pruning.
        """
        if not (isinstance(x, Tensor) and x.is_floating_point()):
            kind = f"a tensor of {x.dtype}" if isinstance(x, Tensor) else type(x).__name__
            raise DataError(
                f"{type(self).__name__}: x must be a floating-point torch.Tensor; got {kind}."
            )
        if self.num_inputs is not None and x.shape[-1] != self.num_inputs:
            raise DataError(
                f"{type(self).__name__}: x must be [N, {self.num_inputs}], the predictors of the network before it was"
                f" pruned; got {list(x.shape)}."
            )
        whole = "image_shape" not in self.shape or x.device.type != "cpu"
        if whole or torch.compiler.is_compiling():
            f: Tensor = self.network.wire(self, x)
            return f
        pieces = x.split(max(_ROWS, _PIECE // self._draws))
        return torch.cat([self.network.wire(self, piece) for piece in pieces], dim=-2)

    def inputs(self, x: Tensor) -> Tensor:
        """The kept predictors, ``[N, kept]``; images as ``[N, C, H, W]``."""
        if self.input_index is not None:
            x = x.index_select(-1, self.input_index)
        image = self.shape.get("image_shape")
        return x if image is None else x.unflatten(-1, tuple(image))

    def layer(self, name: str, h: Tensor) -> Tensor:
        """Pre-activations of a layer."""
        result: Tensor = self.layers[name](h)
        return result

    def add(self, name: str, *terms: Tensor, dim: int = -3) -> Tensor:
        """The sum of that name."""
        result: Tensor = self.sums[name](*terms, dim=dim)
        return result

    def part(self, name: str, *h: Tensor) -> Tensor:
        """A part without weights in the posterior."""
        result: Tensor = self.parts[name](*h)
        return result

    def to_config(self) -> dict[str, Any]:
        """Plain record that, with the ``state_dict``, makes the network again.

        :raises ConfigurationError: for a network whose class has no name of its own (:func:`pyro_ssbnn.register`).
        """
        record = record_of(self.network)
        return {
            "network": record["name"],
            "module": record["module"],
            "activation": self.activation,
            "kept": list(self.kept_names),
            "num_inputs": self.num_inputs,
            "shape": {**self.shape},
            "layers": {name: _geometry_config(layer) for name, layer in self.layers.items()},
            "sums": sums_to_config(self._placed),
            **({"parts": parts_to_config(self.parts)} if self.parts else {}),
        }

    @classmethod
    def from_state(
        cls, network: type[Any], config: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> CompactNetwork:
        """Make a network from its record and its tensors.

        :raises KeyError: when an entry or a tensor is missing.
        """
        layers: dict[str, CompactConv2d | CompactLinear] = {}
        for name, geometry in config["layers"].items():
            tensors = state[f"layers.{name}.weight"], state[f"layers.{name}.bias"]
            if geometry is None:
                layers[name] = CompactLinear(*tensors, state.get(f"layers.{name}.index"))
            else:
                layers[name] = CompactConv2d(*tensors, ConvolutionGeometry(**geometry))
        image = config["shape"].get("image_shape")
        return cls(
            network,
            layers,
            config["activation"],
            {name: state[f"kept_{name}"] for name in config["kept"]},
            shape=config["shape"],
            num_inputs=math.prod(image) if image else config.get("num_inputs"),
            input_index=state.get("input_index"),
            sums=sums_from_config(config["sums"]),
            parts=parts_from_config(config.get("parts", {}), state),
        )


def plain_layer(group: NodeGroup, cut: CutLayer) -> CompactConv2d | CompactLinear:
    """A layer after the cut as a plain one."""
    geometry = group.geometry
    if geometry is None:
        index = cut.columns if isinstance(group, LinearGroup) else None  # it reads x itself
        return CompactLinear(cut.weight, cut.bias, index)
    channels = cut.weight.shape[-1] // geometry.pixels
    kernel = cut.weight.unflatten(-1, (channels, *geometry.sides))
    return CompactConv2d(kernel, cut.bias, geometry)


def _geometry_config(layer: nn.Module) -> dict[str, int] | None:
    return asdict(layer.geometry) if isinstance(layer, CompactConv2d) else None
