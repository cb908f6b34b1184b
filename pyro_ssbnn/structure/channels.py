"""The group of a convolution whose filters read some of their source's channels only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from pyro_ssbnn.structure.axes import Axis
from pyro_ssbnn.structure.groups import NodeGroup

__all__ = ["ChannelGroup"]


@dataclass(frozen=True)
class ChannelGroup(NodeGroup):
    """Filters that read the channels of their source in turn, each only some: a depthwise or a grouped convolution.

    No incoming weight leaves with a source: that of a depthwise convolution leaves with the whole filter
    (:attr:`NetworkDescription.follows`), and the channels of other grouped convolutions stay.

    >>> from pyro_ssbnn import SSIG
    >>> ChannelGroup("depthwise", 8, 0.1, fan_in=9, prior=SSIG(), source="conv").incoming
    Axis(group='depthwise.incoming', size=1, width=9, own=0)
    """

    @property
    def incoming(self) -> Axis:
        """Axis over the weights from a filter's own channels, which are never cut."""
        return Axis(f"{self.name}.incoming", 1, self.fan_in)

    def without_sources(self, kept: Mapping[str, Tensor], lost: int) -> ChannelGroup:
        """The group as it is: the filters that are left read as many channels."""
        return self
