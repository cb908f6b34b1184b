"""From what the user names as data to training and test rows in their own units, with a record of their origin."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pyro_ssbnn.cli.kinds import Format, TaskName
from pyro_ssbnn.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from pyro_ssbnn.data import Dataset, Task

__all__ = ["LoadedData", "SourceChoice", "detect", "load", "load_again", "read_new"]

DEFAULT_TEST_FRACTION = 0.2


_EMBEDDED = (Format.digits, Format.diabetes)
_SIGNS = {
    Format.idx: ("train-images*", "t10k-images*"),
    Format.cifar: ("data_batch_*", "test_batch*"),
    Format.uci: ("data.txt",),
}
_FILES = {
    Format.idx: ("*-images*ubyte*", "*-labels*ubyte*"),
    Format.cifar: ("data_batch_*.bin*", "test_batch.bin*"),
    Format.uci: ("data.txt*", "index_*.txt*"),
}


@dataclass(frozen=True)
class SourceChoice:
    """The user's choice of data.

    :param source: name of an embedded set, a file or a folder.
    :param format: None detects it.
    :param target: column to predict, of a CSV file.
    :param task: None infers it, of a CSV file.
    :param split: number of a UCI folder's standard split; None for a random split.
    :param test_fraction: share of rows held out; None for the source's own test set or a fifth; 0 for none.
    :param seed: of the random split.
    """

    source: str
    format: Format | None = None
    target: str | None = None
    task: TaskName | None = None
    split: int | None = None
    test_fraction: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class LoadedData:
    """Training and test rows in their own units; ``record`` says where they came from, for ``config.json``."""

    train: Dataset
    test: Dataset | None
    record: dict[str, Any]


def detect(source: str) -> Format:
    """Tell the format of a source by what is there.

    :raises DataError: when there is nothing, or a folder of no known layout.
    """
    if source in {f.value for f in _EMBEDDED}:
        return Format(source)
    path = Path(source)
    if path.is_file():
        return Format.csv
    if not path.is_dir():
        raise DataError(
            f"{source}: expected 'digits', 'diabetes', or a file or folder; there is none of that name (looked from"
            f" {Path.cwd()})."
        )
    for format, patterns in _SIGNS.items():
        if any(any(path.glob(pattern)) for pattern in patterns):
            return format
    raise DataError(
        f"{source}: a folder of no known layout; expected IDX files (train-images-idx3-ubyte, ...), CIFAR-10's binary"
        " files (data_batch_1.bin, ...) or a UCI layout (data.txt, index_features.txt, ...). Give the folder that"
        " holds the files itself, or a CSV file."
    )


def load(choice: SourceChoice) -> LoadedData:
    """Read a source and hold out test rows.

    :raises DataError: for data that cannot be used.
    :raises ConfigurationError: for options that do not suit the source.
    """
    format = choice.format or detect(choice.source)
    _check_options(choice, format)
    how = f"random, {_fraction(choice):g} of the rows, seed {choice.seed}"
    if format is Format.uci and choice.split is not None:
        from pyro_ssbnn.data import read_uci_split

        train, test = read_uci_split(choice.source, choice.split)
        return _loaded(choice, format, train, test, f"standard split {choice.split}")
    whole = _whole(choice, format)
    if choice.test_fraction is None and (own := _own_test(choice.source, format)) is not None:
        return _loaded(choice, format, whole, own, "the source's own")
    if _fraction(choice) == 0:
        return _loaded(choice, format, whole, None, "none")
    from pyro_ssbnn.data import split

    return _loaded(choice, format, *split(whole, _fraction(choice), choice.seed), how)


def load_again(record: Mapping[str, Any], seed: int) -> LoadedData:
    """Read a run's rows again, training and test rows as they were.

    :param record: the run's record of its source.
    :param seed: of the run, which drew the test rows.
    :raises DataError: when the source is gone or no longer what it was.
    """
    if "test_fraction" not in record:
        raise DataError(
            "this run does not say how its test rows were held out (it was written by an earlier version). Fit again."
        )
    format = Format(record["format"])
    csv = format is Format.csv
    data = load(
        SourceChoice(
            record["source"],
            format,
            record["target"] if csv else None,
            TaskName(record["task"]) if csv else None,
            record["split"],
            record["test_fraction"],
            seed,
        )
    )
    for key in ("rows", "sha256"):
        if data.record.get(key) != record.get(key):
            raise DataError(
                f"{record['source']}: the data have changed since the run was fitted ({key} differ). Put the old data"
                " back, or fit again."
            )
    return data


def read_new(source: str) -> Dataset | None:
    """Rows to predict from an embedded set or a folder (the test half, where it has one); None for a single file.

    :raises DataError: for data that cannot be used.
    """
    if Path(source).is_file():
        return None
    format = detect(source)
    own = _own_test(source, format)
    return _whole(SourceChoice(source), format) if own is None else own


def _fraction(choice: SourceChoice) -> float:
    return DEFAULT_TEST_FRACTION if choice.test_fraction is None else choice.test_fraction


def _check_options(choice: SourceChoice, format: Format) -> None:
    if format in _EMBEDDED and choice.source != format.value:
        raise ConfigurationError(
            f"--format {format.value} is an embedded set: give {format.value!r} as SOURCE."
        )
    if format is not Format.csv:
        for name, value in (("--target", choice.target), ("--task", choice.task)):
            if value is not None:
                raise ConfigurationError(
                    f"{name} is for CSV files; a source of format {format.value} knows it itself."
                )
    if choice.split is not None and format is not Format.uci:
        raise ConfigurationError(
            f"--split is for folders in the UCI layout; this source is {format.value}. Use --test-fraction."
        )
    if choice.split is not None and choice.test_fraction is not None:
        raise ConfigurationError(
            "--split and --test-fraction contradict each other: give the standard split or a random one."
        )
    if not 0 <= _fraction(choice) < 1:
        raise ConfigurationError(
            f"--test-fraction must lie in [0, 1); got {choice.test_fraction}. 0 holds out nothing."
        )


def _whole(choice: SourceChoice, format: Format) -> Dataset:
    """All rows, or the training half where the source has halves."""
    from pyro_ssbnn import data

    if format is Format.csv:
        if choice.target is None:
            from pyro_ssbnn.data.csvfile import load_csv
            from pyro_ssbnn.data.wording import listed

            columns = [str(c) for c in load_csv(choice.source)[0].columns]
            raise ConfigurationError(
                f"{choice.source}: say which column to predict with --target; the columns are"
                f" {listed(columns, most=30)}."
            )
        task = None if choice.task is None else cast("Task", choice.task.of_data)
        return data.read_csv(choice.source, choice.target, task)
    if format in _EMBEDDED:
        return data.digits() if format is Format.digits else data.diabetes()
    if format is Format.uci:
        return data.read_uci(choice.source)
    return (
        data.read_idx_images(choice.source)
        if format is Format.idx
        else data.read_cifar(choice.source)
    )


def _own_test(source: str, format: Format) -> Dataset | None:
    """The test half of an image folder, None where there is none."""
    from pyro_ssbnn.data import read_cifar, read_idx_images

    if format is Format.idx and any(Path(source).glob("t10k-images*")):
        return read_idx_images(source, "test")
    if format is Format.cifar and any(Path(source).glob("test_batch*")):
        return read_cifar(source, "test")
    return None


def _loaded(
    choice: SourceChoice, format: Format, train: Dataset, test: Dataset | None, how: str
) -> LoadedData:
    record: dict[str, Any] = {
        "format": format.value,
        "source": choice.source,
        "target": train.target_name,
        "task": train.task,
        "rows": {"train": len(train), "test": 0 if test is None else len(test)},
        "test_rows": how,
        "test_fraction": choice.test_fraction,
        "split": choice.split,
    }
    if format not in _EMBEDDED:
        path = Path(choice.source).resolve()
        files = [path] if path.is_file() else _files(path, _FILES[format])
        record["source"] = str(path)
        record["sha256"] = {file.name: _sha256(file) for file in files}
    return LoadedData(train, test, record)


def _files(folder: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted({file for pattern in patterns for file in folder.glob(pattern)})


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
