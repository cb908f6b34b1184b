"""The UCI regression sets in the layout of the standard splits (Hernández-Lobato & Adams 2015).

A folder holds ``data.txt`` (a table separated by blanks), ``index_features.txt`` and
``index_target.txt`` (columns, counted from 0), and for each split ``index_train_<i>.txt`` and
``index_test_<i>.txt`` (rows, counted from 0).
"""

import math
from pathlib import Path

import torch
from torch import Tensor

from pyro_ssbnn.data.dataset import Dataset
from pyro_ssbnn.data.files import check_folder, find_file
from pyro_ssbnn.data.wording import listed, located, quoted
from pyro_ssbnn.errors import DataError


def read_uci(folder: str | Path) -> Dataset:
    """Read the whole table.

    :returns: "regression" data in their own units; columns "x1", "x2", ... in the order of ``index_features.txt``,
        target "y".
    :raises DataError: files absent or empty, a row of another length, a field that is no finite number, columns that
        are not in the table, a target that is also a feature.
    """
    directory = check_folder(folder)
    table = _table(find_file(directory, ["data.txt"]))
    columns = table.shape[1]
    features = _indices(directory, "index_features.txt", columns, "columns")
    target = _indices(directory, "index_target.txt", columns, "columns")
    if len(target) != 1:
        raise DataError(
            f"{directory / 'index_target.txt'}: expected one target column, found {listed(target)}."
        )
    if target[0] in features:
        raise DataError(
            f"{directory / 'index_target.txt'}: the target column {target[0]} is also "
            f"in index_features.txt; drop it there, it would give the answer away."
        )
    names = tuple(f"x{i + 1}" for i in range(len(features)))
    with located(directory):
        return Dataset(table[:, features], table[:, target[0]], names, "y", "regression")


def uci_splits(folder: str | Path) -> int:
    """Count the splits ``0, 1, ...`` that have both a training and a test file.

    :raises DataError: no split at all, or fewer than ``n_splits.txt`` (when there is one) says.
    """
    directory = check_folder(folder)
    count = 0
    while all((directory / name).is_file() for name in _split_files(count)):
        count += 1
    announced = directory / "n_splits.txt"
    if announced.is_file():
        said = int(_whole_numbers(announced)[0])
        if count < said:
            lacking = [name for name in _split_files(count) if not (directory / name).is_file()]
            raise DataError(
                f"{directory}: expected the {said} splits of n_splits.txt, found "
                f"{count}; {listed(lacking)} absent. Complete the download."
            )
    if count == 0:
        raise DataError(
            f"{directory}: expected {listed(_split_files(0))}, found no split; use "
            f"read_uci and split instead."
        )
    return count


def read_uci_split(folder: str | Path, split: int) -> tuple[Dataset, Dataset]:
    """Read one standard split.

    :param folder: see the module.
    :param split: number of the split, from 0.
    :returns: The training and the test data, in their own units.
    :raises DataError: ``read_uci``'s, no such split, rows that are not in the table, rows in both parts.
    """
    directory = check_folder(folder)
    dataset = read_uci(directory)
    available = uci_splits(directory)
    if not 0 <= split < available:
        raise DataError(f"{directory}: expected a split in 0..{available - 1}, got {split}.")
    train, test = (_indices(directory, name, len(dataset), "rows") for name in _split_files(split))
    if both := sorted(set(train) & set(test)):
        raise DataError(
            f"{directory}: split {split} has {len(both)} rows both for training and "
            f"for testing ({listed(both, most=5)}); a test on them proves nothing."
        )
    return dataset.subset(torch.tensor(train)), dataset.subset(torch.tensor(test))


def _split_files(split: int) -> tuple[str, str]:
    return f"index_train_{split}.txt", f"index_test_{split}.txt"


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: expected a table of numbers as text, found other bytes; unpack "
            f"or download the file again."
        ) from error


def _table(file: Path) -> Tensor:
    """``[N, columns]`` float64."""
    rows: list[list[float]] = []
    for line, text in enumerate(_lines(file), start=1):
        fields = text.split()
        if not fields:
            continue
        if rows and len(fields) != len(rows[0]):
            raise DataError(
                f"{file}, line {line}: expected {len(rows[0])} numbers as above, found "
                f"{len(fields)}. The file may have been cut there; mend or delete the "
                f"line."
            )
        rows.append([_finite(field, file, line) for field in fields])
    if not rows:
        raise DataError(f"{file}: the file is empty; expected one row of numbers per line.")
    return torch.tensor(rows, dtype=torch.float64)


def _finite(field: str, file: Path, line: int) -> float:
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(
            f"{file}, line {line}: expected finite numbers separated by blanks, found "
            f"{quoted(field)}. Correct or delete the line."
        )
    return value


def _whole_numbers(file: Path) -> list[int]:
    values = [
        _finite(field, file, line)
        for line, text in enumerate(_lines(file), start=1)
        for field in text.split()
    ]
    if not values:
        raise DataError(f"{file}: the file is empty; expected whole numbers.")
    if broken := [value for value in values if value != int(value)]:
        raise DataError(f"{file}: expected whole numbers, found {broken[0]}.")
    return [int(value) for value in values]


def _indices(folder: Path, name: str, size: int, what: str) -> list[int]:
    """Different positions in ``0..size-1``."""
    file = find_file(folder, [name])
    values = _whole_numbers(file)
    outside = [value for value in values if not 0 <= value < size]
    if outside:
        raise DataError(
            f"{file}: expected {what} of data.txt in 0..{size - 1}, found "
            f"{listed(outside, most=5)}. The files are not of the same set."
        )
    if len(set(values)) != len(values):
        raise DataError(f"{file}: expected each of the {what} once, found one repeated.")
    return values
