"""Saving and loading without pickle: safetensors files with a JSON header.

A file holds one *kind* of record (``fit``: network, guide, optimizer, history, random state; ``compact``: a pruned
network). Loading runs no code from the file; what is foreign, newer, or damaged is refused with a
:class:`CheckpointError`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from pyro_ssbnn._version import __version__
from pyro_ssbnn.errors import CheckpointError, ConfigurationError
from pyro_ssbnn.files.atomic import replacing
from pyro_ssbnn.guides import scale_guide
from pyro_ssbnn.inference import Fit, History, Removal, TrainingOptions
from pyro_ssbnn.inference.options import resolve_device
from pyro_ssbnn.inference.start import Start
from pyro_ssbnn.isolation import seeded
from pyro_ssbnn.models import CompactNetwork, compact_from_state, network_from_config
from pyro_ssbnn.registry import class_of, record_of
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.match import first_difference
from pyro_ssbnn.structure.network import Network

__all__ = [
    "FORMAT_VERSION",
    "load_compact",
    "load_fit",
    "load_guide",
    "save_compact",
    "save_fit",
]

FORMAT_VERSION = 3
_FORMAT = "pyro_ssbnn"
_SERIES = ("log_likelihood", "kl", "kl_weight", "seconds")


def save_fit(result: Fit, path: str | Path) -> None:
    """Save a fit so that it can be inspected, or its training continued, elsewhere.

    :raises ConfigurationError: when the class of the network, its prior, its likelihood or the guide has no name of its
        own; :func:`pyro_ssbnn.register` gives it one, also afterwards.
    """
    result.require_match("save_fit")
    tensors = {f"guide.{k}": v for k, v in result.guide.state_dict().items()}
    first = getattr(result.guide, "started_from", None) or {}
    tensors |= {f"start.{k}": v for k, v in first.items()}
    tensors |= {f"network.{k}": v for k, v in result.model.state_dict().items()}
    state = result.optimizer_state.get("state", {})
    for index, slots in state.items():
        tensors |= {f"optimizer.{index}.{slot}": torch.as_tensor(v) for slot, v in slots.items()}
    for group, rows in result.history.inclusion.items():
        tensors[f"history.inclusion.{group}"] = torch.from_numpy(np.stack(rows))
    tensors |= {f"random.{device}": v for device, v in result.random_state.items()}
    header = {
        "network": result.model.to_config(),
        "options": result.options.to_config(),
        "guide": {
            **record_of(type(result.guide)),
            "options": result.guide.to_config(),
            "initial": getattr(result.guide, "initial", {}),
        },
        "start": _start_record(result.start),
        "num_data": result.num_data,
        "history": {name: getattr(result.history, name) for name in (*_SERIES, "parts")},
        "removed": result.history.removed,
        "optimizer_groups": result.optimizer_state.get("param_groups", []),
    }
    _save(path, "fit", header, tensors)


def load_fit(path: str | Path, device: str = "cpu") -> Fit:
    """Load what :func:`save_fit` wrote.

    :param device: where the guide is put; "auto", "cpu", "cuda", ...
    :raises CheckpointError: for a foreign, newer, or damaged file, and for group-lasso fits of format 1.
    """
    header, tensors = _load(path, "fit", resolve_device(device))
    model = _network_of(path, header)
    try:
        options = TrainingOptions(**header["options"])
        removed = [Removal(*entry) for entry in header["removed"]]
        history = History(**header["history"], removed=removed)
    except (KeyError, TypeError, ConfigurationError) as error:
        raise CheckpointError(f"{path}: the header cannot be read ({error}).") from error
    guide = _guide_of(path, model, header, tensors)
    inclusion = _under("history.inclusion.", tensors)
    for group in model.description.gate_groups:  # the file's order is alphabetical
        if group.name in inclusion:
            history.inclusion[group.name] = list(inclusion[group.name].cpu().numpy())
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _under("optimizer.", tensors).items():
        index, slot = name.split(".")
        state.setdefault(int(index), {})[slot] = value
    optimizer = {"state": state, "param_groups": header["optimizer_groups"]}
    random_state = {k: v.cpu() for k, v in _under("random.", tensors).items()}
    start = _start_of(header)
    return Fit(model, guide, options, history, header["num_data"], optimizer, random_state, start)


def load_guide(path: str | Path, model: Network, device: str = "cpu") -> Guide:
    """Load only the guide of a saved fit, for a network built by the caller.

    The network is changed: its running statistics are set, on the device and in the dtype of the guide, and it is in
    evaluation mode.

    :raises CheckpointError: also when the saved guide is that of another network; the message names the first
        difference.
    """
    header, tensors = _load(path, "fit", resolve_device(device))
    difference = first_difference(model, _network_of(path, header), ("the network", "the file"))
    if difference:
        raise CheckpointError(f"{path}: the saved guide is that of another network: {difference}.")
    return _guide_of(path, model, header, tensors)


def save_compact(
    network: CompactNetwork, path: str | Path, notes: Mapping[str, Any] | None = None
) -> None:
    """Save a pruned network with its original indices.

    :param notes: further JSON-able entries for people who look into the file's header.
    :raises ConfigurationError: when the class of the network it was cut from has no name of its own.
    """
    state = {k: v for k, v in network.state_dict().items() if v is not None}
    _save(path, "compact", {"compact": network.to_config(), "notes": {**(notes or {})}}, state)


def load_compact(path: str | Path, device: str = "cpu") -> CompactNetwork:
    """Load what :func:`save_compact` wrote.

    :raises CheckpointError: for a foreign, newer, or damaged file.
    """
    header, tensors = _load(path, "compact", resolve_device(device))
    try:
        return compact_from_state(header["compact"], tensors)
    except (KeyError, RuntimeError, ConfigurationError) as error:
        raise CheckpointError(f"{path}: not a complete pruned network. {error}") from error


def _start_record(start: Start) -> dict[str, Any]:
    """Record of a start; of an augmentation that has no record of its own, only what it is."""
    augment, lost = start.augment, start.lost
    record = None
    if augment is not None:
        try:
            record = {**record_of(type(augment)), "options": augment.to_config()}  # type: ignore[attr-defined]
        except (AttributeError, ConfigurationError):
            lost = getattr(augment, "__qualname__", type(augment).__qualname__)
    return {"augment": record, "lost": lost, "obstacle": start.obstacle}


def _start_of(header: Mapping[str, Any]) -> Start:
    record = header.get("start")
    if record is None:
        return Start(obstacle="its file, written up to format 2, does not tell how it began")
    augment, lost = None, record["lost"]
    if record["augment"] is not None:
        try:
            augment = class_of("augmentation", record["augment"])(**record["augment"]["options"])
        except (TypeError, ConfigurationError):
            lost = record["augment"]["name"]
    obstacle = record["obstacle"]
    if lost and not obstacle:
        obstacle = f"its file does not hold its augmentation, {lost}"
    return Start(augment, lost, obstacle)


def _network_of(path: str | Path, header: Mapping[str, Any]) -> Network:
    try:
        return network_from_config(header["network"])
    except (KeyError, TypeError, ConfigurationError) as error:
        raise CheckpointError(f"{path}: the network cannot be made again. {error}") from error


def _guide_of(
    path: str | Path, model: Network, header: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Guide:
    centred = {g.name for g in model.description.groups if scale_guide(g.prior).centred}
    if "guide" not in header and centred:
        raise CheckpointError(
            f"{path}: written in format 1, where the guide of {', '.join(sorted(centred))} under the group lasso held"
            " other numbers: means of u, and variances that did not follow the penalty. They cannot be read as they"
            " stand; fit anew."
        )
    guide = _new_guide(path, model, _guide_record(header))
    saved = _under("guide.", tensors)
    _check_state(path, "guide", saved, guide.state_dict())
    statistics = _under("network.", tensors)
    _check_state(path, "network", statistics, model.state_dict())
    like = saved["temperature"]
    for module, state in ((guide, saved), (model, statistics)):
        module.to(device=like.device, dtype=like.dtype)
        module.load_state_dict(state)
    model.train(False)
    first = _under("start.", tensors)
    if first:
        guide.started_from = first  # type: ignore[attr-defined]
    return guide


def _guide_record(header: Mapping[str, Any]) -> Mapping[str, Any]:
    """Name and options of the guide; files up to format 2 know two classes, and format 1 only one of them."""
    record: dict[str, Any] = header.get("guide", {})
    if "name" in record:
        return record
    if "coupled" in record:
        return {"name": "coupled", "options": record}
    return {"name": "structured", "options": {"hard": header["hard_gates"]}}


def _new_guide(path: str | Path, model: Network, record: Mapping[str, Any]) -> Guide:
    try:
        with seeded(0, torch.device("cpu")):  # the initial values are overwritten
            options = {**record["options"], **record.get("initial", {})}
            guide: Guide = class_of("guide", record)(model, **options)
    except (TypeError, ConfigurationError) as error:
        raise CheckpointError(f"{path}: the guide cannot be made again. {error}") from error
    return guide


def _check_state(
    path: str | Path, what: str, saved: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> None:
    for name in sorted(expected.keys() | saved.keys()):
        found = list(saved[name].shape) if name in saved else "nothing"
        wanted = list(expected[name].shape) if name in expected else "nothing"
        if found != wanted:
            raise CheckpointError(
                f"{path}: the saved {what} does not match the network: {name} should be {wanted}, the file has {found}."
                " Build the network with the widths, prior, likelihood and input gates of the saved one."
            )


def _save(
    path: str | Path, kind: str, header: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    metadata = {
        "format": _FORMAT,
        "format_version": str(FORMAT_VERSION),
        "package_version": __version__,
        "kind": kind,
        "header": json.dumps(header),
    }
    # Clones: safetensors refuses tensors that share storage.
    plain = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    with replacing(path) as temporary:
        save_file(plain, temporary, metadata=metadata)


def _load(
    path: str | Path, kind: str, device: torch.device
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not Path(path).is_file():
        raise CheckpointError(f"{path}: there is no such file.")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            _check_metadata(path, kind, metadata)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return json.loads(metadata["header"]), tensors
    except (SafetensorError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{path}: not a safetensors file, or cut short ({error}). Save it again from the source."
        ) from error


def _check_metadata(path: str | Path, kind: str, metadata: Mapping[str, str]) -> None:
    if metadata.get("format") != _FORMAT or "header" not in metadata:
        raise CheckpointError(
            f"{path}: a safetensors file, but not one written by {_FORMAT}; expected a saved {kind}."
        )
    version = metadata.get("format_version", "")
    if not version.isdigit() or int(version) > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: written in format {version or '?'} by {_FORMAT} {metadata.get('package_version', '?')}; this is"
            f" {__version__}, which reads up to format {FORMAT_VERSION}. Upgrade {_FORMAT} to read it."
        )
    if metadata.get("kind") != kind:
        raise CheckpointError(
            f"{path}: holds a saved {metadata.get('kind')}, where a {kind} was expected."
        )


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
