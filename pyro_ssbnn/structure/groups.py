"""Node groups: a layer's nodes, or the predictors, that are gated one by one, and the weights each node owns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from typing_extensions import Self

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.priors import BetaInclusion, Prior, TheoryInclusion, theory_inclusion
from pyro_ssbnn.structure.axes import Axis
from pyro_ssbnn.structure.constants import constant
from pyro_ssbnn.structure.gates import GateGroup, GateInclusion
from pyro_ssbnn.structure.geometry import ConvolutionGeometry

__all__ = ["InputGroup", "NodeGroup", "layer_inclusion", "spread"]


@dataclass(frozen=True)
class InputGroup(GateGroup):
    """The predictors; gated when the network selects among them.

    A predictor is one column of x, or several neighbouring ones that are opened and closed by one gate: the levels of a
    factor, a number and the mark of its missing values.

    :param names: one name per predictor.
    :param widths: columns of each predictor; empty where each has one.
    """

    names: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if all(width == 1 for width in self.widths):  # said in one way only
            object.__setattr__(self, "widths", ())

    @property
    def num_columns(self) -> int:
        """Columns of x."""
        return sum(self.widths) if self.widths else self.size

    @property
    def columns(self) -> Axis:
        """Axis over the columns of x."""
        return Axis(self.name, self.size, self.widths or 1)

    @property
    def column_names(self) -> tuple[str, ...]:
        """A name for each column: its predictor's, with a number where there are several (``region.0``)."""
        if not self.widths:
            return self.names
        pairs = zip(self.names, self.widths, strict=True)
        return tuple(
            name if width == 1 else f"{name}.{i}" for name, width in pairs for i in range(width)
        )

    def spread(self, values: Tensor) -> Tensor:
        """Values of the predictors, ``[..., size]``, given to each of their columns, ``[..., num_columns]``."""
        return spread(values, self.widths)

    def narrowed(self, kept: Tensor) -> InputGroup:
        """The predictors that are kept, by ascending indices."""
        indices = kept.tolist()
        names = tuple(self.names[i] for i in indices)
        widths = tuple(self.widths[i] for i in indices) if self.widths else ()
        inclusion = self.inclusion_of(kept)
        return replace(self, size=len(indices), inclusion=inclusion, names=names, widths=widths)


