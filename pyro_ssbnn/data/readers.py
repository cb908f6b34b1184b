"""Files as tables: text with any delimiter, parquet, feather, spreadsheets; text also piece by piece."""

from __future__ import annotations

import codecs
import csv
import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import narwhals as nw

from pyro_ssbnn.data.columnar import columnar_pieces, columnar_table
from pyro_ssbnn.data.files import check_file, check_unpacked
from pyro_ssbnn.data.table import Table
from pyro_ssbnn.data.wording import check_different
from pyro_ssbnn.errors import ConfigurationError, DataError

__all__ = [
    "FEATHER",
    "MISSING",
    "PARQUET",
    "SHEETS",
    "Form",
    "form_of",
    "read_table",
    "table_pieces",
    "text_pieces",
]

# The usual list without "None" and "n/a"-like words that are plausible names of classes.
MISSING = ["", "?", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "-nan", "NULL", "null"]

_PIECE = 2**22  # bytes of a piece
_DELIMITERS = ",;\t|"
PARQUET, FEATHER = (".parquet", ".pq"), (".feather", ".arrow")
SHEETS = (".xlsx", ".xls", ".xlsm", ".ods")


def read_table(path: str | Path, delimiter: str | None = None) -> Table:
    """Read a whole file; its ending says which kind it is, and what is not known is taken for text.

    Text is UTF-8 with column names in the first line. Empty fields and the words in ``MISSING`` are missing values;
    blank lines are skipped. With semicolons between fields a comma in a number is its decimal point.

    :param path: text, ``.parquet``, ``.feather``, or a spreadsheet (its first sheet).
    :param delimiter: between fields of text; by default what the first line has most of: comma, semicolon, tab or bar.
    :raises DataError: a missing, empty, binary or cut file, a row with too many or too few fields, columns with the
        same name, column names and nothing else, a package that is needed to read it and is not there.
    :raises ConfigurationError: a delimiter that can be none; a file that says that its table is larger than the memory.
    """
    file = check_file(path)
    ending = file.suffix.lower()
    if ending in (*PARQUET, *FEATHER, *SHEETS):
        return _binary(file, ending)
    arrow = _arrow()
    bad: list[Any] = []
    with file.open("rb") as stream, _told(file, bad):
        form = _form(file, stream, delimiter)
        found = arrow.read_csv(stream, **_options(form, bad, None))
        return _table(file, found, form)


def table_pieces(
    path: str | Path, text: Sequence[str] = (), size: int = _PIECE, delimiter: str | None = None
) -> Iterator[tuple[Table, float]]:
    """Read a file as :func:`read_table` does, some rows at a time, in memory that does not grow with the file.

    Spreadsheets are read whole.

    :param text: columns to read as they are written, because what later pieces hold must not change what they are.
    :param size: bytes of a piece, about.
    :returns: Pieces, each with the share of the file that has been read with it, 0 to 1.
    :raises DataError: as :func:`read_table`, when it comes to the row in question.
    """
    file = check_file(path)
    ending = file.suffix.lower()
    if ending in SHEETS:
        yield read_table(file), 1.0
    elif ending in (*PARQUET, *FEATHER):
        yield from columnar_pieces([file], "parquet" if ending in PARQUET else "feather")
    else:
        import pyarrow as pa

        form = form_of(file, delimiter)
        yield from text_pieces(file, form, size, dict.fromkeys(text, pa.string()))


def form_of(file: Path, delimiter: str | None = None) -> Form:
    """How a file of text is written, by its first lines."""
    with file.open("rb") as stream, _told(file, []):
        return _form(file, stream, delimiter)


def text_pieces(
    file: Path, form: Form, size: int, kinds: Mapping[str, Any]
) -> Iterator[tuple[Table, float]]:
    """Read a file of text piece by piece.

    :param kinds: pyarrow's types of columns, of those that the first piece does not tell.
    """
    whole, rows = file.stat().st_size, 0
    bad: list[Any] = []
    with file.open("rb") as stream, _told(file, bad):
        for batch in _arrow().open_csv(stream, **_options(form, bad, size, kinds)):
            if batch.num_rows:
                share = 1.0 if stream.closed else min(1.0, stream.tell() / whole)
                yield _table(file, batch, form, rows), share
                rows += batch.num_rows
    if not rows:
        raise DataError(f"{file}: expected rows below the column names, found none.")


class _Lines(Sequence[object]):
    """Line of a file where each row ends, from 1; the file is read again up to a line that a message needs."""

    def __init__(self, file: Path, delimiter: str, first: int, rows: int) -> None:
        self.file, self.delimiter, self.first, self.rows = file, delimiter, first, rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < self.rows:
            raise IndexError(index)
        with self.file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, delimiter=self.delimiter)
            full = (reader.line_num for row in reader if row)
            return next(islice(full, 1 + self.first + index, None))


def _arrow() -> Any:
    try:
        import pyarrow.csv
    except ImportError as error:
        raise DataError(
            "reading tables from files needs the package pyarrow: pip install pyarrow"
        ) from error
    return pyarrow.csv


