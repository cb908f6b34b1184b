"""What networks of images share: a layout that keeps count of maps, one wiring for the model and its pruned form."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.likelihoods import Likelihood
from pyro_ssbnn.models.base import GatedNetwork
from pyro_ssbnn.models.compact import CompactLinear
from pyro_ssbnn.models.compact_image import CompactConv2d, CompactImageNetwork
from pyro_ssbnn.models.layout import ImageLayout
from pyro_ssbnn.models.wiring import Addition, Wiring
from pyro_ssbnn.priors import Latents, Prior, TheoryInclusion
from pyro_ssbnn.structure.cut import CutLayer
from pyro_ssbnn.structure.description import InputGroup, NetworkDescription

__all__ = ["ImageNetwork"]


class ImageNetwork(GatedNetwork):
    """A network of flattened images ``[N, p]``, p = C H W; subclasses lay its layers out and wire them.

    Data are flattened channel by channel and row by row, as everywhere in the package; pixels carry no gates. A
    subclass calls :meth:`_lay_out` at the end of its ``__init__``, and gives :meth:`wire` and :meth:`_shape_config`;
    prior, guide, training and pruning then work as they are, and files under a name of its own
    (:func:`pyro_ssbnn.register`).

    :param image_shape: channels, height and width (C, H, W).
    :raises ConfigurationError: for a bad image shape, and the theory's prior inclusion, which is known for perceptrons
        only; see also :class:`GatedNetwork`.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        prior: Prior,
        likelihood: Likelihood,
        output_prior: Prior | None,
        activation: str,
        prefix: str | None = None,
    ) -> None:
        super().__init__(prior, likelihood, output_prior, activation, prefix)
        owner = type(self).__name__
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise ConfigurationError(
                f"{owner}: image_shape must be three positive numbers (channels, height, width); got"
                f" {list(image_shape)}."
            )
        if isinstance(prior.inclusion, TheoryInclusion):
            raise ConfigurationError(
                f"{owner}: the theory's prior inclusion is known for perceptrons only; give a number, or one per layer."
            )
        self.image_shape = tuple(image_shape)

    @staticmethod
    @abstractmethod
    def wire(net: Wiring, x: Tensor) -> Tensor:
        """Put the layers together: f of flattened images x, ``[N, p]``.

        A static method, because the pruned network is wired by it too: everything comes from ``net``, the numbers of
        layers from ``net.shape``. A layer gives no activation; widths are those of the tensors that come.
        """

    def _wire_config(self) -> dict[str, Any]:
        """Plain record that :meth:`wire` reads as ``net.shape``; ``image_shape`` must be in it."""
        return self._shape_config()

    def _lay_out(self, layout: ImageLayout) -> None:
        """Make the layers: those laid out under the prior, and an output layer on top."""
        layout.dense("output", self.likelihood.num_outputs)
        size = math.prod(self.image_shape)
        names = tuple(f"x{i + 1}" for i in range(size))
        groups = layout.groups(self.prior, self.output_prior)
        inputs = InputGroup("input", size, None, names)
        self._build(NetworkDescription(inputs, groups, layout.sums))

    def _build(self, description: NetworkDescription) -> None:
        super()._build(description)
        for total in description.sums:
            self.add_module(total.name, Addition(total))

    def network(self, x: Tensor) -> Tensor:
        """Sample the weights and map flattened images x, ``[N, p]``, to f, without the likelihood."""
        return self.wire(_Sampled(self, self.sample_shared(x)), x)

    def assemble(self, layers: Mapping[str, CutLayer]) -> CompactImageNetwork:
        """Put cut layers together to a plain torch network, batch norms folded into its convolutions."""
        kept = {name: cut.rows for name, cut in layers.items()}
        plain: dict[str, CompactConv2d | CompactLinear] = {}
        for group in self.description.groups:
            cut, geometry = layers[group.name], group.geometry
            if geometry is None:
                plain[group.name] = CompactLinear(cut.weight, cut.bias)
            else:
                side = geometry.kernel_size
                channels = cut.weight.shape[-1] // side**2
                kernel = cut.weight.unflatten(-1, (channels, side, side))
                plain[group.name] = CompactConv2d(kernel, cut.bias, geometry)
        sums = self.description.narrowed(kept).sums
        hidden = {name: kept[name] for name in list(kept)[:-1]}
        shape = self._wire_config()
        return CompactImageNetwork(type(self), plain, sums, shape, self.activation, hidden)

    @classmethod
    def compact_from_state(
        cls, config: Mapping[str, Any], state: Mapping[str, Tensor]
    ) -> CompactImageNetwork:
        """Make this network's pruned form from its record and its tensors."""
        return CompactImageNetwork.from_state(cls, config, state)


@dataclass(frozen=True)
class _Sampled:
    """One pass through a model: its layers sample as they are called."""

    network: ImageNetwork
    shared: Mapping[str, Latents]

    @property
    def shape(self) -> Mapping[str, Any]:
        return self.network._wire_config()

    def images(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, self.network.image_shape)

    def layer(self, name: str, h: Tensor) -> Tensor:
        layer = self.network.layer(name)
        result: Tensor = layer(h, self.shared[layer.group.scope])
        return result

    def phi(self, h: Tensor) -> Tensor:
        result: Tensor = self.network.phi(h)
        return result

    def add(self, name: str, *terms: Tensor) -> Tensor:
        result: Tensor = getattr(self.network, name)(*terms)
        return result
