"""New rows for a run, encoded as the training rows were, with their targets where they can be scored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_ssbnn.cli.sources import read_new
from pyro_ssbnn.data import Preprocessing, Table, read_idx, table_pieces
from pyro_ssbnn.data.remarks import warn_of_new_levels
from pyro_ssbnn.data.wording import command_option
from pyro_ssbnn.errors import DataError
from pyro_ssbnn.results.predictions import observed_column

__all__ = ["ROWS", "NewRows", "read_rows"]

ROWS = 20_000
"""Rows of a piece, at most about; a file's pieces are of some megabytes."""


@dataclass(frozen=True)
class NewRows:
    """Some rows to predict.

    :param x: columns of the network ``[N, q]``.
    :param share: of the source that has been read with them, 0 to 1.
    :param labels: what joins predictions to their rows, by the column's name.
    :param y: targets ``[N]`` in own units to score; None where there are none, or none that can be scored.
    :param observed: targets as they stand in the data, to be written beside the predictions; None where there are none.
    :param why_no_scores: why targets that are there cannot be scored.
    """

    x: Tensor
    share: float
    labels: dict[str, NDArray[Any]]
    y: Tensor | None = None
    observed: NDArray[np.object_] | None = None
    why_no_scores: str = ""


def read_rows(source: str, preprocessing: Preprocessing) -> Iterator[NewRows]:
    """Read rows to predict from a table's file, a file of IDX images, or a source as ``fit`` takes it.

    Memory grows with a text file's pieces, not with the file.

    :raises DataError: for data that the model cannot predict from, when it comes to them.
    """
    dataset = read_new(source)
    if dataset is not None:
        rows = preprocessing.apply(dataset)
        written = observed_column(rows.observed, preprocessing.class_names)
        yield from _parts(rows.x, rows.observed, written)
    elif _is_idx(Path(source)):
        yield from _parts(_images(source, preprocessing))
    else:
        # What a column is was settled by the training rows; here it is read as it is written.
        text = [*preprocessing.written_columns, preprocessing.target_name]
        first, new = 0, dict[str, set[str]]()
        for piece, share in table_pieces(source, text):
            yield _table(replace(piece, option=_of_a_new_fit), share, first, preprocessing)
            first += len(piece)
            for name, levels in preprocessing.new_levels(piece).items():
                new[name] = new.get(name, set()) | levels
        warn_of_new_levels(source, new)


def _of_a_new_fit(name: str, value: object) -> str:
    """An option as ``fit`` has it, and the command that meets the trouble has not."""
    return f"{command_option(name, value)} in a new fit"


def _parts(
    x: Tensor, y: Tensor | None = None, observed: NDArray[np.object_] | None = None
) -> Iterator[NewRows]:
    for at in range(0, len(x), ROWS):
        part = slice(at, at + ROWS)
        share = min(1.0, (at + ROWS) / len(x))
        of_y = None if y is None else y[part]
        labels = {"row": np.arange(len(x))[part]}
        yield NewRows(x[part], share, labels, of_y, None if observed is None else observed[part])


def _table(table: Table, share: float, first: int, preprocessing: Preprocessing) -> NewRows:
    x, labels = preprocessing.encode(table), preprocessing.row_labels(table, first)
    target = preprocessing.target_name
    if target not in table.names:
        return NewRows(x, share, labels)
    column = table.column(target)
    observed = np.where(column.missing, "", column.words).astype(object)
    try:
        scored = preprocessing.encode_target(table)
        return NewRows(x, share, labels, scored, observed)
    except DataError as error:  # targets not known yet: predictions are wanted all the same
        return NewRows(x, share, labels, None, observed, str(error))


def _is_idx(file: Path) -> bool:
    """Whether a file holds IDX data by its first bytes, or by its name when it is gzipped."""
    with file.open("rb") as stream:
        start = stream.read(2)
    return start == b"\x00\x00" or (start == b"\x1f\x8b" and "idx" in file.name)


def _images(source: str, preprocessing: Preprocessing) -> Tensor:
    images = read_idx(source)
    shape = preprocessing.image_shape
    if shape is None:
        raise DataError(f"{source}: this model was fitted to a table, not to images; give a table.")
    if images.ndim != 3 or shape != (1, *images.shape[1:]):
        raise DataError(
            f"{source}: expected images of {shape[1]}x{shape[2]} pixels ({shape[0]} channel) as the training data were;"
            f" the file holds {list(images.shape)}."
        )
    return preprocessing.encode(images.flatten(1).to(torch.float32) / 255)
