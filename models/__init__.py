"""The networks, each an ordinary Pyro model, and the plain torch networks that pruning makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.models.activations import ACTIVATIONS
from pyro_ssbnn.models.base import GatedNetwork
from pyro_ssbnn.models.compact import CompactLinear, CompactMLP, CompactNetwork
from pyro_ssbnn.models.compact_lenet import CompactConv2d, CompactLeNet
from pyro_ssbnn.models.lenet import LeNet
from pyro_ssbnn.models.mlp import MLP

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "CompactConv2d",
    "CompactLeNet",
    "CompactLinear",
    "CompactMLP",
    "CompactNetwork",
    "GatedNetwork",
    "LeNet",
    "compact_from_state",
    "network_from_config",
]

_NETWORKS: dict[str, type[MLP | LeNet]] = {network.kind: network for network in (MLP, LeNet)}
_COMPACT: dict[str, type[CompactMLP | CompactLeNet]] = {
    network.kind: network for network in (CompactMLP, CompactLeNet)
}


def network_from_config(config: dict[str, Any]) -> MLP | LeNet:
    """Make a network from its ``to_config`` record.

    :raises ConfigurationError: for a kind of network this version does not know.
    """
    kind = config.get("network")
    if kind not in _NETWORKS:
        raise ConfigurationError(f"network: expected one of {sorted(_NETWORKS)}; got {kind!r}.")
    return _NETWORKS[kind].from_config(config)


def compact_from_state(
    config: Mapping[str, Any], state: Mapping[str, Tensor]
) -> CompactMLP | CompactLeNet:
    """Make a pruned network from its ``to_config`` record and its tensors.

    :raises ConfigurationError: for a kind of network this version does not know.
    :raises KeyError: when an entry or a tensor is missing.
    """
    kind = config.get("network")
    if kind not in _COMPACT:
        raise ConfigurationError(
            f"pruned network: expected one of {sorted(_COMPACT)}; got {kind!r}."
        )
    return _COMPACT[kind].from_state(config, state)
