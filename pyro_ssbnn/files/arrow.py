"""How many bytes an Arrow file (feather) holds once it is unpacked, told by its headers: nothing is unpacked.

In Arrow's file format (https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format) a footer says where each
batch of rows stands; a batch has a header, which says where each of its buffers stands, and a packed buffer begins with
its unpacked length, which Arrow allocates before it unpacks anything. Footer and headers are flatbuffers: a table is
a list of places, in the order of the fields of File.fbs and Message.fbs.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from pyro_ssbnn.errors import DataError

__all__ = ["unpacked_batches"]

_MAGIC = b"ARROW1"
_END = struct.Struct("<i6s")  # length of the footer, and the magic bytes
_BLOCK = struct.Struct("<qi4xq")  # where a batch is, length of its header, of its body
_PAIR = struct.Struct("<qq")  # offset and length of a buffer; values and gaps of a column
_DICTIONARY, _ROWS = 2, 3  # kinds of header
_FIFTH = 4  # what the format's fifth version calls itself


def unpacked_batches(path: Path) -> tuple[int, list[int]]:
    """Bytes of all dictionaries, and of each batch of rows, eight a value at least; none for a file of another format.

    :raises DataError: for headers that are damaged, or lie outside the file.
    """
    with path.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            return 0, []
        try:
            dictionaries, rows = _footer(stream)
            left = os.fstat(stream.fileno()).st_size
            left -= sum(header for _, header, _ in (*dictionaries, *rows))
            if left < 0:
                raise ValueError("its headers are longer than the file")
            return (
                sum(_batch(stream, block, _DICTIONARY) for block in dictionaries),
                [_batch(stream, block, _ROWS) for block in rows],
            )
        except (ValueError, struct.error, OverflowError, OSError) as error:
            raise DataError(
                f"{path}: not readable as an Arrow file ({error}). It was damaged, or cut; make it again."
            ) from error


class _Table:
    """A flatbuffer's table.

    :param data: all bytes of the flatbuffer.
    :param at: where there is the way to the table.
    """

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at + _read("<I", data, at)
        self.fields = self.at - int(_read("<i", data, self.at))

    def place(self, field: int) -> int | None:
        """Where a field stands, None where it has its default."""
        if 4 + 2 * field >= _read("<H", self.data, self.fields):
            return None
        offset = _read("<H", self.data, self.fields + 4 + 2 * field)
        return self.at + offset if offset else None

    def table(self, field: int) -> _Table:
        """A field that is a table."""
        place = self.place(field)
        if place is None:
            raise ValueError("a header lacks a part")
        return _Table(self.data, place)

    def items(self, field: int, kind: struct.Struct) -> list[tuple[int, ...]]:
        """A field that is a list of records."""
        place = self.place(field)
        if place is None:
            return []
        start = place + _read("<I", self.data, place)
        end = start + 4 + _read("<I", self.data, start) * kind.size
        if start < 0 or end > len(self.data):
            raise ValueError("a list in a header is longer than that")
        return list(kind.iter_unpack(self.data[start + 4 : end]))


def _footer(stream: BinaryIO) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Blocks of dictionaries, and of rows."""
    end = stream.seek(-_END.size, os.SEEK_END)
    length, magic = _END.unpack(stream.read(_END.size))
    if magic != _MAGIC or not 0 < length <= end:
        raise ValueError("it has no footer")
    footer = _Table(_bytes(stream, end - length, length))
    return footer.items(2, _BLOCK), footer.items(3, _BLOCK)


def _batch(stream: BinaryIO, block: tuple[int, ...], expected: int) -> int:
    """Bytes of a batch."""
    at, length, _ = block
    head = _bytes(stream, at, length)
    message = _Table(head, 8 if head.startswith(b"\xff\xff\xff\xff") else 4)
    kind = message.place(1)
    if kind is None or _read("<B", head, kind) != expected:
        raise ValueError("a batch is none")
    batch = message.table(2)
    batch = batch.table(1) if expected == _DICTIONARY else batch
    # The first version that packed buffers said so beside the header.
    packed = batch.place(3) is not None or (message.place(4) is not None and _old(message))
    held = values = 0
    for number, _ in batch.items(1, _PAIR):
        values += _size(number)
    for offset, size in batch.items(2, _PAIR):
        inside = packed and size >= 8
        own = _read("<q", _bytes(stream, at + length + offset, 8), 0) if inside else -1
        held += _size(size if own == -1 else own)
    return max(held, 8 * values)


def _old(message: _Table) -> bool:
    place = message.place(0)
    return place is None or _read("<h", message.data, place) < _FIFTH


def _size(number: int) -> int:
    if number < 0:
        raise ValueError("a length is negative")
    return number


def _bytes(stream: BinaryIO, at: int, length: int) -> bytes:
    stream.seek(at)
    if length < 0 or length > os.fstat(stream.fileno()).st_size:
        raise ValueError("a length is none")
    found = stream.read(length)
    if len(found) < length:
        raise ValueError("a part lies beyond its end")
    return found


def _read(kind: str, data: bytes, at: int) -> int:
    """A number somewhere in a flatbuffer."""
    if at < 0:
        raise ValueError("a header points before itself")
    return int(struct.unpack_from(kind, data, at)[0])
