"""Convolutional network of gated filters and gated dense nodes, in the manner of LeNet-5."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from pyro_ssbnn.description import InputGroup, NetworkDescription, NodeGroup, layer_inclusion
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.layers import ConvolutionGeometry, GroupConv2d, GroupLinear, max_pool
from pyro_ssbnn.likelihoods import Likelihood
from pyro_ssbnn.models.base import GatedNetwork
from pyro_ssbnn.models.compact import CompactLinear
from pyro_ssbnn.models.compact_lenet import CompactConv2d, CompactLeNet
from pyro_ssbnn.priors import Prior, TheoryInclusion

if TYPE_CHECKING:
    from pyro_ssbnn.pruning import CutLayer

__all__ = ["LeNet"]

_POOL = 2


class LeNet(GatedNetwork):
    r"""Convolutions, each followed by the activation and 2 x 2 max-pooling, then dense layers; all hidden nodes gated.

    .. math:: h_l = \mathrm{pool}\{\phi(z_l t_l (u_l \star h_{l-1} + b_l))\},\ \text{then dense layers as in the MLP}

    The default is LeNet-5-Caffe: for 28 x 28 images in one channel and ten classes, groups ``conv1`` (20 filters),
    ``conv2`` (50), ``hidden1`` (800 nodes), ``hidden2`` (500), ``output`` with 1,071,880 weights and 2,949,030
    multiply-adds in all. ``hidden1`` reads the pooled map of ``conv2``, pixel by pixel of its first filter, then of its
    second, ...

    Data are flattened images ``[N, p]``, p = C H W, channel by channel and row by row, as everywhere in the package;
    the p predictors carry no gates.

    :param image_shape: channels, height and width (C, H, W).
    :param filters: filters of each convolution.
    :param hidden: widths of the hidden dense layers; empty for the output layer alone.
    :param prior: prior of the filters and hidden nodes.
    :param likelihood: distribution of the targets; it also sets the number of outputs.
    :param output_prior: ungated prior of the output layer, by default Normal(0, 1) weights.
    :param activation: one of :data:`~pyro_ssbnn.models.ACTIVATIONS`.
    :param kernel_size: side of the kernels in pixels.
    :param padding: zeros around the maps. With an activation that is not 0 at 0, a closed filter then cannot be pruned
        exactly, and pruning says so.
    :raises ConfigurationError: for shapes or widths outside their domain, images too small for the convolutions, and
        the theory's prior inclusion, which is known for perceptrons only.
    """

    kind = "lenet"

    def __init__(
        self,
        image_shape: Sequence[int] = (1, 28, 28),
        filters: Sequence[int] = (20, 50),
        hidden: Sequence[int] = (800, 500),
        *,
        prior: Prior,
        likelihood: Likelihood,
        output_prior: Prior | None = None,
        activation: str = "silu",
        kernel_size: int = 5,
        padding: int = 0,
    ) -> None:
        super().__init__(prior, likelihood, output_prior, activation)
        self._check(image_shape, filters, hidden, prior)
        self.image_shape = tuple(image_shape)
        self.geometry = ConvolutionGeometry(kernel_size, padding=padding)
        size = math.prod(self.image_shape)
        names = tuple(f"x{i + 1}" for i in range(size))
        inputs = InputGroup("input", size, None, names)
        self._build(NetworkDescription(inputs, self._groups(list(filters), list(hidden))))

    @staticmethod
    def _check(
        image_shape: Sequence[int], filters: Sequence[int], hidden: Sequence[int], prior: Prior
    ) -> None:
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise ConfigurationError(
                f"LeNet: image_shape must be three positive numbers (channels, height, width); got {list(image_shape)}."
            )
        if not filters or min([*filters, *hidden]) < 1:
            raise ConfigurationError(
                "LeNet: at least one convolution is needed, and every width must be at least 1; got"
                f" filters={list(filters)}, hidden={list(hidden)}."
            )
        if isinstance(prior.inclusion, TheoryInclusion):
            raise ConfigurationError(
                "LeNet: the theory's prior inclusion is known for perceptrons only; give a number, or one per layer."
            )

    def _groups(self, filters: list[int], hidden: list[int]) -> tuple[NodeGroup, ...]:
        widths = [*filters, *hidden]
        inclusion = layer_inclusion(self.prior, [0, *widths, 0])
        groups: list[NodeGroup] = []
        channels, height, width = self.image_shape
        for layer, size in enumerate(filters):
            rows, columns = self.geometry.output_size(height, width)
            height, width = rows // _POOL, columns // _POOL
            if min(height, width) < 1:
                raise ConfigurationError(
                    f"LeNet: the map of convolution {layer + 1} has {rows} x {columns} pixels, too few to pool; give"
                    " larger images, fewer convolutions, smaller kernels or more padding."
                )
            group = NodeGroup(
                name=f"conv{layer + 1}",
                size=size,
                inclusion=inclusion[layer],
                fan_in=channels * self.geometry.kernel_size**2,
                prior=self.prior,
                source=groups[-1].name if groups else "input",
                columns_per_source=self.geometry.kernel_size**2,
                positions=rows * columns,
                zero_padded=self.geometry.padding > 0,
            )
            groups.append(group)
            channels = size
        pixels = height * width
        for layer, size in enumerate([*hidden, self.likelihood.num_outputs]):
            last = layer == len(hidden)
            group = NodeGroup(
                name="output" if last else f"hidden{layer + 1}",
                size=size,
                inclusion=None if last else inclusion[len(filters) + layer],
                fan_in=groups[-1].size * pixels,
                prior=self.output_prior if last else self.prior,
                source=groups[-1].name,
                columns_per_source=pixels,
                scope="output.global" if last else "global",
            )
            groups.append(group)
            pixels = 1
        return tuple(groups)

    def _build(self, description: NetworkDescription) -> None:
        self.description = description
        for group in description.groups:
            convolves = group.name.startswith("conv")
            layer = GroupConv2d(group, self.geometry) if convolves else GroupLinear(group)
            self.add_module(group.name, layer)

    def network(self, x: Tensor) -> Tensor:
        """Sample the weights and map flattened images x, ``[N, p]``, to f, without the likelihood."""
        shared = self.sample_shared(x)
        h = x.unflatten(-1, self.image_shape)
        for group in self.description.groups:
            layer = getattr(self, group.name)
            if isinstance(layer, GroupConv2d):
                h = max_pool(self.phi(layer(h, shared[group.scope])), _POOL)
                continue
            if self.description[group.source].name.startswith("conv"):
                h = h.flatten(-3)
            h = layer(h, shared[group.scope])
            if group is not self.description.groups[-1]:
                h = self.phi(h)
        return h

    def assemble(self, layers: Mapping[str, CutLayer]) -> CompactLeNet:
        """Put cut layers together to a plain torch network."""
        side, padding = self.geometry.kernel_size, self.geometry.padding
        convolutions, dense = [], []
        for name, cut in layers.items():
            if name.startswith("conv"):
                kernel = cut.weight.unflatten(-1, (-1, side, side))
                convolutions.append(CompactConv2d(kernel, cut.bias, padding=padding))
            else:
                dense.append(CompactLinear(cut.weight, cut.bias))
        kept = {g.name: layers[g.name].rows for g in self.description.groups[:-1]}
        return CompactLeNet(convolutions, dense, self.activation, self.image_shape, kept)

    def _shape_config(self) -> dict[str, Any]:
        sizes = {g.name: g.size for g in self.description.groups[:-1]}
        return {
            "image_shape": list(self.image_shape),
            "filters": [size for name, size in sizes.items() if name.startswith("conv")],
            "hidden": [size for name, size in sizes.items() if name.startswith("hidden")],
            "kernel_size": self.geometry.kernel_size,
            "padding": self.geometry.padding,
        }
