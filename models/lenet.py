"""A convolutional network of gated filters and gated dense nodes, in the manner of LeNet-5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.layers import max_pool
from pyro_ssbnn.likelihoods import Likelihood
from pyro_ssbnn.models.image import ImageNetwork
from pyro_ssbnn.models.layout import Layout
from pyro_ssbnn.models.wiring import Wiring
from pyro_ssbnn.priors import Prior
from pyro_ssbnn.registry import register
from pyro_ssbnn.structure.geometry import ConvolutionGeometry

__all__ = ["LeNet"]

_POOL = 2


@register("lenet")
class LeNet(ImageNetwork):
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
    :param prefix: what all site names begin with, see :class:`GatedNetwork`.
    :raises ConfigurationError: for shapes or widths outside their domain, images too small for the convolutions, and
        the theory's prior inclusion, which is known for perceptrons only.
    """

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
        prefix: str | None = None,
    ) -> None:
        super().__init__(image_shape, prior, likelihood, output_prior, activation, prefix)
        if not filters:
            raise ConfigurationError("LeNet: at least one convolution is needed; got none.")
        self.filters, self.hidden = list(filters), list(hidden)
        self.geometry = ConvolutionGeometry(kernel_size, padding=padding)
        layout = Layout("LeNet", self.image_shape)
        for layer, size in enumerate(filters, 1):
            layout.convolution(f"conv{layer}", size, self.geometry)
            layout.pool(_POOL)
        for layer, size in enumerate(hidden, 1):
            layout.dense(f"hidden{layer}", size)
        self._lay_out(layout)

    @staticmethod
    def wire(net: Wiring, x: Tensor) -> Tensor:
        """Convolutions, activation, pooling; then dense layers."""
        h = net.inputs(x)
        for layer in range(len(net.shape["filters"])):
            h = max_pool(net.phi(net.layer(f"conv{layer + 1}", h)), _POOL)
        h = h.flatten(-3)
        for layer in range(len(net.shape["hidden"])):
            h = net.phi(net.layer(f"hidden{layer + 1}", h))
        return net.layer("output", h)

    def _shape_config(self) -> dict[str, Any]:
        return {
            "image_shape": list(self.image_shape),
            "filters": self.filters,
            "hidden": self.hidden,
            "kernel_size": self.geometry.kernel_size,
            "padding": self.geometry.padding,
        }
