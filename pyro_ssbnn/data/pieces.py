"""Files of one table, read in pieces as often as is asked, the same pieces each time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pyro_ssbnn.data.columnar import columnar_names, columnar_pieces, columnar_rows
from pyro_ssbnn.data.files import check_file
from pyro_ssbnn.data.readers import FEATHER, PARQUET, SHEETS, Form, form_of, text_pieces
from pyro_ssbnn.data.table import Table
from pyro_ssbnn.errors import DataError

__all__ = ["TableFiles"]

_PIECE = 2**23  # bytes of a piece of text


class TableFiles:
    """Parquet, feather or text files with the same columns.

    Columns of text are read once to find what they are: numbers where all values are, and so on.

    :param files: at least one, all of one kind.
    :param delimiter: between the fields of text; None finds it.
    :raises DataError: for files that are absent, empty or damaged, of different kinds, or with other columns.
    """

    def __init__(self, files: Sequence[str | Path], delimiter: str | None = None) -> None:
        self.files = [check_file(file) for file in files]
        endings = {file.suffix.lower() for file in self.files}
        self.format = next(
            (f for f, known in (("parquet", PARQUET), ("feather", FEATHER)) if endings & {*known}),
            "text",
        )
        known = {"parquet": PARQUET, "feather": FEATHER}.get(self.format)
        if endings & {*SHEETS} or (known is not None and endings - {*known}):
            raise DataError(
                f"{self.files[0]}: expected files that are all parquet, all feather or all text; the endings are"
                f" {', '.join(sorted(endings))}. Spreadsheets are read whole, one at a time."
            )
        self._forms: dict[Path, Form] = {}
        self._kinds: dict[str, Any] = {}
        self._rows = 0
        if self.format != "text":
            self.names = columnar_names(self.files, self.format)
            return
        self._forms = {file: form_of(file, delimiter) for file in self.files}
        self.names = self._forms[self.files[0]].names
        for file, form in self._forms.items():
            if set(form.names) != set(self.names):
                only = sorted(set(form.names) ^ set(self.names))
                raise DataError(
                    f"{file}: expected the columns of {self.files[0]}; {only[0]!r} is only in one of them. Give files"
                    " of one table."
                )

    @property
    def num_rows(self) -> int:
        """Rows of all files; of text they are counted when they are first read."""
        if self.format != "text":
            return columnar_rows(self.files, self.format)
        self._find_kinds()
        return self._rows

    def pieces(self) -> Iterator[tuple[Table, float]]:
        """Rows, file after file, each piece with the share of all bytes that has been read with it."""
        if self.format != "text":
            yield from columnar_pieces(self.files, self.format)
            return
        self._find_kinds()
        yield from self._text(self._kinds)

    def _text(self, kinds: dict[str, Any]) -> Iterator[tuple[Table, float]]:
        sizes = [file.stat().st_size for file in self.files]
        before = 0
        for file, size in zip(self.files, sizes, strict=True):
            for table, share in text_pieces(file, self._forms[file], _PIECE, kinds):
                yield table, (before + share * size) / sum(sizes)
            before += size

    def _find_kinds(self) -> None:
        """Find the first kind of number, truth value or date that all values of a column can be read as; else text."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self._kinds:
            return
        able = {
            name: [pa.int64(), pa.float64(), pa.bool_(), pa.date32(), pa.timestamp("us")]
            for name in self.names
        }
        commas = self._forms[self.files[0]].decimal == ","
        for table, _ in self._text(dict.fromkeys(self.names, pa.string())):
            self._rows += len(table)
            frame = table.frame.to_native()
            for name, kinds in able.items():
                if not kinds:
                    continue
                words = pc.utf8_trim_whitespace(frame[name])
                words = pc.replace_substring(words, ",", ".") if commas else words
                able[name] = [kind for kind in kinds if _can_be(words, kind)]
        self._kinds = {name: (kinds or [pa.string()])[0] for name, kinds in able.items()}


def _can_be(words: Any, kind: Any) -> bool:
    import pyarrow as pa

    try:
        words.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True
