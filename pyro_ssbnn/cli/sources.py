"""From what the user names as data to training and test rows in their own units, with a record of their origin."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pyro_ssbnn.cli.formats import EMBEDDED, checksums, detect, own_test, whole
from pyro_ssbnn.cli.kinds import Format, TaskName
from pyro_ssbnn.cli.source_choice import SourceChoice
from pyro_ssbnn.cli.streams import StreamedData, is_stream, load_stream, open_stream
from pyro_ssbnn.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from torch import Tensor

    from pyro_ssbnn.data import Dataset, Encoded, Preprocessing, Table, Task

__all__ = ["LoadedData", "SourceChoice", "load", "load_again", "read_new"]

DEFAULT_TEST_FRACTION = 0.2


@dataclass(frozen=True)
class LoadedData:
    """Training and test rows in their own units; ``record`` says where they came from, for ``config.json``."""

    train: Dataset | Table
    test: Dataset | Table | None
    record: dict[str, Any]

    def preprocessing(self) -> Preprocessing:
        """What there is to learn from the training rows.

        :raises DataError: everything that is wrong with them.
        """
        from pyro_ssbnn.data import ColumnChoice, Preprocessing, Table
        from pyro_ssbnn.data.remarks import warn_of_predictors

        if not isinstance(self.train, Table):
            return Preprocessing.fit(self.train)
        choice = ColumnChoice(**self.record["columns"])
        target, task = self.record["target"], self.record["task"]
        transform = self.record.get("transform", "none")
        prepared = Preprocessing.fit(self.train, target, task, choice, transform=transform)
        values = self.train.column(target).values
        warn_of_predictors(self.train, prepared.feature_names, values, target)
        return prepared

    def targets(self, preprocessing: Preprocessing) -> Tensor:
        """Training targets in own units, ``[N]``."""
        return preprocessing.apply(self.train).observed

    def encoded(self, preprocessing: Preprocessing, folder: Path) -> tuple[Encoded, Encoded | None]:
        """Training and test rows as the network sees them.

        :param folder: where rows that are read in pieces would be written; these are in memory.
        """
        test = None if self.test is None else preprocessing.apply(self.test)
        return preprocessing.apply(self.train), test

    def labels(self, preprocessing: Preprocessing) -> Mapping[str, Any]:
        """What joins predictions to the rows that are judged."""
        return preprocessing.row_labels(self.train if self.test is None else self.test)


def load(choice: SourceChoice) -> LoadedData | StreamedData:
    """Read a source and hold out test rows.

    :raises DataError: for data that cannot be used.
    :raises ConfigurationError: for options that do not suit the source.
    """
    format = choice.format or detect(choice.source)
    _check_options(choice, format)
    how = f"random, {_fraction(choice):g} of the rows, seed {choice.seed}"
    if format is Format.table and is_stream(choice):
        return load_stream(choice, None if choice.task is None else choice.task.of_data)
    if format is Format.table:
        return _load_table(choice, how)
    if format is Format.uci and choice.split is not None:
        from pyro_ssbnn.data import read_uci_split

        train, test = read_uci_split(choice.source, choice.split)
        return _loaded(choice, format, train, test, f"standard split {choice.split}")
    rows = whole(choice.source, format)
    if choice.test_fraction is None and (own := own_test(choice.source, format)) is not None:
        return _loaded(choice, format, rows, own, "the source's own")
    if _fraction(choice) == 0:
        return _loaded(choice, format, rows, None, "none")
    from pyro_ssbnn.data import split

    return _loaded(choice, format, *split(rows, _fraction(choice), choice.seed), how)


def load_again(record: Mapping[str, Any], seed: int) -> LoadedData | StreamedData:
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
    table = format is Format.table
    told = record["task"] if table else None
    choice = SourceChoice(
        record["source"],
        format,
        record["target"] if table else None,
        None if told is None else TaskName(told),
        record["split"],
        record["test_fraction"],
        seed,
        record.get("columns", {}),
        record.get("delimiter"),
        record.get("groups"),
        record.get("transform", "none"),
        stream=False,
    )
    if "files" in record:
        return open_stream(record, choice, told)
    data = load(choice)
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
    own = own_test(source, format)
    return whole(source, format) if own is None else own


def _fraction(choice: SourceChoice) -> float:
    return DEFAULT_TEST_FRACTION if choice.test_fraction is None else choice.test_fraction


def _check_options(choice: SourceChoice, format: Format) -> None:
    if format in EMBEDDED and choice.source != format.value:
        raise ConfigurationError(
            f"--format {format.value} is an embedded set: give {format.value!r} as SOURCE."
        )
    if format is not Format.table:
        given: dict[str, Any] = {
            "target": choice.target,
            "task": choice.task,
            "groups": choice.groups,
        }
        given["stream"] = choice.stream or choice.more
        given["transform-target"] = None if choice.transform == "none" else choice.transform
        for name, value in {**given, "delimiter": choice.delimiter, **choice.columns}.items():
            if value not in (None, (), "impute", False):
                raise ConfigurationError(
                    f"--{name} is for tables; a source of format {format.value} knows it itself."
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


def _load_table(choice: SourceChoice, how: str) -> LoadedData:
    """A table's rows with a known target, cut into training and test rows."""
    from pyro_ssbnn.data import read_table
    from pyro_ssbnn.data.splitting import split_rows
    from pyro_ssbnn.data.target import encode_target
    from pyro_ssbnn.data.wording import Problems, command_option, listed

    table = replace(read_table(choice.source, choice.delimiter), option=command_option)
    target = choice.target
    if target is None:
        raise ConfigurationError(
            f"{choice.source}: say which column to predict with --target; the columns are"
            f" {listed(table.names, most=30)}."
        )
    unknown, classes, groups = 0, None, None
    task = None if choice.task is None else cast("Task", choice.task.of_data)
    columns = dict(choice.columns)
    with suppress(DataError):  # is told with all other problems
        table, unknown = table.with_target(target)
        y, _, names = encode_target(table.column(target), task, table)
        classes = y.numpy() if names else None
    if choice.groups is not None:
        problems = Problems(table.name)
        with problems.gathering():
            groups = table.column(choice.groups).words.astype(str)
        problems.tell()
        columns["drop"] = tuple(dict.fromkeys((*columns.get("drop", ()), choice.groups)))
        how = f"{how}, whole groups of '{choice.groups}'"
    train, test = table, None
    if _fraction(choice) and len(table) > 2:
        parts = split_rows(
            len(table), _fraction(choice), choice.seed, classes=classes, groups=groups
        )
        train, test = (table.take(rows) for rows in parts)
    if len(train) < 2:
        found = (
            f"{len(table):,} row{'s' * (len(table) != 1)} with a target, {len(train):,} to train on"
        )
        raise DataError(
            f"{choice.source}: {found}; expected at least two to train on. Add rows, or take a smaller"
            " --test-fraction."
        )
    data = _loaded(choice, Format.table, train, test, how if test is not None else "none")
    record = {"columns": columns, "delimiter": choice.delimiter, "without_target": unknown}
    record |= {"groups": choice.groups, "task": task, "transform": choice.transform}
    return replace(data, record={**data.record, **record})


def _loaded(
    choice: SourceChoice,
    format: Format,
    train: Dataset | Table,
    test: Dataset | Table | None,
    how: str,
) -> LoadedData:
    record: dict[str, Any] = {
        "format": format.value,
        "source": choice.source,
        "target": getattr(train, "target_name", choice.target),
        "task": getattr(train, "task", None),
        "rows": {"train": len(train), "test": 0 if test is None else len(test)},
        "test_rows": how,
        "test_fraction": choice.test_fraction,
        "split": choice.split,
    }
    if format not in EMBEDDED:
        path = Path(choice.source).resolve()
        record |= {"source": str(path), "sha256": checksums(path, format)}
    return LoadedData(train, test, record)
