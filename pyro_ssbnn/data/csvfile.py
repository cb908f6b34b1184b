"""A comma-separated file as pandas frames, whole or in pieces, with the line of the file each row came from."""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_ssbnn.data.files import check_file
from pyro_ssbnn.data.wording import check_different, ordinal
from pyro_ssbnn.errors import DataError

# pandas' own list without "None" and "n/a"-like words that are plausible names of classes.
MISSING = ["", "?", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "-nan", "NULL", "null"]


_PIECE = 2**22  # bytes read at a time


def load_csv(path: str | Path) -> tuple[pd.DataFrame, list[int]]:
    """Read a comma-separated file in UTF-8 whose first line holds the column names.

    Empty fields and the words in ``MISSING`` become missing values; blank lines are skipped.

    :param path: the file.
    :returns: The frame (columns numeric, bool or text as pandas infers) and, for each of its rows, the number of the
        line in the file where that row ends, counting from 1.
    :raises DataError: a missing, empty, binary or cut file, a row with too many or too few fields, columns without a
        name or with the same name, a header and nothing else.
    """
    file = check_file(path)
    with _as_text(file), file.open(encoding="utf-8-sig", newline="") as stream:
        reader = _reader(stream)
        header = _header(file, reader)
        lines = _shapely(file, reader, len(header))
    _require_rows(file, len(lines))
    frame = _frame(file, file, header, len(lines), header=0, encoding="utf-8-sig")
    return frame, lines


@dataclass(frozen=True)
class CsvPiece:
    """Some rows of a file.

    :param frame: the rows; columns are inferred from them alone.
    :param lines: line of the file where each row ends, counting from 1.
    :param share: of the file that has been read with them, 0 to 1.
    """

    frame: pd.DataFrame
    lines: NDArray[np.int64]
    share: float


def csv_pieces(path: str | Path, size: int = _PIECE) -> Iterator[CsvPiece]:
    """Read a file as :func:`load_csv` does, some rows at a time, in memory that does not grow with the file.

    :param size: bytes of a piece, about.
    :raises DataError: as :func:`load_csv`, when it comes to the line in question.
    """
    file = check_file(path)
    whole, read, rows, line = file.stat().st_size, 0, 0, 0
    header: list[str] = []
    with _as_text(file), file.open("rb") as stream:
        for block in _whole_rows(stream, size):
            read += len(block)
            body = block
            if not header and block.strip():
                text = io.StringIO(block.decode("utf-8-sig"), newline="")
                reader = _reader(text)
                header = _header(file, reader)
                line, body = line + reader.line_num, text.read().encode()
            if not header:
                line += block.count(b"\n")
                continue
            lines = _quickly(body, len(header))
            if lines is None:
                reader = _reader(io.StringIO(body.decode(), newline=""))
                lines = np.asarray(_shapely(file, reader, len(header), line), dtype=np.int64)
            else:
                lines = lines + line
            line += body.count(b"\n")
            rows += len(lines)
            if len(lines):
                frame = _frame(file, io.BytesIO(body), header, len(lines), header=None)
                yield CsvPiece(frame, lines, read / whole)
    if not header:
        _header(file, _reader(io.StringIO("")))
    _require_rows(file, rows)


