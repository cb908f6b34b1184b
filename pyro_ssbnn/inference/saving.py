"""Fits in files: network, guide, optimizer, history and random state, as safetensors with a JSON header.

Loading runs no code from the file, and makes nothing larger than the file is: see :mod:`pyro_ssbnn.files`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_ssbnn.checks import check_that, resolve_device
from pyro_ssbnn.errors import CheckpointError, ConfigurationError
from pyro_ssbnn.files.container import read_record, under, write_record
from pyro_ssbnn.files.untrusted import check_numbers, entry, unpacking
from pyro_ssbnn.guides import scale_guide
from pyro_ssbnn.inference.history import History, Reading, Removal
from pyro_ssbnn.inference.options import TrainingOptions
from pyro_ssbnn.inference.result import Fit
from pyro_ssbnn.inference.start import Start
from pyro_ssbnn.isolation import seeded
from pyro_ssbnn.models import network_from_config
from pyro_ssbnn.registry import class_of, record_of
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.match import first_difference
from pyro_ssbnn.structure.network import Network

__all__ = [
    "load_fit",
    "load_guide",
    "options_of",
    "packed",
    "save_fit",
    "unpacked",
    "write_fit",
]

_OF_DATA = ("prior", "output_prior", "likelihood")  # records that may count rows
_LARGEST_ROW = 2**22  # numbers of an image, say
_SMALL = 10_000  # members that cost nothing
_SERIES = ("log_likelihood", "kl", "kl_weight", "seconds")


def save_fit(result: Fit, path: str | Path) -> None:
    """Save a fit so that it can be inspected, or its training continued, elsewhere.

    :raises ConfigurationError: when the class of the network, its prior, its likelihood or the guide has no name of its
        own; :func:`pyro_ssbnn.register` gives it one, also afterwards.
    """
    write_fit(result, path)


def write_fit(
    result: Fit,
    path: str | Path,
    previous: Path | None = None,
    check: Callable[[], None] | None = None,
) -> None:
    """As :func:`save_fit`; see :func:`~pyro_ssbnn.files.container.write_record`."""
    check_that("save_fit", "result", result, isinstance(result, Fit), "what fit returned")
    result.require_match("save_fit")
    write_record(path, "fit", *packed(result), previous, check)


def packed(result: Fit) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a fit's record."""
    tensors = {f"guide.{k}": v for k, v in result.guide.state_dict().items()}
    first = getattr(result.guide, "started_from", None) or {}
    tensors |= {f"start.{k}": v for k, v in first.items()}
    tensors |= {f"network.{k}": v for k, v in result.model.state_dict().items()}
    state = result.optimizer_state.get("state", {})
    for index, slots in state.items():
        tensors |= {f"optimizer.{index}.{slot}": torch.as_tensor(v) for slot, v in slots.items()}
    for group, rows in result.history.inclusion.items():
        if rows:  # a run that has gone back to its beginning has none
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
        "admitted": result.history.admitted,
        "bounds": result.history.bounds,
        "optimizer_groups": result.optimizer_state.get("param_groups", []),
    }
    return header, tensors


def load_fit(path: str | Path, device: str = "cpu") -> Fit:
    """Load what :func:`save_fit` wrote.

    :param device: where the guide is put; "auto", "cpu", "cuda", ...
    :raises CheckpointError: for a foreign, newer, or damaged file, and for group-lasso fits of format 1.
    """
    return unpacked(path, *read_record(path, "fit", resolve_device(device)))


