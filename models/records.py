"""Networks and their pruned forms made again of plain records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pyro_ssbnn.models.base import GatedNetwork
from pyro_ssbnn.models.compact import CompactNetwork
from pyro_ssbnn.registry import class_of

__all__ = ["compact_from_state", "network_from_config"]


def network_from_config(config: Mapping[str, Any]) -> GatedNetwork:
    """Make a network from its ``to_config`` record.

    :raises ConfigurationError: for a network, prior or likelihood that is not registered, and for bad entries.
    """
    return _class_of(config).from_config(config)


def compact_from_state(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> CompactNetwork:
    """Make a pruned network from its ``to_config`` record and its tensors.

    :raises ConfigurationError: for a network that is not registered.
    :raises KeyError: when an entry or a tensor is missing.
    """
    return _class_of(config).compact_from_state(config, state)


def _class_of(config: Mapping[str, Any]) -> type[GatedNetwork]:
    cls: type[GatedNetwork] = class_of("network", {**config, "name": config.get("network")})
    return cls
