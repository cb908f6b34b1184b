"""The group of the predictors' linear terms, which go past the hidden layers to the output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from pyro_ssbnn.structure.axes import Axis
from pyro_ssbnn.structure.groups import NodeGroup, spread

__all__ = ["LinearGroup"]


@dataclass(frozen=True)
class LinearGroup(NodeGroup):
    r"""One node for each predictor, with one input: its own predictor; it adds :math:`z_j t_j u_j x_j` to the output.

    A node owns a row of K weights, one for each output, for every column of its predictor, and no bias. It leaves a
    network in training together with its predictor (:meth:`NetworkDescription.with_sums`), so that its members
    are always those of the predictors; a pruned network keeps it or drops it on its own.

    :param fan_in: columns of x in the whole network, which each output sums over.
    :param outputs: name of the output layer.
    :param num_outputs: K.
    :param widths: columns of each predictor; empty where each has one.
    :param mean_size: m of the prior: weights of a node of the whole network; where predictors have different numbers
        of columns, on average.
    """

    outputs: str = "output"
    num_outputs: int = 1
    widths: tuple[int, ...] = ()
    mean_size: int = 1

    @property
    def rows_path(self) -> str:
        """Name of the plate over the rows of weights."""
        return f"{self.path}.columns"

    @property
    def num_rows(self) -> int:
        """Rows of weights: columns of x."""
        return sum(self.widths) if self.widths else self.size

    @property
    def group_size(self) -> int:
        """Weights of a row."""
        return self.num_outputs

    @property
    def prior_size(self) -> int:
        """m of the prior."""
        return self.mean_size

    @property
    def num_weights(self) -> int:
        """Weights of all nodes."""
        return self.count_weights(self.size, self.num_rows)

    def count_weights(self, nodes: int, incoming: int) -> int:
        """Weights of nodes that read so many columns together."""
        return incoming * self.num_outputs

    @property
    def weight_rows(self) -> Axis:
        """Axis over the rows of weights, several for a node where its predictor has several columns."""
        return Axis(self.name, self.size, self.widths or 1)

    @property
    def incoming(self) -> Axis:
        """Axis over a row's weights, one for each output."""
        return Axis(self.outputs, self.num_outputs)

    def spread(self, values: Tensor) -> Tensor:
        """Values of the nodes, ``[..., size]``, given to each row of their weights, ``[..., num_rows]``."""
        return spread(values, self.widths)

    def without_sources(self, kept: Mapping[str, Tensor], lost: int) -> LinearGroup:
        """The group once only some predictors are left."""
        if not self.widths or self.name not in kept:
            return self
        left = tuple(self.widths[i] for i in kept[self.name].tolist())
        return replace(self, widths=left)
