"""Tables that are read in pieces: which are, and what a run makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyro_ssbnn.cli.formats import TABLES, checksums
from pyro_ssbnn.cli.kinds import Format
from pyro_ssbnn.cli.source_choice import SourceChoice
from pyro_ssbnn.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from torch import Tensor

    from pyro_ssbnn.data import EncodedRows, Preprocessing, TableStream

__all__ = ["LOOKED_AT", "StreamedData", "is_stream", "load_stream", "open_stream"]

LOOKED_AT = 20_000
"""Rows of a sample, where something looks at the data as a whole."""

_TEXT, _NUMBERS = (
    2**26,
    2**28,
)  # bytes of a file, of its numbers in memory, from which it is read in pieces


def is_stream(choice: SourceChoice) -> bool:
    """Whether a table is read in pieces: several files are, and large ones, unless the user says otherwise."""
    if len(choice.sources) > 1 or Path(choice.source).is_dir():
        if choice.stream is False:
            raise ConfigurationError(
                "--no-stream: several files are read in pieces. Put them into one, or leave the option out."
            )
        return True
    if choice.stream is not None:
        return choice.stream
    path = Path(choice.source)
    ending = path.suffix.lower()
    if ending in (".parquet", ".pq"):
        from pyro_ssbnn.data.columnar import columnar_names, columnar_rows

        numbers = len(columnar_names([path], "parquet")) * columnar_rows([path], "parquet")
        return 8 * numbers > _NUMBERS
    large = _NUMBERS if ending in (".feather", ".arrow") else _TEXT
    return ending not in (".xlsx", ".xls", ".xlsm", ".ods") and path.stat().st_size > large


@dataclass(frozen=True)
class StreamedData:
    """A table that is read in pieces; ``record`` says where it came from, for ``config.json``."""

    stream: TableStream
    record: dict[str, Any]

    def preprocessing(self) -> Preprocessing:
        """What there is to learn from the training rows."""
        return self.stream.preprocessing

    def targets(self, preprocessing: Preprocessing) -> Tensor:
        """A sample of the training targets in own units; zeros where they are classes."""
        return self.stream.targets.nan_to_num()

    def labels(self, preprocessing: Preprocessing) -> None:
        """What joins predictions to rows comes with the rows."""

    def encoded(
        self, preprocessing: Preprocessing, folder: Path
    ) -> tuple[EncodedRows, EncodedRows | None]:
        """Training and test rows, from the folder, or written there.

        :raises DataError: where they must be written again, and the files are no longer what they were.
        """
        if not folder.exists():
            for file in self.record["files"]:
                if not Path(file).is_file():
                    raise DataError(f"{file}: is gone since the run was fitted. Put it back.")
                if _sha256(file) != self.record["sha256"][file]:
                    raise DataError(
                        f"{file}: has changed since the run was fitted. Put the old file back, or fit again."
                    )
        return self.stream.encoded(folder, preprocessing, self.record["rows"])


def load_stream(choice: SourceChoice, task: Any) -> StreamedData:
    """Look at a table's files, once through; nothing is kept in memory but what was learnt."""
    if choice.target is None:
        from pyro_ssbnn.data.pieces import TableFiles
        from pyro_ssbnn.data.wording import listed

        names = TableFiles(_files(choice.sources), choice.delimiter).names
        raise ConfigurationError(
            f"{choice.source}: say which column to predict with --target; the columns are {listed(names, most=30)}."
        )
    files = _files(choice.sources)
    columns = dict(choice.columns)
    stream = _stream(files, choice.target, task, columns, choice)
    rows, fraction = stream.rows, stream.fraction
    how = f"random, {fraction:.3g} of the rows, seed {choice.seed}" if fraction else "none"
    if choice.groups is not None:
        how = f"{how}, whole groups of '{choice.groups}'"
    paths = [str(Path(file).resolve()) for file in files]
    record = {
        "format": Format.table.value,
        "source": paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more files",
        "files": paths,
        "target": choice.target,
        "task": task,
        "rows": {name: rows[name] for name in ("train", "test")},
        "without_target": rows["without_target"],
        "test_rows": how,
        "test_fraction": fraction,
        "split": None,
        "sha256": {path: _sha256(path) for path in paths},
        "columns": columns,
        "delimiter": choice.delimiter,
        "groups": choice.groups,
        "transform": choice.transform,
    }
    return StreamedData(stream, record)


def open_stream(record: Mapping[str, Any], choice: SourceChoice, task: Any) -> StreamedData:
    """A run's table again; its files are looked at when their rows must be written again."""
    files = [str(file) for file in record["files"]]
    stream = _stream(files, record["target"], task, record["columns"], choice)
    return StreamedData(stream, dict(record))


def _stream(
    files: Sequence[str], target: str, task: Any, columns: Mapping[str, Any], choice: SourceChoice
) -> TableStream:
    from pyro_ssbnn.data import ColumnChoice, TableStream
    from pyro_ssbnn.data.wording import command_option

    return TableStream(
        files,
        target,
        task=task,
        choice=ColumnChoice(**columns),
        transform=choice.transform,
        test_fraction=choice.test_fraction,
        seed=choice.seed,
        groups=choice.groups,
        delimiter=choice.delimiter,
        option=command_option,
    )


def _sha256(file: str) -> str:
    return checksums(Path(file), Format.table)[Path(file).name]


def _files(sources: Sequence[str]) -> list[str]:
    """Files, and those of tables in folders, in the order of their names."""
    found: list[str] = []
    for source in sources:
        path = Path(source)
        if not path.is_dir():
            found.append(source)
            continue
        inside = sorted(str(file) for file in path.iterdir() if file.suffix.lower() in TABLES)
        if not inside:
            raise DataError(f"{source}: expected tables ({', '.join(TABLES)}), found none.")
        found += inside
    return found
