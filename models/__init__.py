"""The networks, each an ordinary Pyro model, and the plain torch networks that pruning makes of them."""

from pyro_ssbnn.models.activations import ACTIVATIONS
from pyro_ssbnn.models.base import GatedNetwork
from pyro_ssbnn.models.compact import CompactConv2d, CompactLinear, CompactNetwork
from pyro_ssbnn.models.image import ImageNetwork
from pyro_ssbnn.models.layout import Layout
from pyro_ssbnn.models.lenet import LeNet
from pyro_ssbnn.models.mlp import MLP, widths_for_rows
from pyro_ssbnn.models.records import compact_from_state, network_from_config
from pyro_ssbnn.models.resnet import ResNet, WideResNet
from pyro_ssbnn.models.traced import PlainModule, TracedNetwork, from_module, plain_module
from pyro_ssbnn.models.wiring import Wiring

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "CompactConv2d",
    "CompactLinear",
    "CompactNetwork",
    "GatedNetwork",
    "ImageNetwork",
    "Layout",
    "LeNet",
    "PlainModule",
    "ResNet",
    "TracedNetwork",
    "WideResNet",
    "Wiring",
    "compact_from_state",
    "from_module",
    "network_from_config",
    "plain_module",
    "widths_for_rows",
]
