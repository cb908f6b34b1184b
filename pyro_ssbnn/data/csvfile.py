"""A comma-separated file as a pandas frame, with the line of the file each row came from."""

import csv
from pathlib import Path

import pandas as pd

from pyro_ssbnn.data.files import check_file
from pyro_ssbnn.data.wording import check_different, ordinal
from pyro_ssbnn.errors import DataError

# pandas' own list without "None" and "n/a"-like words that are plausible names of classes.
MISSING = ["", "?", "NA", "N/A", "#N/A", "<NA>", "NaN", "nan", "-nan", "NULL", "null"]


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
    try:
        header, lines = _scan(file)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: expected text in UTF-8, found other bytes ({error.reason} at "
            f"byte {error.start}). Save the table as CSV in UTF-8; a spreadsheet or a "
            f"compressed file must be exported or unpacked first."
        ) from error
    if not lines:
        raise DataError(f"{file}: expected rows below the column names, found none.")
    frame = pd.read_csv(
        file,
        header=0,
        names=header,
        index_col=False,
        encoding="utf-8-sig",
        low_memory=False,
        skipinitialspace=True,
        keep_default_na=False,
        na_values=MISSING,
    )
    if len(frame) != len(lines):
        raise DataError(
            f"{file}: {len(lines)} rows were counted but {len(frame)} could be read; "
            f"check the quotation marks of the file."
        )
    return frame, lines


def _scan(file: Path) -> tuple[list[str], list[int]]:
    """Check the shape of every row before pandas, which would pad or shift ragged ones."""
    header: list[str] = []
    lines: list[int] = []
    with file.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, strict=True, skipinitialspace=True)
        try:
            for row in reader:
                if not row or (len(row) == 1 and not row[0].strip()):
                    continue
                if not header:
                    header = [name.strip() for name in row]
                    _check_header(file, header, reader.line_num)
                elif len(row) != len(header):
                    few = (
                        "few: the file may have been cut there"
                        if len(row) < len(header)
                        else ("many: a text with a comma must be in quotation marks")
                    )
                    raise DataError(
                        f"{file}, line {reader.line_num}: expected {len(header)} fields as in the "
                        f"first line, found {len(row)}, too {few}. Mend or delete the line."
                    )
                else:
                    lines.append(reader.line_num)
        except csv.Error as error:
            raise DataError(
                f"{file}, line {reader.line_num}: not readable as comma-separated "
                f"text ({error}). The file may have been cut inside a quotation; mend "
                f"or delete the line."
            ) from error
    if not header:
        raise DataError(
            f"{file}: the file is empty; expected column names in the first line and "
            f"one row per line below."
        )
    return header, lines


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
