"""Layers of a network one after another: fan-ins, map sizes and sources are counted along the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from pyro_ssbnn.checks import check_probability, check_that, is_whole
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.priors import BetaInclusion, Prior, TheoryInclusion
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.gates import GateInclusion
from pyro_ssbnn.structure.geometry import ConvolutionGeometry
from pyro_ssbnn.structure.groups import InputGroup, NodeGroup, layer_inclusion
from pyro_ssbnn.structure.linear import LinearGroup
from pyro_ssbnn.structure.sums import PlacedSum

__all__ = ["Layout", "Maps"]


@dataclass(frozen=True)
class Maps:
    """What a layer or a sum gives: so many channels of so many rows and columns, 1 x 1 after a dense layer."""

    source: str
    channels: int
    rows: int
    columns: int


class Layout:
    """The layers of a network in forward order; each reads what came last, unless told otherwise.

    :param owner: name of the network, for messages.
    :param inputs: p, number of predictors, or channels, height and width (C, H, W) of images.
    :param inclusion: prior inclusion probability of each predictor, whose gates close its weights in the first layer:
        one number, one for each, or a :class:`~pyro_ssbnn.priors.BetaInclusion`; None leaves predictors ungated.
    :param names: a name for each predictor, ``x1``, ``x2``, ... by default.
    :param widths: columns of x of each predictor, whose weights one gate closes together; one each by default. They
        are for networks whose first layer is dense.
    :ivar current: what the next layer reads.
    :raises ConfigurationError: for no predictors, an inclusion outside (0, 1), or names or widths that do not match.

    >>> from pyro_ssbnn import SSIG, Gaussian
    >>> layout = Layout("Net", (3, 8, 8))
    >>> layout.convolution("conv1", 4, ConvolutionGeometry(3, padding=1), batch_norm=True)
    >>> layout.pool(2)
    >>> layout.dense("output", 10)
    >>> [(g.name, g.fan_in, g.own) for g in layout.description(SSIG(inclusion=0.1), Gaussian()).groups]
    [('conv1', 27, 2), ('output', 64, 1)]
    """

    def __init__(
        self,
        owner: str,
        inputs: int | Sequence[int],
        *,
        inclusion: float | Sequence[float] | BetaInclusion | None = None,
        names: Sequence[str] | None = None,
        widths: Sequence[int] | None = None,
    ) -> None:
        self.owner = owner
        maps = tuple(inputs) if isinstance(inputs, Sequence) else (inputs, 1, 1)
        whole = len(maps) == 3 and all(map(is_whole, maps))
        check_that(owner, "the predictors", inputs, whole, "a whole number, or (C, H, W) of images")
        self.current = Maps("input", *maps)
        size = math.prod(maps)
        self._check_size("the predictors", size)
        if names is not None:
            known = isinstance(names, Sequence) and all(isinstance(name, str) for name in names)
            check_that(owner, "input_names", names, known, "a list of texts")
        if names is not None and len(set(names)) != size:
            raise ConfigurationError(
                f"{owner}: input_names must be {size} different names, one per predictor; got {len(names)} names,"
                f" {len(set(names))} of them different."
            )
        names = tuple(names or (f"x{i + 1}" for i in range(size)))
        widths = tuple(widths or ())
        if widths and (len(widths) != size or min(widths) < 1 or maps[1:] != (1, 1)):
            raise ConfigurationError(
                f"{owner}: input_widths must be {size} whole numbers, the columns of each predictor, at least 1; got"
                f" {list(widths)}. Images have none."
            )
        self._is_image = maps[1:] != (1, 1)
        inclusion = self._checked_inclusion("input_inclusion", inclusion, size)
        self._inputs = InputGroup("input", size, inclusion, names, widths)
        self._layers: list[dict[str, Any]] = []
        self._sums: list[PlacedSum] = []
        self._linear: GateInclusion = None
        self._has_linear = False

    def convolution(
        self, name: str, size: int, geometry: ConvolutionGeometry, *, batch_norm: bool = False
    ) -> None:
        """A convolution of so many filters, which own a bias, or scale and shift of a batch norm.

        :raises ConfigurationError: for no filters, or kernels larger than the maps.
        """
        self._check_size(name, size)
        maps = self.current
        rows, columns = geometry.output_size(maps.rows, maps.columns)
        pixels = geometry.pixels
        self._layers.append(
            {
                "name": name,
                "size": size,
                "fan_in": maps.channels * pixels,
                "source": maps.source,
                "columns_per_source": pixels,
                "positions": rows * columns,
                "geometry": geometry,
                "own": 2 if batch_norm else 1,
            }
        )
        self.current = Maps(name, size, rows, columns)

    def pool(self, size: int) -> None:
        """Pooling over squares of ``size`` pixels side by side.

        :raises ConfigurationError: when the maps are smaller.
        """
        maps = self.current
        rows, columns = maps.rows // size, maps.columns // size
        if min(rows, columns) < 1:
            raise ConfigurationError(
                f"{self.owner}: the map of {maps.source} has {maps.rows} x {maps.columns} pixels, too few to pool; give"
                " larger images, fewer convolutions, smaller kernels or more padding."
            )
        self.current = replace(maps, rows=rows, columns=columns)

    def pool_all(self) -> None:
        """Pooling over the whole maps."""
        self.current = replace(self.current, rows=1, columns=1)

    def dense(self, name: str, size: int) -> None:
        """A dense layer, which reads maps pixel by pixel of the first channel, then of the second, ..."""
        self._check_size(name, size)
        maps = self.current
        pixels = maps.rows * maps.columns
        widths = self._inputs.widths if maps.source == self._inputs.name else ()
        self._layers.append(
            {
                "name": name,
                "size": size,
                "fan_in": sum(widths) or maps.channels * pixels,
                "source": maps.source,
                "columns_per_source": widths or pixels,
            }
        )
        self.current = Maps(name, size, 1, 1)

    def linear(self, inclusion: float | Sequence[float] | BetaInclusion | None = None) -> None:
        """Terms linear in each predictor, beside the layers; ``wire`` adds ``net.layer("linear", x)`` to the output.

        :param inclusion: prior inclusion probability of each; by default that of the predictors, without gates where
            they have none.
        :raises ConfigurationError: for an inclusion outside (0, 1), and for images.
        """
        given = self._checked_inclusion("linear_inclusion", inclusion, self._inputs.size)
        if self._is_image:
            raise ConfigurationError(f"{self.owner}: the pixels of images have no linear terms.")
        self._has_linear = True
        self._linear = self._inputs.inclusion if given is None else given

    def add(self, name: str, *terms: tuple[Maps, int]) -> None:
        """A sum: the channels of each term from a certain place on, as large as what came last.

        :param terms: maps and the place of their first channel.
        """
        maps = self.current
        placed = tuple((m.source, tuple(range(at, at + m.channels))) for m, at in terms)
        size = 1 + max(max(places) for _, places in placed)
        self._sums.append(PlacedSum(name, size, placed))
        self.current = replace(maps, source=name, channels=size)

    def description(self, prior: Prior, output_prior: Prior) -> NetworkDescription:
        """The layers as node groups: hidden ones under the prior, the last under the output prior.

        :raises ConfigurationError: when the prior gives another number of inclusion probabilities than there are hidden
            layers, or the theory's, which are known for perceptrons only.
        """
        dense = all("geometry" not in layer for layer in self._layers)
        if isinstance(prior.inclusion, TheoryInclusion) and not dense:
            raise ConfigurationError(
                f"{self.owner}: the theory's prior inclusion is known for perceptrons only; give a number, or one per"
                " layer."
            )
        widths = [self._inputs.num_columns, *(layer["size"] for layer in self._layers)]
        *hidden, last = self._layers
        groups = [
            NodeGroup(inclusion=probability, prior=prior, **layer)
            for probability, layer in zip(layer_inclusion(prior, widths), hidden, strict=True)
        ]
        scope = prior.output_scope
        groups.append(NodeGroup(inclusion=None, prior=output_prior, scope=scope, **last))
        if self._inputs.gated:
            groups[0] = replace(groups[0], column_gate=self._inputs.name)
        if self._has_linear:
            groups.insert(-1, self._linear_terms(prior, groups[-1]))
        return NetworkDescription(self._inputs, tuple(groups), tuple(self._sums))

    def _linear_terms(self, prior: Prior, output: NodeGroup) -> LinearGroup:
        inputs = self._inputs
        return LinearGroup(
            "linear",
            inputs.size,
            self._linear,
            fan_in=inputs.num_columns,
            prior=prior,
            source=inputs.name,
            own=0,
            outputs=output.name,
            num_outputs=output.size,
            widths=inputs.widths,
            mean_size=round(output.size * inputs.num_columns / inputs.size),
        )

    def _checked_inclusion(self, name: str, given: object, size: int) -> GateInclusion:
        """One number, a number for each of so many predictors, a Beta prior, or None."""
        owner = f"{self.owner} {name}"
        if given is None or isinstance(given, BetaInclusion):
            return given
        if isinstance(given, Sequence | Tensor | np.ndarray) and not isinstance(given, str):
            values = [v.item() if hasattr(v, "item") else v for v in given]
            check_that(owner, "it", values, len(values) == size, f"{size} numbers, one a predictor")
            for value in values:
                check_probability(owner, value)
            return tuple(map(float, values))
        probability: Any = given
        check_probability(owner, probability)
        return float(probability)

    def _check_size(self, name: str, size: int) -> None:
        check_that(self.owner, f"the width of {name}", size, is_whole(size), "a whole number")
        if size < 1:
            raise ConfigurationError(
                f"{self.owner}: every width must be at least 1; got {size} for {name}."
            )
