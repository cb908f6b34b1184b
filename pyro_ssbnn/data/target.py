"""The target column of a table: which task it asks for, and its values as a tensor."""

from collections.abc import Callable, Sequence
from typing import get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyro_ssbnn.data.dataset import LARGEST, Task
from pyro_ssbnn.data.wording import listed
from pyro_ssbnn.errors import DataError

AMBIGUOUS = 20  # whole numbers with at most so many different values may well be class labels


def encode_target(
    series: pd.Series,
    task: Task | None,
    where: str,
    rows: Callable[[Sequence[int]], str],
    class_names: Sequence[str] | None = None,
) -> tuple[Tensor, Task, tuple[str, ...]]:
    """Decide the task when it is not given, and encode a column without missing values.

    :param series: ``[N]`` values of any dtype.
    :param task: the task, or None to infer it (the rules are ``from_frame``'s).
    :param where: name of the table, for messages.
    :param rows: names rows by their positions, for messages.
    :param class_names: names in label order when they are known; None sorts those found.
    :returns: ``y [N]`` (float64 quantities; labels, float32 for "binary" and int64 for "classification"), the task,
        the class names.
    :raises DataError: an ambiguous target, values that do not suit the task, one class, a class that is not in
        ``class_names``.
    """
    label = f"{where}: target {series.name!r}"
    if task is not None and task not in get_args(Task):
        raise DataError(
            f"{label}: expected task to be one of {listed(get_args(Task))}, got {task!r}."
        )
    series = series.infer_objects()
    numbers = _as_numbers(series)
    if task is None:
        task = _inferred(series, numbers, label, rows, class_names)
    if task in ("binary", "classification"):
        return _labels(series, numbers, task, label, rows, class_names)
    if class_names:
        raise DataError(f"{label}: class names make no sense for task {task!r}; leave them out.")
    if numbers is None:
        position, value = _first_text(series)
        raise DataError(
            f"{label}: task {task!r} expects numbers, got {value!r} at "
            f"{rows([position])}. Correct the value, or say task='classification'."
        )
    return _quantities(numbers, task, label, rows), task, ()


def _as_numbers(series: pd.Series) -> np.ndarray | None:
    """``[N]`` float64, or None when the column is not numeric (booleans are not)."""
    kind = series.dtype
    plain = pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)
    if plain and not pd.api.types.is_complex_dtype(kind):
        return series.to_numpy(dtype=np.float64)
    return None


def _inferred(
    series: pd.Series,
    numbers: np.ndarray | None,
    label: str,
    rows: Callable[[Sequence[int]], str],
    class_names: Sequence[str] | None,
) -> Task:
    if class_names:
        return "binary" if len(class_names) == 2 else "classification"
    if numbers is None:
        return _inferred_from_text(series, label, rows)
    values = np.unique(numbers)
    if np.array_equal(values, [0.0, 1.0]):
        return "binary"
    if pd.api.types.is_integer_dtype(series.dtype) and len(values) <= AMBIGUOUS:
        count = ", task='count' if it counts events" if values[0] >= 0 else ""
        raise DataError(
            f"{label}: whole numbers with {len(values)} different values "
            f"({listed(values.astype(int).tolist())}) leave the task open. Say "
            f"task='classification' if they number classes{count}, task='regression' if they "
            f"measure a quantity."
        )
    return "regression"


def _inferred_from_text(
    series: pd.Series, label: str, rows: Callable[[Sequence[int]], str]
) -> Task:
    position, value = _first_text(series)
    words = series.astype(str).str.strip()
    found = int(words.nunique())
    parsed = int(pd.to_numeric(words, errors="coerce").notna().sum())
    if 0 < parsed < len(series):
        raise DataError(
            f"{label}: numbers in {parsed} rows and text in {len(series) - parsed}, "
            f"first {value!r} at {rows([position])}. Correct the text, or say "
            f"task='classification' if all are class names."
        )
    if found > AMBIGUOUS and found > len(series) // 2:
        raise DataError(
            f"{label}: text with {found} different values in {len(series)} rows, "
            f"which look like names of rows and not of classes. Choose another "
            f"target, or say task='classification'."
        )
    return "binary" if found == 2 else "classification"


def _labels(
    series: pd.Series,
    numbers: np.ndarray | None,
    task: Task,
    label: str,
    rows: Callable[[Sequence[int]], str],
    class_names: Sequence[str] | None,
) -> tuple[Tensor, Task, tuple[str, ...]]:
    if numbers is None:
        words = np.asarray(series.astype(str).str.strip().tolist(), dtype=object)
        found = sorted(set(words))
    else:
        broken = np.flatnonzero(numbers != np.round(numbers))
        if len(broken) or not np.isfinite(numbers).all():
            position = int(broken[0]) if len(broken) else int(np.isinf(numbers).argmax())
            raise DataError(
                f"{label}: task {task!r} expects class labels, got the number "
                f"{numbers[position]:g} at {rows([position])}. Say task='regression' "
                f"if the target is a quantity."
            )
        words = np.asarray([str(int(value)) for value in numbers], dtype=object)
        found = [str(int(value)) for value in np.unique(numbers)]
    if len(found) < 2 and not class_names:
        raise DataError(
            f"{label}: expected at least two classes, but all {len(words)} rows are "
            f"{found[0]!r}. Add rows of another class."
        )
    names = tuple(str(name) for name in class_names) if class_names else tuple(found)
    unknown = [name for name in found if name not in names]
    if unknown:
        raise DataError(
            f"{label}: expected the classes {listed(names)}, found also "
            f"{listed(unknown)}. Correct or drop those rows."
        )
    if task == "binary" and len(names) != 2:
        raise DataError(
            f"{label}: task 'binary' expects two classes, found {len(names)}: "
            f"{listed(names)}. Say task='classification'."
        )
    code = {name: i for i, name in enumerate(names)}
    y = torch.tensor([code[word] for word in words])
    return (y.to(torch.float32) if task == "binary" else y), task, names


def _quantities(
    numbers: np.ndarray, task: Task, label: str, rows: Callable[[Sequence[int]], str]
) -> Tensor:
    infinite = np.flatnonzero(~(np.abs(numbers) <= LARGEST))
    if len(infinite):
        raise DataError(
            f"{label}: infinite, or too large for single precision, in "
            f"{len(infinite)} rows ({rows(infinite.tolist())}). Correct or drop them, "
            f"or take logarithms."
        )
    if task == "count":
        wrong = np.flatnonzero((numbers < 0) | (numbers != np.round(numbers)))
        if len(wrong):
            raise DataError(
                f"{label}: task 'count' expects whole numbers 0, 1, 2, ..., got "
                f"{numbers[wrong[0]]:g} at {rows([int(wrong[0])])}. Say "
                f"task='regression' if the target is not a count."
            )
    return torch.from_numpy(numbers.copy())


def _first_text(series: pd.Series) -> tuple[int, str]:
    """Position and value of the first entry that is no number (or of the first entry)."""
    text = pd.to_numeric(series.astype(str), errors="coerce").isna().to_numpy()
    position = int(text.argmax())
    return position, str(series.iloc[position])