@dataclass(frozen=True)
class NodeGroup(GateGroup):
    """A layer's nodes and the weights each owns.

    :param fan_in: incoming weights of a node, without its own ones.
    :param prior: prior of the node's weights.
    :param source: name of the group, or of the sum of groups, whose nodes feed this one.
    :param columns_per_source: incoming weights that one source node feeds: 1 in a dense layer after a dense layer, k^2
        in a convolution, the pixels of a map in a dense layer after convolutions; one number for each source where
        predictors have several columns. Neighbouring columns belong to one source; a convolution of the image counts
        each channel of the (ungated) predictors as a source.
    :param scope: name of the prior's network-wide latents: their sites are ``{prefix}{scope}.*``.
    :param column_gate: name of the group whose gates close single incoming weights, if any.
    :param removed_fan_in: incoming weights that left the network with their sources during training; the prior still
        counts them.
    :param positions: outputs of a node for one input: 1 in a dense layer, the pixels of a filter's map.
    :param geometry: how the kernels of a convolution move; None for a dense layer.
    :param own: weights of a node beside the incoming ones, in its last columns: 1, its bias, or 2, scale and shift of
        the batch norm that follows a convolution without bias.
    """

    fan_in: int
    prior: Prior
    source: str
    columns_per_source: int | tuple[int, ...] = 1
    scope: str = "global"
    column_gate: str | None = None
    removed_fan_in: int = 0
    positions: int = 1
    geometry: ConvolutionGeometry | None = None
    own: int = 1

    @property
    def group_size(self) -> int:
        """Weights of a node with its own ones."""
        return self.fan_in + self.own

    @property
    def prior_size(self) -> int:
        """m of the prior: weights of a node with its own ones before any source was removed."""
        return self.group_size + self.removed_fan_in

    @property
    def batch_normed(self) -> bool:
        """Whether a batch norm, whose scale and shift the nodes own, takes the place of the bias."""
        return self.own == 2

    @property
    def zero_padded(self) -> bool:
        """Whether some positions read zeros in place of sources: what a source passes on to all is then no bias."""
        return self.geometry is not None and self.geometry.zero_padded

    def count_weights(self, nodes: int, incoming: int) -> int:
        """Weights of so many nodes that read so many weights each: biases count, scales and shifts do not.

        So are residual networks counted as a rule, and so is a cut one: the biases that its batch norms were folded
        into are not counted either.
        """
        return nodes * (incoming + (0 if self.batch_normed else 1))

    @property
    def rows_path(self) -> str:
        """Name of the plate over the rows of weights: that of the nodes."""
        return self.path

    @property
    def num_rows(self) -> int:
        """Rows of weights, one a node."""
        return self.size

    def spread(self, values: Tensor) -> Tensor:
        """Values of the nodes, ``[..., size]``, given to each row of weights, ``[..., num_rows]``."""
        return values

    @property
    def num_weights(self) -> int:
        """Weights of all nodes, counted by :meth:`count_weights`."""
        return self.count_weights(self.size, self.fan_in)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one input: each weight once a position."""
        return self.positions * self.num_weights

    @property
    def rows(self) -> Axis:
        """Axis over the nodes."""
        return Axis(self.name, self.size)

    @property
    def weight_rows(self) -> Axis:
        """Axis over the rows of weights."""
        return self.rows

    @property
    def incoming(self) -> Axis:
        """Axis over the weights from a node's sources."""
        per_source = self.columns_per_source
        sources = len(per_source) if isinstance(per_source, tuple) else self.fan_in // per_source
        return Axis(self.source, sources, per_source)

    @property
    def columns(self) -> Axis:
        """Axis over all weights of a node: those from the sources, then its own."""
        return replace(self.incoming, own=self.own)

    def without_sources(self, kept: Mapping[str, Tensor], lost: int) -> NodeGroup:
        """The group once its source keeps only some members; its prior still counts the weights that leave.

        :param kept: ascending indices by group.
        :param lost: number of sources that leave.
        """
        per_source = self.columns_per_source
        if isinstance(per_source, tuple):
            if self.source not in kept:
                return self
            left = tuple(per_source[i] for i in kept[self.source].tolist())
            columns, per_source = sum(per_source) - sum(left), left
        else:
            columns = lost * per_source
        return replace(
            self,
            fan_in=self.fan_in - columns,
            removed_fan_in=self.removed_fan_in + columns,
            columns_per_source=per_source,
        )

    def narrowed_to(self, kept: Tensor) -> Self:
        """The group of the nodes that are kept, by ascending indices, when the others are closed."""
        return replace(self, size=len(kept), inclusion=self.inclusion_of(kept))

    @property
    def weight_site(self) -> str:
        """Name of the standardised weights' sample site."""
        return f"{self.path}.weight"

    @property
    def scope_path(self) -> str:
        """What the names of the prior's network-wide sites begin with."""
        return f"{self.prefix}{self.scope}"


def spread(values: Tensor, widths: tuple[int, ...]) -> Tensor:
    """Values of members, ``[..., size]``, given to the entries of each, ``[..., entries]``.

    :param widths: entries of each member; empty stands for one each.
    """
    if not widths:
        return values
    widest = max(widths)
    # Each entry is taken once at most, so that gradients are added up in one order, on any device.
    places = [member * widest + i for member, width in enumerate(widths) for i in range(width)]
    index = constant(places, torch.long, values.device)
    return values.unsqueeze(-1).expand(*values.shape, widest).flatten(-2).index_select(-1, index)


def layer_inclusion(prior: Prior, widths: list[int]) -> list[GateInclusion]:
    """Prior inclusion probability of each hidden layer, from the prior's number, sequence, Beta prior or theory.

    :param widths: ``[inputs, hidden..., outputs]``.
    :raises ConfigurationError: when a sequence has another length than there are hidden layers.
    """
    depth = len(widths) - 2
    given = prior.inclusion
    if given is None or isinstance(given, int | float | BetaInclusion):
        return [given] * depth
    if isinstance(given, TheoryInclusion):
        return [*theory_inclusion(widths, given.num_data, given.constant)] if depth else []
    if len(given) != depth:
        raise ConfigurationError(
            f"{type(prior).__name__}: inclusion gives {len(given)} probabilities for {depth} hidden"
            f" layer{'s' if depth != 1 else ''}; give one number for all, or one per hidden layer."
        )
    return list(given)
