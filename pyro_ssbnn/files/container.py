"""Files of tensors with a JSON header, without pickle: safetensors of one *kind* of record.

Loading runs no code from the file; what is foreign, newer, or damaged is refused with a :class:`CheckpointError`. The
library itself compares all lengths with the file's before it reads a tensor.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pyro_ssbnn._version import __version__
from pyro_ssbnn.errors import CheckpointError
from pyro_ssbnn.files.atomic import replacing
from pyro_ssbnn.files.untrusted import parse_json, regular_file

__all__ = ["FORMAT_VERSION", "read_record", "under", "write_record"]

FORMAT_VERSION = 3
_FORMAT = "pyro_ssbnn"


def write_record(
    path: str | Path,
    kind: str,
    header: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    previous: Path | None = None,
    check: Callable[[], None] | None = None,
) -> None:
    """Write a record whole or not at all.

    :param kind: ``fit``, ``mixture`` or ``compact``.
    :param previous: what the older file of that name is called from then on; by default it goes.
    :param check: called at the last moment before it takes its place, see :func:`~pyro_ssbnn.files.atomic.replacing`.
    :raises OSError: when it cannot be written.
    """
    metadata = {
        "format": _FORMAT,
        "format_version": str(FORMAT_VERSION),
        "package_version": __version__,
        "kind": kind,
        "header": json.dumps(header),
    }
    # Clones: safetensors refuses tensors that share storage.
    plain = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    with replacing(path, previous, check) as temporary:
        try:
            save_file(plain, temporary, metadata=metadata)
        except SafetensorError as error:  # the writer's only error is the disk's
            raise OSError(f"{path}: {error}") from error


def read_record(
    path: str | Path, kind: str, device: torch.device
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a record.

    :raises CheckpointError: for a foreign, newer, or damaged file, or one of another kind.
    """
    regular_file(path)
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            _check_metadata(path, kind, metadata)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: not a safetensors file, or cut short ({error}). Save it again from the source."
        ) from error
    header = parse_json(metadata["header"], path)
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: the header is no record. Save it again from the source.")
    return header, tensors


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors whose names begin so, by the rest of their names."""
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def _check_metadata(path: str | Path, kind: str, metadata: Mapping[str, str]) -> None:
    if metadata.get("format") != _FORMAT or "header" not in metadata:
        raise CheckpointError(
            f"{path}: a safetensors file, but not one written by {_FORMAT}; expected a saved {kind}."
        )
    version = metadata.get("format_version", "")
    if not (version.isdecimal() and len(version) < 9 and int(version) <= FORMAT_VERSION):
        raise CheckpointError(
            f"{path}: written in format {version[:20] or '?'} by {_FORMAT}"
            f" {metadata.get('package_version', '?')[:20]}; this is {__version__}, which reads up to format"
            f" {FORMAT_VERSION}. Upgrade {_FORMAT} to read it."
        )
    if metadata.get("kind") != kind:
        raise CheckpointError(
            f"{path}: holds a saved {metadata.get('kind', '?')[:20]}, where a {kind} was expected."
        )
