"""How many bytes the pages of a parquet file unpack to, told by their own headers: nothing is unpacked.

Arrow allocates what a page's header says. The file's footer sums the pages up, and need not be right.

A header is a struct of Thrift's compact protocol (PageHeader in parquet.thrift): its kind, the unpacked length, the
packed one, and what else there is, which is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pyro_ssbnn.errors import DataError

__all__ = ["unpacked_groups"]

_HEADER = 2**12  # bytes that hold most headers; values in one may be long
_LONGEST = 2**24  # of which Arrow reads no more
_UNPACKED, _PACKED = 2, 3  # numbers of the header's fields
# Kinds of values.
_TRUE, _FALSE, _BYTE, _SHORT, _INT, _LONG, _DOUBLE, _BINARY, _LIST, _SET, _, _STRUCT = range(1, 13)


def unpacked_groups(path: Path, metadata: Any) -> list[int]:
    """Bytes that each row group unpacks to.

    :param metadata: the file's, as pyarrow reads it.
    :raises DataError: for pages that are damaged, or lie outside the file.
    """
    held, left = [], path.stat().st_size
    with path.open("rb") as stream:
        try:
            for number in range(metadata.num_row_groups):
                group = metadata.row_group(number)
                columns = [group.column(i) for i in range(group.num_columns)]
                left -= sum(column.total_compressed_size for column in columns)
                if left < 0:
                    raise ValueError("its columns are longer than the file")
                held.append(sum(sum(_pages(stream, column)) for column in columns))
        except (ValueError, LookupError, RecursionError, OverflowError, OSError) as error:
            raise DataError(
                f"{path}: not readable as a parquet file ({error}). It was damaged, or cut; make it again."
            ) from error
    return held


def _pages(stream: BinaryIO, column: Any) -> Iterator[int]:
    """Bytes that each page of a column unpacks to."""
    if column.num_values <= 0:  # of which Arrow reads no page
        return
    at, words = column.data_page_offset, column.dictionary_page_offset
    if column.has_dictionary_page and 0 < (words or 0) < at:
        at = words
    end = at + column.total_compressed_size
    while at < end:
        length, unpacked, packed = _header(stream, at, end)
        if unpacked < 0 or packed < 0:
            raise ValueError("the length of a page is negative")
        yield unpacked
        at += length + packed


def _header(stream: BinaryIO, at: int, end: int) -> tuple[int, int, int]:
    """Length of a page's header, and the lengths that it tells."""
    size = _HEADER
    while True:
        stream.seek(at)
        data = stream.read(min(size, end - at))
        reader = _Reader(data)
        try:
            found = reader.struct()
        except IndexError:
            if len(data) < size or size >= _LONGEST:
                raise ValueError("a page is cut") from None
            size *= 2
            continue
        return reader.at, found[_UNPACKED], found[_PACKED]


class _Reader:
    """Values of Thrift's compact protocol, one after another; IndexError where the data end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def struct(self) -> dict[int, int]:
        """The whole numbers of a struct by their fields; the rest is passed over."""
        found: dict[int, int] = {}
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._value(_SHORT) or 0
            value = self._value(head & 15)
            if value is not None:
                found[field] = value
        return found

    def _value(self, kind: int) -> int | None:
        """A value of a field; what is no whole number is passed over."""
        if kind in (_SHORT, _INT, _LONG):
            number = self._number()
            return (number >> 1) ^ -(number & 1)  # signs come last
        if kind in (_BYTE, _DOUBLE, _BINARY):
            self._skip({_BYTE: 1, _DOUBLE: 8}.get(kind) or self._number())
        elif kind in (_LIST, _SET):
            head = self._byte()
            inner = head & 15
            for _ in range(self._number() if head >> 4 == 15 else head >> 4):
                self._skip(1) if inner in (_TRUE, _FALSE) else self._value(inner)
        elif kind == _STRUCT:
            self.struct()
        elif kind not in (_TRUE, _FALSE):  # a page's header has no maps
            raise ValueError("a page's header is none")
        return None

    def _number(self) -> int:
        number = shift = 0
        while (byte := self._byte()) & 128:
            number |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                raise ValueError("a number in a page's header is too long")
        return number | byte << shift

    def _byte(self) -> int:
        self._skip(1)
        return self.data[self.at - 1]

    def _skip(self, length: int) -> None:
        self.at += length
        if self.at > len(self.data):
            raise IndexError
