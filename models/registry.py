"""Kinds of networks by name, so that saved files can be read; one's own kinds are registered here, too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.models.base import GatedNetwork
from pyro_ssbnn.models.compact import CompactNetwork

__all__ = ["compact_from_state", "network_from_config", "register_network"]

_KINDS: dict[str, type[GatedNetwork]] = {}
_Kind = TypeVar("_Kind", bound=type[GatedNetwork])


def register_network(network: _Kind) -> _Kind:
    """Make a network's ``kind`` known, so that saved fits and pruned networks of it can be loaded; a class decorator.

    :raises ConfigurationError: when another class has that kind already.
    """
    known = _KINDS.setdefault(network.kind, network)
    if known.__qualname__ != network.__qualname__:  # a module may be run twice
        raise ConfigurationError(
            f"register_network: the kind {network.kind!r} is {known.__qualname__}'s; give"
            f" {network.__qualname__} another."
        )
    _KINDS[network.kind] = network
    return network


def network_from_config(config: dict[str, Any]) -> GatedNetwork:
    """Make a network from its ``to_config`` record.

    :raises ConfigurationError: for a kind of network this version does not know.
    """
    return _class_of("network", config.get("network")).from_config(config)


def compact_from_state(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> CompactNetwork:
    """Make a pruned network from its ``to_config`` record and its tensors.

    :raises ConfigurationError: for a kind of network this version does not know.
    :raises KeyError: when an entry or a tensor is missing.
    """
    kind = _class_of("pruned network", config.get("network"))
    return kind.compact_from_state(config, state)


def _class_of(what: str, kind: object) -> type[GatedNetwork]:
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ConfigurationError(
            f"{what}: expected one of {sorted(_KINDS)}; got {kind!r}. Import the module that registers a kind of your"
            " own first (register_network)."
        )
    return _KINDS[kind]
