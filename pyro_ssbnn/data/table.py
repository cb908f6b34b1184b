"""Tables: a pandas frame or a comma-separated file as a ``Dataset``, every doubt a ``DataError``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyro_ssbnn.data.csvfile import load_csv
from pyro_ssbnn.data.dataset import LARGEST, Dataset, Task
from pyro_ssbnn.data.target import encode_target
from pyro_ssbnn.data.wording import check_different, did_you_mean, listed, ordinal
from pyro_ssbnn.errors import DataError


@dataclass(frozen=True, eq=False)
class Source:
    """Where a table came from, for messages.

    :param name: path of the file, or what the user calls the frame.
    :param unit: "line" for files, "index" for frames.
    :param numbers: the line or the index label of each row.
    """

    name: str
    unit: str
    numbers: Sequence[object]

    def rows(self, positions: Sequence[int]) -> str:
        """Name some rows: ``lines 3, 7 and 9 more``."""
        unit = self.unit if len(positions) == 1 or self.unit == "index" else f"{self.unit}s"
        return f"{unit} {listed([self.numbers[i] for i in positions], most=5)}"


def from_frame(
    frame: pd.DataFrame,
    target: str,
    task: Task | None = None,
    name: str = "the table",
    class_names: Sequence[str] | None = None,
) -> Dataset:
    """Turn a frame into a ``Dataset``: one column is the target, all others are features.

    With ``task=None`` the task follows from the target: text or booleans, and numbers that are
    all 0 or 1, are "binary" with two values and "classification" with more; numbers with
    decimals, and whole numbers with more than 20 different values, are "regression"; whole
    numbers with fewer could be classes, counts or quantities, so the task must be said.

    Class labels may be anything; ``class_names`` lists them in the order of the labels
    ``0..K-1``: numbers by size, otherwise alphabetically.

    :param frame: ``N`` rows; the index is not a feature.
    :param target: name of the target column.
    :param task: "regression", "binary", "classification" or "count"; None infers it.
    :param name: what to call the table in messages.
    :param class_names: names in label order, as the training data had them, so that a test table without some class
        gets the same labels.
    :raises DataError: missing, infinite or textual values in a feature, repeated column names, an absent or ambiguous
        target, one class, negative counts, fewer than two rows.
    """
    source = _frame_source(frame, name)
    return _dataset(_named(frame, source), target, task, source, class_names)


def read_csv(
    path: str | Path,
    target: str,
    task: Task | None = None,
    class_names: Sequence[str] | None = None,
) -> Dataset:
    """Read a comma-separated file (UTF-8, names in the first line); otherwise as ``from_frame``.

    :raises DataError: all of ``from_frame``'s with line numbers of the file; a missing, empty or cut file, a row with
        too many or too few fields.
    """
    frame, lines = load_csv(path)
    return _dataset(frame, target, task, Source(str(path), "line", lines), class_names)


def read_predictors(
    path_or_frame: str | Path | pd.DataFrame, feature_names: Sequence[str], name: str = "the table"
) -> Tensor:
    """Read the features a fitted model needs, in its order; other columns are not looked at.

    :param path_or_frame: comma-separated file or frame of ``N >= 1`` rows; the target may be absent.
    :param feature_names: the ``p`` names the model was fitted to.
    :param name: what to call a frame in messages.
    :returns: ``[N, p]`` float64, not scaled yet.
    :raises DataError: columns that are absent, values that are missing, infinite or text, no rows.
    """
    if isinstance(path_or_frame, pd.DataFrame):
        source = _frame_source(path_or_frame, name)
        frame = _named(path_or_frame, source)
    else:
        frame, lines = load_csv(path_or_frame)
        source = Source(str(path_or_frame), "line", lines)
    return predictors_of(frame, feature_names, source)


def predictors_of(frame: pd.DataFrame, feature_names: Sequence[str], source: Source) -> Tensor:
    """The features a fitted model needs, ``[N, p]`` float64; see :func:`read_predictors`."""
    if len(frame) == 0:
        raise DataError(f"{source.name}: expected at least one row, found none.")
    wanted = list(feature_names)
    missing = [column for column in wanted if column not in frame.columns]
    if missing:
        have = [str(column) for column in frame.columns]
        raise DataError(
            f"{source.name}: the model needs {len(wanted)} columns, and {listed(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} absent; the table has {listed(have)}."
            f"{did_you_mean(missing[0], [other for other in have if other not in wanted])}"
        )
    _check_missing(frame[wanted], source)
    return _features(frame[wanted], source)


def _frame_source(frame: pd.DataFrame, name: str) -> Source:
    if not isinstance(frame, pd.DataFrame):
        raise DataError(
            f"{name}: expected a pandas.DataFrame, got {type(frame).__name__}. Use "
            f"read_csv for a file, Dataset(...) for tensors."
        )
    return Source(name, "index", list(frame.index))


def _named(frame: pd.DataFrame, source: Source) -> pd.DataFrame:
    """Give the frame columns named by different strings (a copy of the header, not the data)."""
    if frame.columns.nlevels > 1:
        raise DataError(
            f"{source.name}: expected one row of column names, found "
            f"{frame.columns.nlevels} levels. Join them into one name each."
        )
    names = [str(column) for column in frame.columns]
    check_different(source.name, names)
    return frame.set_axis(names, axis=1)


def _dataset(
    frame: pd.DataFrame,
    target: str,
    task: Task | None,
    source: Source,
    class_names: Sequence[str] | None,
) -> Dataset:
    names = [str(column) for column in frame.columns]
    if target not in names:
        first = " The first line looks like data, not like names." if _all_numbers(names) else ""
        raise DataError(
            f"{source.name}: there is no target column {target!r}; the columns are "
            f"{listed(names, most=30)}.{did_you_mean(target, names)}{first}"
        )
    if len(frame) < 2:
        raise DataError(f"{source.name}: expected at least two rows, found {len(frame)}.")
    features = frame.drop(columns=target)
    if features.shape[1] == 0:
        raise DataError(
            f"{source.name}: expected features beside the target {target!r}, found no other column."
        )
    _check_missing(frame, source)
    y, decided, classes = encode_target(frame[target], task, source.name, source.rows, class_names)
    return Dataset(
        _features(features, source), y, tuple(map(str, features.columns)), target, decided, classes
    )


def _features(frame: pd.DataFrame, source: Source) -> Tensor:
    """``[N, p]`` float64 from columns that must all be finite numbers, none missing."""
    x = np.empty(frame.shape)
    for i, column in enumerate(frame.columns):
        label = f"column {column!r} ({ordinal(i + 1)} of {frame.shape[1]} features)"
        x[:, i] = _numbers(frame[column], label, source)
        infinite = np.flatnonzero(~(np.abs(x[:, i]) <= LARGEST))
        if len(infinite):
            raise DataError(
                f"{source.name}: {label} is infinite, or too large for single precision, in "
                f"{len(infinite)} rows ({source.rows(infinite.tolist())}, value "
                f"{x[infinite[0], i]}). Correct or drop them, or take logarithms."
            )
    return torch.from_numpy(x)


def _numbers(series: pd.Series, label: str, source: Source) -> np.ndarray:
    """``[N]`` float64 values of a column without missing values."""
    kind = series.dtype
    if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_complex_dtype(kind):
        return series.to_numpy(dtype=np.float64)
    if not (pd.api.types.is_object_dtype(kind) or pd.api.types.is_string_dtype(kind)):
        raise DataError(
            f"{source.name}: expected numbers in {label}, found {kind}. Encode it: "
            f"one-hot columns for categories (pandas.get_dummies), a difference from "
            f"a reference date for dates."
        )
    parsed = pd.to_numeric(series, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    text = np.flatnonzero(np.isnan(parsed))
    if len(text):
        raise DataError(
            f"{source.name}: expected numbers in {label}, found text in {len(text)} of "
            f"{len(series)} rows, first {series.iloc[int(text[0])]!r} at "
            f"{source.rows([int(text[0])])}. Correct the value; if the column holds categories, "
            f"one-hot encode it (pandas.get_dummies)."
        )
    return parsed


def _check_missing(frame: pd.DataFrame, source: Source) -> None:
    absent = frame.isna()
    counts = {str(column): int(count) for column, count in absent.sum().items() if count}
    if not counts:
        return
    told = [
        f"{count} in {column!r} ({source.rows(np.flatnonzero(absent[column]).tolist())})"
        for column, count in list(counts.items())[:10]
    ]
    more = f", and {len(counts) - 10} more columns" if len(counts) > 10 else ""
    raise DataError(
        f"{source.name}: expected no missing values, found {', '.join(told)}{more}. "
        f"Drop those rows or fill in the values."
    )


def _all_numbers(names: Sequence[str]) -> bool:
    return not bool(pd.to_numeric(pd.Series(names, dtype=object), errors="coerce").isna().any())