def _binary(file: Path, ending: str) -> Table:
    try:
        table = Table.of(_unpacked(file, ending), name=str(file))
    except ImportError as error:
        raise DataError(
            f"{file}: reading {ending} files needs another package ({error})."
        ) from error
    except (ConfigurationError, DataError, MemoryError):
        raise
    except Exception as error:  # the libraries raise anything for a damaged file
        raise DataError(
            f"{file}: not readable as a {ending} file ({str(error)[:200]}). It was damaged, or is something else; save"
            " the table as CSV in UTF-8."
        ) from error
    if not len(table):
        raise DataError(f"{file}: expected rows below the column names, found none.")
    return table


def _unpacked(file: Path, ending: str) -> Any:
    """What the library for such files makes of one, after a look at how large that will be."""
    if ending in SHEETS:
        import pandas as pd

        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                check_unpacked(file, sum(part.file_size for part in archive.infolist()))
        return pd.read_excel(file, na_values=MISSING, keep_default_na=False)
    return columnar_table(file, "parquet" if ending in PARQUET else "feather")


@dataclass(frozen=True)
class Form:
    """How a file of text is written.

    :param header: the first line's fields as they stand there.
    :param names: of the columns, different from each other.
    """

    header: list[str]
    names: list[str]
    delimiter: str
    decimal: str


def _form(file: Path, stream: BinaryIO, delimiter: str | None) -> Form:
    """Look at the first lines, and put the stream behind the column names."""
    if delimiter is not None and (len(delimiter.encode()) != 1 or delimiter in '"\r\n\0'):
        raise ConfigurationError(
            f"delimiter must be one ASCII character, and not a quotation mark or the end of a line; got {delimiter!r}."
        )
    start = stream.read(2**16)
    if b"\0" in start:
        raise DataError(
            f"{file}: expected text in UTF-8, found other bytes. A compressed file must be unpacked first, a"
            f" spreadsheet"
            " needs its own ending (.xlsx, ...)."
        )
    text = codecs.getincrementaldecoder("utf-8-sig")().decode(start)  # a last letter may be cut
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataError(
            f"{file}: the file is empty; expected column names in the first line and one row per line below."
        )
    bare = re.sub(r'"[^"]*"', "", lines[0])
    found = delimiter or max(_DELIMITERS, key=bare.count)
    header = next(csv.reader(io.StringIO(text.lstrip("\r\n"), newline=""), delimiter=found))
    names = [name.strip() for name in header]
    empty = [i for i, name in enumerate(names) if not name]
    for i in empty:
        names[i] = "unnamed" if len(empty) == 1 else f"unnamed {i + 1}"
    check_different(str(file), names)
    commas = found == ";" and any(re.search(r"\d,\d", line) for line in lines[1:50])
    stream.seek(0)
    return Form(header, names, found, "," if commas else ".")


def _options(
    form: Form, bad: list[Any], size: int | None, kinds: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    arrow = _arrow()

    def first_bad(row: Any) -> str:
        bad.append(row)
        return "error"

    return {
        # Threads would not say the number of a broken row.
        "read_options": arrow.ReadOptions(use_threads=False, block_size=size or _PIECE),
        "parse_options": arrow.ParseOptions(
            delimiter=form.delimiter, newlines_in_values=True, invalid_row_handler=first_bad
        ),
        "convert_options": arrow.ConvertOptions(
            null_values=MISSING,
            strings_can_be_null=True,
            decimal_point=form.decimal,
            column_types={
                written: kinds[name]
                for written, name in zip(form.header, form.names, strict=True)
                if kinds and name in kinds
            },
        ),
    }


def _table(file: Path, found: Any, form: Form, first: int = 0) -> Table:
    import pyarrow as pa

    table = found if isinstance(found, pa.Table) else pa.Table.from_batches([found])
    if any(pa.types.is_binary(kind) for kind in table.schema.types):
        raise DataError(
            f"{file}: expected text in UTF-8, found other bytes. Save the table as CSV in UTF-8."
        )
    if not table.num_rows:
        raise DataError(f"{file}: expected rows below the column names, found none.")
    table = table.rename_columns(form.names)
    lines = _Lines(file, form.delimiter, first, table.num_rows)
    return Table(nw.from_native(table, eager_only=True), str(file), "line", lines)


@contextmanager
def _told(file: Path, bad: list[Any]) -> Iterator[None]:
    """Say what pyarrow could not read."""
    import pyarrow as pa

    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: expected text in UTF-8, found other bytes ({error.reason}). Save the table as CSV in UTF-8."
        ) from error
    except pa.ArrowInvalid as error:
        if not bad:
            raise DataError(f"{file}: not readable as text with delimiters ({error}).") from error
        row = bad[0]
        few = row.actual_columns < row.expected_columns
        why = (
            "few: the file may have been cut there"
            if few
            else "many: a text with the delimiter must be in quotation marks"
        )
        where = f"row {row.number}" if row.number else "a row"
        raise DataError(
            f"{file}, {where}: expected {row.expected_columns} fields as in the first line, found {row.actual_columns},"
            f" too {why}. Mend or delete the row: {row.text[:60]!r}."
        ) from error
