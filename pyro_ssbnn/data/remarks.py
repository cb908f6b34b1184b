"""What is wrong with columns although they can be used: new levels, copies of the target, categories coded by hand."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_ssbnn.data.predictors import Factor, Predictor
from pyro_ssbnn.data.table import Table
from pyro_ssbnn.data.wording import listed
from pyro_ssbnn.errors import DataWarning

__all__ = [
    "copies",
    "new_levels",
    "one_hot",
    "warn_of_copies",
    "warn_of_new_levels",
    "warn_of_predictors",
]

_MOST = 5  # levels, or columns, that a warning names


def warn_of_predictors(
    table: Table, names: Sequence[str], target: NDArray[np.generic], target_name: str
) -> None:
    """Warn of predictors of the training rows that can hardly be meant.

    :param names: of the predictors.
    :param target: ``[N]`` numbers or words, as they were given.
    """
    warn_of_copies(table.name, copies(table, names, target), target_name)
    for columns in one_hot(table, names):
        warnings.warn(
            f"{table.name}: the columns {listed(columns, _MOST)} are 0 or 1 and add up to 1 in every row. Together they"
            " are a second bias, for which their gates may stay open without any effect of theirs. Give the category"
            " itself, as one column of words.",
            DataWarning,
            stacklevel=2,
        )


def copies(table: Table, names: Iterable[str], target: NDArray[np.generic]) -> list[str]:
    """Columns that equal the target in every row, value for value."""
    found = []
    for name in names:
        column = table.column(name)
        words = target.dtype.kind in "OUS"
        if (column.kind == "text") == words and np.array_equal(column.values, target):
            found.append(name)
    return found


def warn_of_copies(where: str, columns: Sequence[str], target: str) -> None:
    """Warn of predictors that give the target away.

    :param where: the table.
    """
    if columns:
        warnings.warn(
            f"{where}: the target {target!r} equals {listed(columns, _MOST)} in every training row, so that the fit may"
            " learn nothing else. Leave such a column out, unless new rows have it before their target is known.",
            DataWarning,
            stacklevel=2,
        )


def one_hot(table: Table, names: Sequence[str]) -> list[list[str]]:
    """Neighbours among the columns of 0 and 1 that add up to 1 in every row."""
    columns = [table.column(name) for name in names]
    columns = [c for c in columns if c.kind in ("number", "bool") and _is_binary(c.values)]
    if len(columns) < 2:
        return []
    hits = np.column_stack([c.as_numbers() for c in columns])
    total = np.r_[0.0, hits.sum(0).cumsum()]  # of the columns before
    found, first = [], 0
    while first < len(columns):
        # Every column has ones, so that no two ends give as many as there are rows.
        ones = total[first] + len(table)
        end = int(np.searchsorted(total, ones))
        many = first + 1 < end < len(total) and total[end] == ones
        if many and (hits[:, first:end].sum(1) == 1).all():
            found.append([c.name for c in columns[first:end]])
            first = end
        else:
            first += 1
    return found


def _is_binary(values: NDArray[np.generic]) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())


def new_levels(table: Table, predictors: Iterable[Predictor]) -> dict[str, set[str]]:
    """Levels of the rows of a table that the training rows did not have, by the column's name."""
    found = {}
    for factor in predictors:
        if isinstance(factor, Factor):
            words = pd.unique(table.column(factor.name).words)
            if new := {word for word in words if word is not None} - {*factor.levels}:
                found[factor.name] = new
    return found


def warn_of_new_levels(where: str, levels: Mapping[str, set[str]]) -> None:
    """Warn once of all new levels, and say how their rows are predicted.

    :param where: the table.
    """
    if levels:
        told = "; ".join(f"column {c!r}: {listed(sorted(new), _MOST)}" for c, new in levels.items())
        warnings.warn(
            f"{where}: levels that the training rows did not have ({told}). Such a row has 0 in all columns of the"
            " category, as the mean of the known levels has: its prediction is that of the other predictors, and its"
            " interval does not know of the new level.",
            DataWarning,
            stacklevel=2,
        )
