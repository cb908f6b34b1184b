"""Fitted estimators in folders: the fit as safetensors, everything else as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pyro_ssbnn.data import Preprocessing
from pyro_ssbnn.errors import CheckpointError
from pyro_ssbnn.files.atomic import write_text
from pyro_ssbnn.inference import (
    Mixture,
    TrainingOptions,
    load_fit,
    load_mixture,
    save_fit,
    save_mixture,
)
from pyro_ssbnn.likelihoods import Likelihood, likelihood_from_config
from pyro_ssbnn.priors import Prior, from_config

__all__ = ["load_estimator", "save_estimator"]

_FORMAT = "pyro_ssbnn estimator"
_RECORD, _FIT = "estimator.json", "fit.safetensors"
_MADE = {"prior": from_config, "likelihood": likelihood_from_config}


def save_estimator(estimator: Any, folder: Path) -> None:
    """Write a fitted estimator."""
    folder.mkdir(parents=True, exist_ok=True)
    several = isinstance(estimator.result_, Mixture)
    (save_mixture if several else save_fit)(estimator.result_, folder / _FIT)
    classes = getattr(estimator, "classes_", None)
    names = getattr(estimator, "feature_names_in_", None)
    record = {
        "format": _FORMAT,
        "class": type(estimator).__name__,
        "parameters": {k: _plain(v) for k, v in estimator.get_params(deep=False).items()},
        "several_fits": several,
        "preprocessing": estimator.preprocessing_.to_dict(),
        "n_features_in": estimator.n_features_in_,
        "feature_names_in": None if names is None else list(names),
        "classes": None
        if classes is None
        else {"kind": classes.dtype.str, "values": classes.tolist()},
    }
    write_text(folder / _RECORD, json.dumps(record, indent=2, allow_nan=False) + "\n")


def load_estimator(cls: type[Any], folder: Path) -> Any:
    """The fitted estimator of a folder."""
    file = folder / _RECORD
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        kind, parameters = record["class"], record["parameters"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder}: holds no estimator that save() wrote ({error})."
        ) from error
    if record.get("format") != _FORMAT or kind != cls.__name__:
        raise CheckpointError(
            f"{file}: holds a {kind}, not a {cls.__name__}; load it by that class."
        )
    try:
        estimator = cls(**{k: _made(k, v) for k, v in parameters.items()})
        estimator.preprocessing_ = Preprocessing.from_dict(record["preprocessing"])
        estimator.n_features_in_ = int(record["n_features_in"])
        if record["feature_names_in"] is not None:
            estimator.feature_names_in_ = np.asarray(record["feature_names_in"], dtype=object)
        if record["classes"] is not None:
            estimator.classes_ = np.asarray(
                record["classes"]["values"], dtype=record["classes"]["kind"]
            )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file}: a damaged record ({error}).") from error
    estimator.result_ = (load_mixture if record.get("several_fits") else load_fit)(folder / _FIT)
    return estimator


def _plain(value: Any) -> Any:
    """A parameter as JSON keeps it."""
    if isinstance(value, Prior | Likelihood | TrainingOptions):
        return {"record": value.to_config()}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.random.RandomState):
        return None  # its state is spent
    return list(value) if isinstance(value, tuple) else value


def _made(name: str, value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"record"}:
        make = _MADE.get(name)
        return TrainingOptions(**value["record"]) if make is None else make(value["record"])
    return tuple(value) if isinstance(value, list) else value
