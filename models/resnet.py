"""Residual networks of gated filters: CIFAR ResNets, and wide ones of the same block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pyro_ssbnn.checks import check_that
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.likelihoods import Likelihood
from pyro_ssbnn.models.image import ImageNetwork
from pyro_ssbnn.models.layout import Layout
from pyro_ssbnn.models.wiring import Wiring
from pyro_ssbnn.priors import Prior
from pyro_ssbnn.registry import register
from pyro_ssbnn.structure.geometry import ConvolutionGeometry

__all__ = ["ResNet", "WideResNet"]

_WIDTHS = (16, 32, 64)


@register("resnet")
class ResNet(ImageNetwork):
    r"""The residual network for small images of He, Zhang, Ren and Sun (2016), every filter gated, batch norm included.

    .. math:: h_{b} = \phi\big(S(h_{b-1}) + F_{b2}\{\phi(F_{b1}\{h_{b-1}\})\}\big),\qquad
              F\{h\}_j = z_j t_j (a_j n_j + b_j),\quad n = \mathrm{norm}(u \star h)

    A filter owns its kernel, and the scale a and shift b of its batch norm; a closed one adds exactly nothing to the
    residual stream. Three stages of n blocks of two 3 x 3 convolutions each, 16, 32 and 64 filters wide; the second and
    third stage begin with stride 2. Shortcuts S have no parameters (option A): where the stage changes, every second
    pixel is taken, and channels of zeros are added, half of them before and half behind. Then the mean of each map, and
    an ungated classifier. Depth 6n + 2: 20, 32, 44, 56, 110.

    Groups: ``stem``, ``stage1_block1_conv1``, ``stage1_block1_conv2``, ..., ``output``; the sum at the end of a block
    is called ``stage1_block1``. By the usual count (no batch norm's scales and shifts) depth 20 has 268,346 weights and
    40,551,050 multiply-adds on 32 x 32 images of ten classes, depth 32 has 461,882 and 68,862,602.

    :param image_shape: channels, height and width (C, H, W); data are flattened images ``[N, C H W]``.
    :param depth: 6n + 2.
    :param widths: filters of each of the three stages, not fewer than in the stage before; the first is that of the
        stem, too.
    :param shortcuts: where the stage changes: "padded" (option A), or "convolution", 1 x 1 with filters of their own,
        gates and batch norms among them (``stage2_block1_shortcut``, ...), as in the published networks.
    :param prior: prior of the filters.
    :param likelihood: distribution of the targets; it also sets the number of outputs.
    :param output_prior: ungated prior of the classifier, by default Normal(0, 1) weights.
    :param activation: one of :data:`~pyro_ssbnn.models.ACTIVATIONS` that is 0 at 0: another one would pass a constant
        on from closed channels, which padded convolutions cut off at the border.
    :param prefix: what all site names begin with, see :class:`GatedNetwork`.
    :raises ConfigurationError: for a depth, widths, shortcuts or activation outside their domain, and the theory's
        prior inclusion, which is known for perceptrons only.
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (3, 32, 32),
        depth: int = 20,
        *,
        prior: Prior,
        likelihood: Likelihood,
        output_prior: Prior | None = None,
        activation: str = "relu",
        widths: Sequence[int] = _WIDTHS,
        shortcuts: str = "padded",
        prefix: str | None = None,
    ) -> None:
        super().__init__(image_shape, prior, likelihood, output_prior, activation, prefix)
        known = shortcuts in ("padded", "convolution")
        check_that("ResNet", "shortcuts", shortcuts, known, "'padded' or 'convolution'")
        self.depth, self.widths, self.shortcuts = depth, list(widths), shortcuts
        self._residual(self.widths[0] if widths else 0, self.widths, depth, beside=2)

    def _residual(self, stem: int, widths: Sequence[int], depth: int, beside: int) -> None:
        """Lay out stem and stages; ``beside`` counts the depth's layers outside the blocks."""
        owner = type(self).__name__
        self.blocks, rest = divmod(depth - beside, 6)
        if self.blocks < 1 or rest:
            raise ConfigurationError(
                f"{owner}: depth must be 6n + {beside} for n = 1, 2, ... blocks a stage; got {depth}."
            )
        if len(widths) != 3:
            raise ConfigurationError(
                f"{owner}: widths must be those of three stages; got {list(widths)}."
            )
        if self.closed_activation != 0.0:
            raise ConfigurationError(
                f"{owner}: {self.activation} of 0 is {self.closed_activation:.3g}, which closed channels would pass on"
                " to padded convolutions; take an activation that is 0 at 0 (relu, silu, tanh, ...)."
            )
        if sorted([stem, *widths]) != [stem, *widths]:
            raise ConfigurationError(
                f"{owner}: a stage cannot have fewer filters than the one before it; got {[stem, *widths]}."
            )
        layout = Layout(owner, self.image_shape)
        layout.convolution("stem", stem, ConvolutionGeometry(3, padding=1), batch_norm=True)
        self.projected: list[str] = []
        for stage, width in enumerate(widths, 1):
            for block in range(1, self.blocks + 1):
                name, before = f"stage{stage}_block{block}", layout.current
                for conv, stride in enumerate((_stride(stage, block), 1), 1):
                    geometry = ConvolutionGeometry(3, stride, padding=1)
                    layout.convolution(f"{name}_conv{conv}", width, geometry, batch_norm=True)
                branch, added = layout.current, width - before.channels
                if self.shortcuts == "convolution" and (added or _stride(stage, block) > 1):
                    layout.current = before
                    geometry = ConvolutionGeometry(1, _stride(stage, block))
                    layout.convolution(f"{name}_shortcut", width, geometry, batch_norm=True)
                    self.projected.append(name)
                    before, added = layout.current, 0
                layout.add(name, (before, added // 2), (branch, 0))
        layout.pool_all()
        self._lay_out(layout)

    @staticmethod
    def wire(net: Wiring, x: Tensor) -> Tensor:
        """Stem, blocks with their shortcuts, mean of each map, classifier."""
        h = net.phi(net.layer("stem", net.inputs(x)))
        for stage in range(1, 4):
            for block in range(1, net.shape["blocks"] + 1):
                name, stride = f"stage{stage}_block{block}", _stride(stage, block)
                branch = net.phi(net.layer(f"{name}_conv1", h))
                branch = net.layer(f"{name}_conv2", branch)
                if name in net.shape.get("projected", ()):
                    shortcut = net.layer(f"{name}_shortcut", h)
                else:
                    shortcut = h if stride == 1 else h[..., ::stride, ::stride]
                h = net.phi(net.add(name, shortcut, branch))
        return net.layer("output", h.mean((-2, -1)))

    def _shape_config(self) -> dict[str, Any]:
        return {
            "image_shape": list(self.image_shape),
            "depth": self.depth,
            "widths": self.widths,
            **({} if self.shortcuts == "padded" else {"shortcuts": self.shortcuts}),
        }

    def _wire_config(self) -> dict[str, Any]:
        projected = {"projected": self.projected} if self.projected else {}
        return {**super()._wire_config(), "blocks": self.blocks, **projected}


@register("wide_resnet")
class WideResNet(ResNet):
    r"""A residual network whose stages are k times as wide: 16k, 32k, 64k filters behind a stem of 16.

    Widths and depths are those of Zagoruyko and Komodakis (2016), WRN-(6n + 4)-k; the block is that of :class:`ResNet`.
    Theirs normalises before each convolution. The batch norm in front of a block then stands on the residual stream, a
    sum of many groups' channels: its shift would belong to none of them, and would go on where all of them are closed.
    Here every batch norm follows its filters and leaves with them. Shortcuts are option A also where theirs are 1 x 1
    convolutions.

    :param depth: 6n + 4, as the original counts its three convolutional shortcuts, which are not here.
    :param widen: k, the widening factor.
    """

    def __init__(
        self,
        image_shape: Sequence[int] = (3, 32, 32),
        depth: int = 16,
        widen: int = 4,
        *,
        prior: Prior,
        likelihood: Likelihood,
        output_prior: Prior | None = None,
        activation: str = "relu",
        prefix: str | None = None,
    ) -> None:
        ImageNetwork.__init__(
            self, image_shape, prior, likelihood, output_prior, activation, prefix
        )
        if widen < 1:
            raise ConfigurationError(f"WideResNet: widen must be at least 1; got {widen}.")
        self.depth, self.widen, self.shortcuts = depth, widen, "padded"
        self._residual(_WIDTHS[0], [widen * width for width in _WIDTHS], depth, beside=4)

    def _shape_config(self) -> dict[str, Any]:
        return {
            "image_shape": list(self.image_shape),
            "depth": self.depth,
            "widen": self.widen,
        }


def _stride(stage: int, block: int) -> int:
    """Stride of a block: the second and the third stage begin with 2."""
    return 2 if stage > 1 and block == 1 else 1
