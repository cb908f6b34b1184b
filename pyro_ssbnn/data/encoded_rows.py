"""Rows as a network sees them, on disk: two arrays, written once and read in pieces."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from pyro_ssbnn.data.encoded import Encoded
from pyro_ssbnn.data.preprocessing import Preprocessing
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.rows import ArraySource, FileArray, Source
from pyro_ssbnn.rows.sampling import RowSample

__all__ = ["EncodedRows", "clear_half_written", "write_encoded"]

_KINDS: dict[str, np.dtype[Any]] = {
    "x": np.dtype("<f4"),
    "y": np.dtype("<f8"),
    "row": np.dtype("<i8"),
}
_ROWS = 20_000  # of a piece that is predicted together
_LOCK = ".lock"  # held in a folder that is being written, which tells it from what a killed process left


@dataclass(frozen=True)
class EncodedRows(Source):
    """Rows of a table on disk, in single precision; ``fit``, ``predict_blocks`` and ``diagnose`` take them.

    :param x: columns of the network, ``[N, q]``.
    :param y: targets in their own units, ``[N]``; labels for classes.
    :param row: places of the rows in the files that they come from, ``[N]``.
    :param preprocessing: what they were encoded by.
    """

    x: FileArray
    y: FileArray
    row: FileArray
    preprocessing: Preprocessing

    @classmethod
    def open(cls, folder: Path, name: str, preprocessing: Preprocessing) -> EncodedRows:
        """Open what :func:`write_encoded` wrote.

        :raises DataError: for files that are absent, damaged, or of other columns.
        """
        arrays = {}
        for part, kind in _KINDS.items():
            path = folder / f"{name}.{part}.npy"
            if not path.is_file() or path.is_symlink():
                raise DataError(f"{path}: is absent; the rows must be written again.")
            arrays[part] = FileArray.open(path)
            if arrays[part].dtype != kind:
                raise DataError(
                    f"{path}: expected numbers of kind {kind}, found {arrays[part].dtype}."
                )
        shapes = {part: array.shape for part, array in arrays.items()}
        rows = (len(arrays["x"]),)
        columns = sum(preprocessing.widths or ())
        if shapes != {"x": (*rows, columns), "y": rows, "row": rows}:
            raise DataError(
                f"{folder}: expected {columns} columns of as many rows as targets, found {shapes}; the rows must be"
                " written again."
            )
        return cls(**arrays, preprocessing=preprocessing)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def total(self) -> int:
        """Rows in all."""
        return len(self)

    @property
    def together(self) -> int:
        """Rows that are predicted together."""
        return min(len(self), _ROWS)

    @property
    def given(self) -> tuple[Any, Any]:
        """What ``fit`` takes for x and y."""
        return self, None

    def blocks(self, seed: int | None = None) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Columns and targets as the network sees them."""
        for x, y in ArraySource(self.x, self.y).blocks(seed):
            yield x, None if y is None else self._seen(self._own(y))

    def sample(self, most: int, seed: int = 0) -> Encoded:
        """A uniform sample of rows; of fewer all."""
        sample = RowSample(most, seed)
        for x, y in ArraySource(self.x, self.y).blocks():
            if y is not None:
                sample.add(x, y)
        x, y = sample.rows()
        return self._encoded(x, y, len(self))

    def parts(self) -> Iterator[Encoded]:
        """All rows in their order, 20,000 at a time."""
        for at in range(0, len(self), _ROWS):
            part = slice(at, at + _ROWS)
            encoded = self._encoded(torch.from_numpy(self.x[part]), torch.from_numpy(self.y[part]))
            yield replace(encoded, row=self.row[part])

    def _encoded(self, x: Tensor, y: Tensor, total: int | None = None) -> Encoded:
        own = self._own(y)
        return Encoded(x.double(), self._seen(own), own, total)

    def _own(self, y: Tensor) -> Tensor:
        """Targets in the kind of tensor that a table gives."""
        kinds = {"binary": torch.float32, "classification": torch.int64}
        return y.to(kinds.get(self.preprocessing.task, torch.float64))

    def _seen(self, y: Tensor) -> Tensor:
        return self.preprocessing.target.transform(y)


def write_encoded(
    folder: Path,
    rows: dict[str, int],
    columns: int,
    pieces: Iterable[tuple[str, NDArray[Any], NDArray[Any], NDArray[np.int64]]],
) -> None:
    """Write parts of a table into a folder, which is there when all is written.

    What a process that was killed meanwhile left of the same folder is removed first.

    :param rows: of each part, by its name.
    :param columns: of x.
    :param pieces: name of the part, x ``[n, columns]``, y ``[n]`` and places of the rows ``[n]``.
    :raises ConfigurationError: where the disk has no room for them, or the folder is there.
    :raises DataError: where there are other numbers of rows than was said.
    """
    needed = sum(rows.values()) * (columns * _KINDS["x"].itemsize + 16)
    folder.parent.mkdir(parents=True, exist_ok=True)
    clear_half_written(folder)
    if shutil.disk_usage(folder.parent).free < needed:
        raise ConfigurationError(
            f"{folder.parent}: the rows take {needed / 2**30:,.1f} GiB of disk, {columns} columns of 4 bytes each, and"
            " there is less. Make room, or leave columns out: a category has one for each of its values."
        )
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        written = dict.fromkeys(rows, 0)
        with FileLock(new / _LOCK), ExitStack() as stack:
            files = {
                (name, part): stack.enter_context(_array(new / f"{name}.{part}.npy", kind, shape))
                for name, number in rows.items()
                for part, kind in _KINDS.items()
                for shape in [(number, columns) if part == "x" else (number,)]
            }
            for name, *arrays in pieces:
                written[name] += len(arrays[0])
                for (part, kind), values in zip(_KINDS.items(), arrays, strict=True):
                    np.ascontiguousarray(values, kind).tofile(files[name, part])
        if written != rows:
            raise DataError(
                f"the data changed while they were read: expected {rows} rows, found {written}."
            )
        (new / _LOCK).unlink(missing_ok=True)
        new.chmod(folder.parent.stat().st_mode & 0o777)  # temporary folders are the owner's alone
        new.rename(folder)
    except OSError as error:
        if folder.exists():
            raise ConfigurationError(f"{folder}: is there already; give another folder.") from error
        raise
    finally:
        shutil.rmtree(new, ignore_errors=True)


def clear_half_written(folder: Path) -> None:
    """Remove what :func:`write_encoded` left of a folder where its process was killed; what is being written stays."""
    name = re.compile(rf"\.{re.escape(folder.name)}-[a-z0-9_]{{8}}")
    entries = folder.parent.iterdir() if folder.parent.is_dir() else ()
    for left in [entry for entry in entries if name.fullmatch(entry.name)]:
        if left.is_dir() and not left.is_symlink():
            with suppress(Timeout), FileLock(left / _LOCK, timeout=0):
                shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _array(path: Path, kind: np.dtype[Any], shape: tuple[int, ...]) -> Iterator[BinaryIO]:
    """A .npy file of this shape, whose numbers are still to be written."""
    with path.open("wb") as stream:
        header = {"descr": npy.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
        npy.write_array_header_1_0(stream, header)
        yield stream
