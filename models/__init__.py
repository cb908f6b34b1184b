"""The networks, each an ordinary Pyro model."""

from __future__ import annotations

from typing import Any

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.models.activations import ACTIVATIONS
from pyro_ssbnn.models.compact import CompactLinear, CompactMLP
from pyro_ssbnn.models.mlp import MLP

__all__ = ["ACTIVATIONS", "MLP", "CompactLinear", "CompactMLP", "network_from_config"]

_NETWORKS = {"mlp": MLP}


def network_from_config(config: dict[str, Any]) -> MLP:
    """Make a network from its ``to_config`` record.

    :raises ConfigurationError: for a kind of network this version does not know.
    """
    kind = config.get("network")
    if kind not in _NETWORKS:
        raise ConfigurationError(f"network: expected one of {sorted(_NETWORKS)}; got {kind!r}.")
    return _NETWORKS[kind].from_config(config)
