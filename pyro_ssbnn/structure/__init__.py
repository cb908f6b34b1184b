"""The structure of a network as data: its node groups, what must be cut together, what flows where.

Model, guide, selection and pruning meet only here and in the names of sites.
"""

from pyro_ssbnn.structure.axes import Axis, put, take
from pyro_ssbnn.structure.channels import ChannelGroup
from pyro_ssbnn.structure.cut import CutLayer
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.flow import cut_off, without_unread
from pyro_ssbnn.structure.gates import GateGroup
from pyro_ssbnn.structure.geometry import ConvolutionGeometry
from pyro_ssbnn.structure.groups import InputGroup, NodeGroup, layer_inclusion
from pyro_ssbnn.structure.guide import Guide, LogMoments
from pyro_ssbnn.structure.heads import HeadGroup
from pyro_ssbnn.structure.linear import LinearGroup
from pyro_ssbnn.structure.match import first_difference, require_match
from pyro_ssbnn.structure.network import Network
from pyro_ssbnn.structure.sums import PlacedSum, with_sums

__all__ = [
    "Axis",
    "ChannelGroup",
    "ConvolutionGeometry",
    "CutLayer",
    "GateGroup",
    "Guide",
    "HeadGroup",
    "InputGroup",
    "LinearGroup",
    "LogMoments",
    "Network",
    "NetworkDescription",
    "NodeGroup",
    "PlacedSum",
    "cut_off",
    "first_difference",
    "layer_inclusion",
    "put",
    "require_match",
    "take",
    "with_sums",
    "without_unread",
]
