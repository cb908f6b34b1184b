"""Rows to predict, piece by piece: scaled as the training rows were, with their targets where they can be scored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_ssbnn.cli.predictions import observed_column
from pyro_ssbnn.cli.sources import read_new
from pyro_ssbnn.data import Preprocessing, read_idx
from pyro_ssbnn.data.csvfile import CsvPiece, csv_pieces
from pyro_ssbnn.data.table import Source, predictors_of
from pyro_ssbnn.data.target import encode_target
from pyro_ssbnn.errors import DataError

__all__ = ["ROWS", "NewRows", "read_rows"]

ROWS = 20_000
"""Rows of a piece, at most about; a file's pieces are of some megabytes."""


@dataclass(frozen=True)
class NewRows:
    """Some rows to predict.

    :param x: scaled predictors ``[N, p]``.
    :param share: of the source that has been read with them, 0 to 1.
    :param y: scaled targets ``[N]`` to score; None where there are none, or none that can be scored.
    :param observed: targets as they stand in the data, to be written beside the predictions; None where there are none.
    :param why_no_scores: why targets that are there cannot be scored.
    """

    x: Tensor
    share: float
    y: Tensor | None = None
    observed: NDArray[np.object_] | None = None
    why_no_scores: str = ""


def read_rows(source: str, preprocessing: Preprocessing) -> Iterator[NewRows]:
    """Read rows to predict from a CSV file, a file of IDX images, or a source as ``fit`` takes it.

    Memory grows with a CSV file's pieces, not with the file.

    :raises DataError: for data that the model cannot predict from, when it comes to them.
    """
    dataset = read_new(source)
    if dataset is not None:
        scaled = preprocessing.apply(dataset)
        yield from _parts(scaled.x, scaled.y, observed_column(dataset))
    elif _is_idx(Path(source)):
        yield from _parts(_images(source, preprocessing))
    else:
        for piece in csv_pieces(source):
            yield _table(source, piece, preprocessing)


def _parts(
    x: Tensor, y: Tensor | None = None, observed: NDArray[np.object_] | None = None
) -> Iterator[NewRows]:
    for at in range(0, len(x), ROWS):
        part = slice(at, at + ROWS)
        share = min(1.0, (at + ROWS) / len(x))
        of_y = None if y is None else y[part]
        yield NewRows(x[part], share, of_y, None if observed is None else observed[part])


def _table(name: str, piece: CsvPiece, preprocessing: Preprocessing) -> NewRows:
    source = Source(name, "line", piece.lines.tolist())
    x = preprocessing.transform(predictors_of(piece.frame, preprocessing.feature_names, source))
    target = preprocessing.target_name
    if target not in piece.frame.columns:
        return NewRows(x, piece.share)
    column = piece.frame[target]
    observed = column.to_numpy(dtype=object, na_value="")
    missing = np.flatnonzero(column.isna())
    try:
        if len(missing):
            raise DataError(
                f"{name}: target {target!r} is missing in {len(missing)} rows ({source.rows(missing.tolist())})."
            )
        task, classes = preprocessing.task, preprocessing.class_names or None
        y, _, _ = encode_target(column, task, name, source.rows, classes)
        return NewRows(x, piece.share, preprocessing.target.transform(y), observed)
    except DataError as error:  # targets not known yet: predictions are wanted all the same
        return NewRows(x, piece.share, None, observed, str(error))


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