def _whole_rows(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """Blocks of about so many bytes that end where a row does."""
    rest = b""
    while block := stream.read(max(size, len(rest))):  # twice as much where no row ends
        block = rest + block
        end = _last_end(block)
        if end:
            yield block[:end]
        rest = block[end:]
    if rest:
        yield rest


def _last_end(block: bytes) -> int:
    """Where the last whole row of a block ends; a line may end within quotation marks."""
    end = block.rfind(b"\n") + 1
    if b'"' not in block:
        return end
    text = block[:end].decode()
    stream, done = io.StringIO(text, newline=""), 0
    try:
        for _ in _reader(stream):
            done = stream.tell()
    except csv.Error as error:
        if "unexpected end" in str(error):
            return len(text[:done].encode())
    return end  # other errors are told when the rows are read


def _quickly(block: bytes, fields: int) -> NDArray[np.int64] | None:
    """Numbers of a block's rows within it, counting lines from 1, where all are plain; None where they may not be.

    Plain rows have as many commas as belong between the fields, and no quotation marks.
    """
    if fields < 2 or b'"' in block or block.count(b"\r") != block.count(b"\r\n"):
        return None
    block = block if block.endswith(b"\n") else block + b"\n"
    marks = np.frombuffer(block, np.uint8)
    ends, commas = np.flatnonzero(marks == ord("\n")), np.flatnonzero(marks == ord(","))
    found = np.diff(np.searchsorted(commas, ends), prepend=0)
    return np.arange(1, len(ends) + 1) if (found == fields - 1).all() else None


@contextmanager
def _as_text(file: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: expected text in UTF-8, found other bytes ({error.reason} at "
            f"byte {error.start}). Save the table as CSV in UTF-8; a spreadsheet or a "
            f"compressed file must be exported or unpacked first."
        ) from error


def _reader(stream: TextIO) -> Any:
    return csv.reader(stream, strict=True, skipinitialspace=True)


def _header(file: Path, reader: Any) -> list[str]:
    """The column names, from the first line that is not blank."""
    with _well_quoted(file, reader):
        for row in reader:
            if not _blank(row):
                header = [name.strip() for name in row]
                _check_header(file, header, reader.line_num)
                return header
    raise DataError(
        f"{file}: the file is empty; expected column names in the first line and "
        f"one row per line below."
    )


def _shapely(file: Path, reader: Any, fields: int, before: int = 0) -> list[int]:
    """Lines where rows end; every row is checked before pandas, which would pad or shift ragged ones.

    :param before: lines of the file before the reader's first.
    """
    lines: list[int] = []
    with _well_quoted(file, reader, before):
        for row in reader:
            if _blank(row):
                continue
            if len(row) != fields:
                few = (
                    "few: the file may have been cut there"
                    if len(row) < fields
                    else ("many: a text with a comma must be in quotation marks")
                )
                raise DataError(
                    f"{file}, line {before + reader.line_num}: expected {fields} fields as in the "
                    f"first line, found {len(row)}, too {few}. Mend or delete the line."
                )
            lines.append(before + reader.line_num)
    return lines


def _require_rows(file: Path, rows: int) -> None:
    if not rows:
        raise DataError(f"{file}: expected rows below the column names, found none.")


def _blank(row: list[str]) -> bool:
    return not row or (len(row) == 1 and not row[0].strip())


@contextmanager
def _well_quoted(file: Path, reader: Any, before: int = 0) -> Iterator[None]:
    try:
        yield
    except csv.Error as error:
        raise DataError(
            f"{file}, line {before + reader.line_num}: not readable as comma-separated "
            f"text ({error}). The file may have been cut inside a quotation; mend "
            f"or delete the line."
        ) from error


def _frame(
    file: Path, source: Path | BinaryIO, names: list[str], rows: int, **options: Any
) -> pd.DataFrame:
    frame = pd.read_csv(
        source,
        names=names,
        index_col=False,
        low_memory=False,
        skipinitialspace=True,
        keep_default_na=False,
        na_values=MISSING,
        **options,
    )
    if len(frame) != rows:
        raise DataError(
            f"{file}: {rows} rows were counted but {len(frame)} could be read; "
            f"check the quotation marks of the file."
        )
    return frame


def _check_header(file: Path, header: list[str], line: int) -> None:
    if len(header) == 1:
        for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if separator in header[0]:
                raise DataError(
                    f"{file}, line {line}: expected fields separated by commas, these look "
                    f"separated by {name}. Read the file with pandas.read_csv(path, "
                    f"sep={separator!r}) and give the frame to from_frame."
                )
    if "" in header:
        position = ordinal(header.index("") + 1)
        raise DataError(
            f"{file}, line {line}: the {position} column of {len(header)} has no name."
            f" Name it; if it numbers the rows, save the table without it "
            f"(pandas: to_csv(..., index=False))."
        )
    check_different(f"{file}, line {line}", header)
