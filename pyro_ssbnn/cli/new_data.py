"""Rows to predict: scaled as the training rows were, with their targets where they are given and usable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_ssbnn.cli.predictions import observed_column
from pyro_ssbnn.cli.sources import read_new
from pyro_ssbnn.data import Preprocessing, from_frame, read_idx, read_predictors
from pyro_ssbnn.data.csvfile import load_csv
from pyro_ssbnn.errors import DataError

__all__ = ["NewRows", "read_rows"]


@dataclass(frozen=True)
class NewRows:
    """Rows to predict.

    :param x: scaled predictors ``[N, p]``.
    :param y: scaled targets ``[N]`` to score; None where there are none, or none that can be scored.
    :param observed: targets as they stand in the data, to be written beside the predictions; None where there are none.
    :param why_no_scores: why targets that are there cannot be scored.
    """

    x: Tensor
    y: Tensor | None = None
    observed: NDArray[np.object_] | None = None
    why_no_scores: str = ""


def read_rows(source: str, preprocessing: Preprocessing) -> NewRows:
    """Read rows to predict from a CSV file, a file of IDX images, or a source as ``fit`` takes it.

    :raises DataError: for data that the model cannot predict from.
    """
    dataset = read_new(source)
    if dataset is not None:
        scaled = preprocessing.apply(dataset)
        return NewRows(scaled.x, scaled.y, observed_column(dataset))
    if _is_idx(Path(source)):
        return NewRows(_images(source, preprocessing))
    return _table(source, preprocessing)


def _table(source: str, preprocessing: Preprocessing) -> NewRows:
    names, target = list(preprocessing.feature_names), preprocessing.target_name
    x = preprocessing.transform(read_predictors(source, names))
    frame, _ = load_csv(source)
    if target not in frame.columns:
        return NewRows(x)
    observed = frame[target].to_numpy(dtype=object, na_value="")
    try:
        classes = preprocessing.class_names or None
        table = from_frame(frame[[*names, target]], target, preprocessing.task, source, classes)
        return NewRows(x, preprocessing.apply(table).y, observed)
    except (
        DataError
    ) as error:  # one row, targets not known yet: predictions are wanted all the same
        return NewRows(x, None, observed, str(error))


def _is_idx(file: Path) -> bool:
    """Whether a file holds IDX data by its first bytes, or by its name when it is gzipped."""
    with file.open("rb") as stream:
        start = stream.read(2)
    return start == b"\x00\x00" or (start == b"\x1f\x8b" and "idx" in file.name)


def _images(source: str, preprocessing: Preprocessing) -> Tensor:
    images = read_idx(source)
    shape = preprocessing.image_shape
    if shape is None:
        raise DataError(
            f"{source}: this model was fitted to a table, not to images; give a CSV file."
        )
    if images.ndim != 3 or shape != (1, *images.shape[1:]):
        raise DataError(
            f"{source}: expected images of {shape[1]}x{shape[2]} pixels ({shape[0]} channel) as the training data were;"
            f" the file holds {list(images.shape)}."
        )
    return preprocessing.transform(images.flatten(1).to(torch.float32) / 255)
