"""The group of the heads of attention: nodes of several rows of weights each."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pyro_ssbnn.structure.axes import Axis
from pyro_ssbnn.structure.groups import NodeGroup

__all__ = ["HeadGroup"]


@dataclass(frozen=True)
class HeadGroup(NodeGroup):
    """Nodes that own several neighbouring rows of weights, each with its bias, under one gate and one slab scale.

    :param rows_per_node: rows of a node.

    >>> from pyro_ssbnn import SSIG
    >>> heads = HeadGroup("value", 3, 0.1, fan_in=12, prior=SSIG(), source="embedded", rows_per_node=4)
    >>> heads.num_rows, heads.num_weights, heads.prior_size
    (12, 156, 52)
    """

    rows_per_node: int = 1

    @property
    def rows_path(self) -> str:
        """Name of the plate over the rows of weights."""
        return f"{self.path}.rows"

    @property
    def num_rows(self) -> int:
        """Number of rows of weights."""
        return self.size * self.rows_per_node

    @property
    def prior_size(self) -> int:
        """m of the prior: weights of a node before any source was removed."""
        return self.rows_per_node * super().prior_size

    def count_weights(self, nodes: int, incoming: int) -> int:
        """Weights of so many nodes whose rows read so many weights each."""
        return self.rows_per_node * super().count_weights(nodes, incoming)

    @property
    def weight_rows(self) -> Axis:
        """Axis over the rows of weights, several for each node."""
        return Axis(self.name, self.size, self.rows_per_node)

    def spread(self, values: Tensor) -> Tensor:
        """Values of the nodes, ``[..., size]``, given to each of their rows, ``[..., num_rows]``."""
        return values.repeat_interleave(self.rows_per_node, -1)
