"""Pruned networks in files of their own, with their original indices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyro_ssbnn.checks import resolve_device
from pyro_ssbnn.files.container import read_record, write_record
from pyro_ssbnn.files.untrusted import entry, unpacking
from pyro_ssbnn.models import CompactNetwork, compact_from_state

__all__ = ["load_compact", "save_compact"]


def save_compact(
    network: CompactNetwork, path: str | Path, notes: Mapping[str, Any] | None = None
) -> None:
    """Save a pruned network with its original indices.

    :param notes: further JSON-able entries for people who look into the file's header.
    :raises ConfigurationError: when the class of the network it was cut from has no name of its own.
    """
    state = {k: v for k, v in network.state_dict().items() if v is not None}
    record = {"compact": network.to_config(), "notes": {**(notes or {})}}
    write_record(path, "compact", record, state)


def load_compact(path: str | Path, device: str = "cpu") -> CompactNetwork:
    """Load what :func:`save_compact` wrote.

    :raises CheckpointError: for a foreign, newer, or damaged file.
    """
    header, tensors = read_record(path, "compact", resolve_device(device))
    record = entry(header, "compact", dict, path)
    with unpacking(path, "the pruned network"):
        return compact_from_state(record, tensors)