def unpacked(path: str | Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Fit:
    """The fit of a record.

    :param path: of its file, for messages.
    """
    model = _network_of(path, header, tensors)
    guide = _guide_of(path, model, header, tensors)
    with unpacking(path, "the fit"):
        options = options_of(entry(header, "options", dict, path), path)
        history = _history_of(path, header, tensors, model)
        optimizer = _optimizer_of(path, header, tensors, guide)
        random_state = _random_state_of(path, tensors)
        num_data = entry(header, "num_data", int, path)
        start = _start_of(header)
        result = Fit(model, guide, options, history, num_data, optimizer, random_state, start)
        result.require_match("load_fit")
    return result


def load_guide(path: str | Path, model: Network, device: str = "cpu") -> Guide:
    """Load only the guide of a saved fit, for a network built by the caller.

    The network is changed: its running statistics are set, on the device and in the dtype of the guide, and it is in
    evaluation mode.

    :raises CheckpointError: also when the saved guide is that of another network; the message names the first
        difference.
    """
    header, tensors = read_record(path, "fit", resolve_device(device))
    saved = _network_of(path, header, tensors)
    difference = first_difference(model, saved, ("the network", "the file"))
    if difference:
        raise CheckpointError(f"{path}: the saved guide is that of another network: {difference}.")
    return _guide_of(path, model, header, tensors)


def options_of(record: Mapping[str, Any], where: str | Path) -> TrainingOptions:
    """Options of the training, as a file tells them.

    :raises CheckpointError: for options that there are none of, or values that none has.
    """
    unknown = sorted(record.keys() - {field.name for field in fields(TrainingOptions)})
    if unknown:
        raise CheckpointError(
            f"{where}: options of the training that this version does not know: {', '.join(unknown)[:200]}. A later"
            " version of pyro_ssbnn wrote them, or someone else: go on with that version, or fit again."
        )
    with unpacking(where, "the training options"):
        return TrainingOptions(**record)


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


def _network_of(
    path: str | Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Network:
    """The network, once the file has been seen to hold as many values as its record speaks of."""
    record = entry(header, "network", dict, path)
    saved = under("guide.", tensors)
    held = sum(value.numel() for value in saved.values())
    shape = {name: part for name, part in record.items() if name not in _OF_DATA}
    check_numbers(shape, max(held, _SMALL), f"{path}: the network's record")
    with unpacking(path, "the network"):
        for name in ("image_shape", "input_shape"):  # each predictor has a name
            most = max(held, _LARGEST_ROW)
            check_numbers(math.prod(shape.get(name, ())), most, f"{path}: {name}")
        model = network_from_config(record)
        weights = model.description.num_weights
    if weights > held:
        raise CheckpointError(
            f"{path}: the saved guide does not match the network, which has {weights:,} weights; the guide holds"
            f" {held:,} values. The file was damaged or made up."
        )
    broken = [name for name, value in saved.items() if not bool(value.isfinite().all())]
    if broken:
        raise CheckpointError(f"{path}: guide.{broken[0]} holds values that are not finite.")
    return model


def _history_of(
    path: str | Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor], model: Network
) -> History:
    record = entry(header, "history", dict, path)
    moves = [
        [Removal(str(g), int(n), e, i) for g, n, e, i in rows]
        for rows in (entry(header, "removed", list, path), header.get("admitted", []))
    ]
    bounds = [Reading(*map(float, row)) for row in header.get("bounds", [])]
    history = History(
        removed=moves[0], admitted=moves[1], bounds=bounds, parts=int(record.get("parts", 1))
    )
    for name in _SERIES:
        getattr(history, name).extend(float(value) for value in entry(record, name, list, path))
    inclusion = under("history.inclusion.", tensors)
    for group in model.description.gate_groups:  # the file's order is alphabetical
        if group.name in inclusion:
            history.inclusion[group.name] = list(inclusion[group.name].cpu().numpy())
    lengths = {len(getattr(history, name)) for name in _SERIES}
    if len(lengths | {len(rows) for rows in history.inclusion.values()}) > 1:
        raise CheckpointError(f"{path}: the rows of the history are not equally many.")
    return history


def _optimizer_of(
    path: str | Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor], guide: Guide
) -> dict[str, Any]:
    groups = entry(header, "optimizer_groups", list, path)
    sizes = [len(parameters) for parameters in guide.parameter_groups().values() if parameters]
    if groups and [len(entry(group, "params", list, path)) for group in groups] != sizes:
        raise CheckpointError(f"{path}: the optimizer's state is that of another guide.")
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in under("optimizer.", tensors).items():
        index, slot = name.split(".")
        state.setdefault(int(index), {})[slot] = value
    return {"state": state, "param_groups": groups}


def _random_state_of(path: str | Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    states = {name: value.cpu() for name, value in under("random.", tensors).items()}
    expected = torch.get_rng_state()
    here = states.get("cpu", expected)
    if here.dtype != expected.dtype or here.shape != expected.shape:
        raise CheckpointError(f"{path}: the state of the random numbers is damaged.")
    return states


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
    guide = _new_guide(path, model, header)
    saved = under("guide.", tensors)
    _check_state(path, "guide", saved, guide.state_dict())
    statistics = under("network.", tensors)
    _check_state(path, "network", statistics, model.state_dict())
    like = saved["temperature"]
    for module, state in ((guide, saved), (model, statistics)):
        module.to(device=like.device, dtype=like.dtype)
        module.load_state_dict(state)
    model.train(False)
    first = under("start.", tensors)
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


def _new_guide(path: str | Path, model: Network, header: Mapping[str, Any]) -> Guide:
    # The initial values are overwritten.
    with unpacking(path, "the guide"), seeded(0, torch.device("cpu")):
        record = _guide_record(header)
        options = {**record["options"], **record.get("initial", {})}
        guide: Guide = class_of("guide", record)(model, **options)
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
