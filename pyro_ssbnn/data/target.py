"""The target column of a table: which task it asks for, and its values as a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_ssbnn.data.column import Column
from pyro_ssbnn.data.dataset import LARGEST, Task
from pyro_ssbnn.data.predictors import levels_of
from pyro_ssbnn.data.table import Table
from pyro_ssbnn.data.wording import listed
from pyro_ssbnn.errors import DataError

__all__ = ["encode_target"]

AMBIGUOUS = 20  # whole numbers with at most so many different values may well be class labels


def encode_target(
    column: Column, task: Task | None, table: Table, class_names: Sequence[str] = ()
) -> tuple[Tensor, Task, tuple[str, ...]]:
    """Decide the task when it is not given, and encode a column without missing values.

    With ``task=None`` the task follows from the values: text or booleans, and numbers that are all 0 or 1, are "binary"
    with two values and "classification" with more; numbers with decimals, and whole numbers with more than 20
    different values, are "regression"; whole numbers with fewer could be classes, counts or quantities, so the task
    must be said.

    :param column: ``[N]`` values.
    :param table: where they came from, for messages.
    :param class_names: names in label order when they are known; none sorts those found: numbers by size, otherwise
        alphabetically.
    :returns: ``y [N]`` (float64 quantities; labels, float32 for "binary" and int64 for "classification"), the task,
        the class names.
    :raises DataError: an ambiguous target, values that do not suit the task, one class, a class that is not in
        ``class_names``.
    """
    label = f"target {column.name!r}"
    if task is not None and task not in get_args(Task):
        raise DataError(
            f"{label}: expected task to be one of {listed(get_args(Task))}, got {task!r}."
        )
    if column.kind == "other":
        raise DataError(
            f"{label} holds objects that are neither numbers nor words. Choose another target."
        )
    if not len(column):
        raise DataError(f"{label} has no value in any row.")
    missing = np.flatnonzero(column.missing)
    if len(missing):
        raise DataError(
            f"{label} is missing in {len(missing)} rows ({table.rows(missing.tolist())})."
        )
    if task is None:
        task = _inferred(column, label, table, class_names)
    if task in ("binary", "classification"):
        return _labels(column, task, label, table, class_names)
    if class_names:
        raise DataError(f"{label}: class names make no sense for task {task!r}; leave them out.")
    numbers = column.as_numbers()
    wrong = np.flatnonzero(np.isnan(numbers))
    if len(wrong) or column.kind == "bool":
        first = wrong[:1].tolist() or [0]
        raise DataError(
            f"{label}: task {task!r} expects numbers, got {column.words[first[0]]!r} at {table.rows(first)}. Correct"
            f" the value, or say {table.option('task', 'classification')}."
        )
    return _quantities(numbers, task, label, table), task, ()


def _inferred(column: Column, label: str, table: Table, class_names: Sequence[str]) -> Task:
    if class_names:
        return "binary" if len(class_names) == 2 else "classification"
    if column.kind in ("bool", "text"):
        return _inferred_from_text(column, label, table)
    values = np.unique(column.values)
    if np.array_equal(values, [0.0, 1.0]):
        return "binary"
    if column.whole and len(values) <= AMBIGUOUS:
        option = table.option
        count = f", {option('task', 'count')} if it counts events" if values[0] >= 0 else ""
        raise DataError(
            f"{label}: whole numbers with {len(values)} different values ({listed(values.astype(int).tolist())}) leave"
            f" the task open. Say {option('task', 'classification')} if they number classes{count},"
            f" {option('task', 'regression')} if they measure a quantity."
        )
    return "regression"


def _inferred_from_text(column: Column, label: str, table: Table) -> Task:
    found, n = len(levels_of(column)), len(column)
    classes = table.option("task", "classification")
    numbers = column.as_numbers() if column.kind == "text" else np.full(n, np.nan)
    text = np.flatnonzero(np.isnan(numbers))
    if 0 < len(text) < n:
        raise DataError(
            f"{label}: numbers in {n - len(text)} rows and text in {len(text)}, first {column.values[text[0]]!r} at"
            f" {table.rows(text[:1].tolist())}. Correct the text, or say {classes} if all are class names."
        )
    if found > AMBIGUOUS and found > n // 2:
        raise DataError(
            f"{label}: text with {found} different values in {n} rows, which look like names of rows and not of"
            f" classes. Choose another target, or say {classes}."
        )
    return "binary" if found == 2 else "classification"


def _labels(
    column: Column, task: Task, label: str, table: Table, class_names: Sequence[str]
) -> tuple[Tensor, Task, tuple[str, ...]]:
    if column.kind == "number":
        broken = np.flatnonzero(column.values != np.round(column.values))  # infinite ones, too
        broken = broken if len(broken) else np.flatnonzero(np.isinf(column.values))
        if len(broken):
            raise DataError(
                f"{label}: task {task!r} expects class labels, got the number {column.values[broken[0]]:g} at"
                f" {table.rows(broken[:1].tolist())}. Say {table.option('task', 'regression')} if the target is a"
                " quantity."
            )
    words, found = column.words, levels_of(column)
    if len(found) < 2 and not class_names:
        raise DataError(
            f"{label}: expected at least two classes, but all {len(words)} rows are {found[0]!r}. Add rows of another"
            " class."
        )
    names = tuple(str(name) for name in class_names) or found
    unknown = [name for name in found if name not in names]
    if unknown:
        raise DataError(
            f"{label}: expected the classes {listed(names)}, found also {listed(unknown)}. Correct or drop those rows."
        )
    if task == "binary" and len(names) != 2:
        raise DataError(
            f"{label}: task 'binary' expects two classes, found {len(names)}: {listed(names)}. Say"
            f" {table.option('task', 'classification')}."
        )
    code = {name: i for i, name in enumerate(names)}
    y = torch.tensor([code[word] for word in words])
    return (y.to(torch.float32) if task == "binary" else y), task, names


def _quantities(numbers: NDArray[np.float64], task: Task, label: str, table: Table) -> Tensor:
    infinite = np.flatnonzero(~(np.abs(numbers) <= LARGEST))
    if len(infinite):
        raise DataError(
            f"{label}: infinite, or too large for single precision, in {len(infinite)} rows"
            f" ({table.rows(infinite.tolist())}). Correct or drop them, or take logarithms."
        )
    if task == "count":
        wrong = np.flatnonzero((numbers < 0) | (numbers != np.round(numbers)))
        if len(wrong):
            raise DataError(
                f"{label}: task 'count' expects whole numbers 0, 1, 2, ..., got {numbers[wrong[0]]:g} at"
                f" {table.rows(wrong[:1].tolist())}. Say {table.option('task', 'regression')} if the target is not"
                f" a count."
            )
    return torch.from_numpy(numbers.copy())
