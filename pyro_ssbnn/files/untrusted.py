"""The one place where bytes that anyone may have written become objects, or a :class:`CheckpointError`.

A file may be damaged, or made to harm whoever opens it. What is read here is bounded by what it came from: JSON by its
length, its depth and the digits of its numbers, unpacked data by a multiple of the packed ones. Nothing that a file
says is taken for a size before it has been compared with the file itself.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from pyro_ssbnn.errors import CheckpointError

__all__ = [
    "GZIP",
    "check_numbers",
    "entry",
    "most_unpacked",
    "parse_json",
    "read_json",
    "regular_file",
    "unpacked",
    "unpacking",
]

GZIP = b"\x1f\x8b"
"""First bytes of a gzip stream."""

_MOST_JSON = 64 << 20  # bytes; the record of a run with 100,000 predictors has about ten million
_MOST_DEPTH = 40
_MOST_DIGITS = 400  # of a number; the largest double has 309
_UNPACKED_FREELY = 256 << 20  # bytes, whatever the packed file's length
_MOST_PACKED = 50  # times as long as the packed file is anything beyond; images shrink to a fifth
_PIECE = 1 << 14  # of packed data; it unpacks to a thousandfold at most

# What objects raise that are made from entries of the wrong kind.
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
)


@contextmanager
def unpacking(where: str | Path, what: str) -> Iterator[None]:
    """Turn whatever goes wrong while objects are made from a file into a :class:`CheckpointError` that names it.

    :param what: what is made, for the message.
    """
    try:
        yield
    except CheckpointError:
        raise
    except _DAMAGE as error:
        text = str(error) or type(error).__name__
        text = repr(error) if isinstance(error, LookupError) else text
        raise CheckpointError(f"{where}: {what} cannot be made again. {text[:500]}") from error


def regular_file(path: str | Path) -> Path:
    """Return the path of a file; raise :class:`CheckpointError` where there is none, or something else."""
    if not isinstance(path, str | PathLike):
        raise CheckpointError(f"expected the path of a file; got {path!r}.")
    path = Path(path)
    if not path.is_file():
        what = "this is no file" if path.exists() else "there is no such file"
        raise CheckpointError(f"{path}: {what}.")
    return path


def read_json(path: str | Path) -> Any:
    """Read a JSON file of bounded length, see :func:`parse_json`."""
    path = regular_file(path)
    size = path.stat().st_size
    if size > _MOST_JSON:
        raise CheckpointError(
            f"{path}: {size:,} bytes of JSON, where at most {_MOST_JSON:,} are read."
        )
    return parse_json(path.read_bytes(), path)


def parse_json(text: str | bytes, where: str | Path) -> Any:
    """Parse JSON of bounded length and depth, whose numbers are short and finite.

    :param where: the file it stands in, for the message.
    :raises CheckpointError: for anything else.
    """
    if len(text) > _MOST_JSON:
        raise CheckpointError(f"{where}: more than {_MOST_JSON:,} characters of JSON.")
    try:
        value = json.loads(text, parse_int=_integer, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{where}: not readable as JSON ({str(error)[:200]}). It was damaged, or written by something else."
        ) from error
    level, depth = [value], 0
    while level := [inner for outer in level for inner in _containers(outer)]:
        depth += 1
        if depth > _MOST_DEPTH:
            raise CheckpointError(
                f"{where}: JSON nested deeper than {_MOST_DEPTH} levels, as no file of this package is."
            )
    return value


def _containers(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [part for part in inner if isinstance(part, (dict, list))]


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def _refused(constant: str) -> float:
    raise ValueError(f"the number {constant}, which JSON does not have")


def entry(record: Any, name: str, kind: type | tuple[type, ...], where: str | Path) -> Any:
    """An entry of a JSON record.

    :param kind: what it must be; a truth value is no number.
    :raises CheckpointError: when it is missing or of another kind, or the record is none.
    """
    if not isinstance(record, dict):
        raise CheckpointError(f"{where}: expected a record, found {_kind(record)}.")
    if name not in record:
        raise CheckpointError(f"{where}: the entry {name!r} is missing.")
    value = record[name]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        expected = " or ".join(_NAMES.get(k, k.__name__) for k in kinds)
        raise CheckpointError(
            f"{where}: the entry {name!r} should be {expected}, and is {_kind(value)}."
        )
    return value


def check_numbers(record: Any, most: int, where: str | Path) -> None:
    """Raise :class:`CheckpointError` for a whole number, or the length of a list, above what a file can be about.

    :param most: values in the file, say: no layer is wider.
    """
    if isinstance(record, Mapping):
        record = list(record.values())
    if isinstance(record, Sequence) and not isinstance(record, str):
        for value in (len(record), *record):
            check_numbers(value, most, where)
    elif isinstance(record, int) and abs(record) > most:
        raise CheckpointError(
            f"{where}: speaks of {record if abs(record) < 10**30 else 'very many'} members, and holds only {most:,}"
            " values. It was damaged or made up."
        )


def most_unpacked(packed: int) -> int:
    """Bytes that a packed file of so many bytes may become."""
    return max(_UNPACKED_FREELY, _MOST_PACKED * packed)


def unpacked(raw: bytes) -> tuple[bytes, bool]:
    """Unpack gzip data, several streams one after the other, as far as is reasonable.

    :returns: the bytes, and whether they are all: False when the last stream ends too early.
    :raises OverflowError: for much more than images or tables ever unpack to; nothing beyond has been unpacked.
    :raises zlib.error: for damaged data.
    """
    most = most_unpacked(len(raw))
    parts: list[bytes] = []
    at = length = 0
    stream = zlib.decompressobj(wbits=31)  # gzip.open would not say how much of a cut one there is
    while at < len(raw):
        piece = raw[at : at + _PIECE]
        parts.append(stream.decompress(piece))
        at += len(piece) - len(stream.unused_data)
        length += len(parts[-1])
        if length > most:
            raise OverflowError(f"more than {most:,} bytes when unpacked")
        if stream.eof:
            if not raw.startswith(GZIP, at):
                break
            stream = zlib.decompressobj(wbits=31)
    return b"".join(parts), stream.eof


_NAMES = {
    dict: "a record",
    list: "a list",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def _kind(value: Any) -> str:
    return _NAMES.get(type(value), type(value).__name__)
