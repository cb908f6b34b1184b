"""The plain torch network that pruning a LeNet returns: only the kept filters and nodes, for one or S draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from pyro_ssbnn.layers.convolution import ConvolutionGeometry, convolve, max_pool
from pyro_ssbnn.models.compact import CompactLinear, CompactNetwork

__all__ = ["CompactConv2d", "CompactLeNet"]


class CompactConv2d(nn.Module):
    """Convolution with fixed weights: one set, or S posterior draws evaluated in one call.

    :param weight: ``[out, in, k, k]`` or ``[S, out, in, k, k]``.
    :param bias: ``[out]`` or ``[S, out]``.
    :param padding: rows and columns of zeros around the image.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self, weight: Tensor, bias: Tensor, stride: int = 1, padding: int = 0, dilation: int = 1
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.geometry = ConvolutionGeometry(weight.shape[-1], stride, padding, dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, in, H, W]`` (or ``[S, N, in, H, W]``) to ``[N, out, H', W']``, or ``[S, N, ...]`` for draws."""
        return convolve(x, self.weight, self.bias, self.geometry)


class CompactLeNet(CompactNetwork):
    """A pruned LeNet: ``forward`` takes the original flattened images and returns f.

    :param convolutions: in forward order, each followed by the activation and 2 x 2 max-pooling.
    :param layers: the dense maps in forward order.
    :param activation: name of the activation.
    :param image_shape: channels, height and width of the images.
    :param kept: original indices of each hidden layer's kept filters and nodes.
    """

    kind = "lenet"

    def __init__(
        self,
        convolutions: Sequence[CompactConv2d],
        layers: Sequence[CompactLinear],
        activation: str,
        image_shape: Sequence[int],
        kept: Mapping[str, Tensor],
    ) -> None:
        super().__init__(activation, kept)
        self.paddings = [layer.geometry.padding for layer in convolutions]
        self.convolutions = nn.ModuleList(convolutions)
        self.layers = nn.ModuleList(layers)
        self.image_shape = tuple(image_shape)

    def forward(self, x: Tensor) -> Tensor:
        """Output f, ``[N, num_outputs]``, or ``[S, N, num_outputs]`` for draws, at images x, ``[N, p]``."""
        h = x.unflatten(-1, self.image_shape)
        for layer in self.convolutions:
            h = max_pool(self.phi(layer(h)), 2)
        h = h.flatten(-3)
        for layer in self.layers[:-1]:
            h = self.phi(layer(h))
        return self.layers[-1](h)

    def to_config(self) -> dict[str, Any]:
        """Plain record that, with the ``state_dict``, makes the network again."""
        return {
            **super().to_config(),
            "image_shape": list(self.image_shape),
            "paddings": self.paddings,
        }

    @classmethod
    def from_state(cls, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> CompactLeNet:
        """Make a network from its record and its tensors; see :meth:`CompactNetwork.from_state`."""
        cls._check_kind(config)

        def tensors(prefix: str) -> tuple[Tensor, Tensor]:
            return state[f"{prefix}.weight"], state[f"{prefix}.bias"]

        names, paddings = config["kept"], config["paddings"]
        convolutions = [
            CompactConv2d(*tensors(f"convolutions.{i}"), padding=padding)
            for i, padding in enumerate(paddings)
        ]
        dense = range(len(names) - len(paddings) + 1)
        layers = [CompactLinear(*tensors(f"layers.{i}")) for i in dense]
        kept = {name: state[f"kept_{name}"] for name in names}
        return cls(convolutions, layers, config["activation"], config["image_shape"], kept)
