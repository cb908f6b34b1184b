"""Arrays on disk as rows: blocks of neighbours, in any order, in memory that does not grow with the file."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from pyro_ssbnn.errors import DataError
from pyro_ssbnn.rows.source import Block, Source

__all__ = ["ArraySource", "FileArray"]

_BLOCK = 2**15  # bytes of neighbours that stay together; a disk reads them in one go
_PIECE = 2**22  # bytes read together where the order is that of the file


class ArraySource(Source):
    """Rows of two arrays.

    :param x: predictors ``[N, p]``: anything with ``shape`` and slices of rows, such as a memory-mapped array, a
        :class:`FileArray`, or an array of h5py or zarr.
    :param y: targets ``[N]`` (``[N, K]`` for several); None where there are none.
    :raises DataError: for arrays of different numbers of rows.
    """

    def __init__(self, x: Any, y: Any = None) -> None:
        if y is not None and len(y) != len(x):
            raise DataError(
                f"ArraySource: x has {len(x)} rows and y has {len(y)}; give one target a row."
            )
        self.x, self.y = _read_by_file(x), _read_by_file(y)

    def __len__(self) -> int:
        return int(self.x.shape[0])

    def blocks(self, seed: int | None = None) -> Iterator[Block]:
        """Blocks of about 32 kB in random order, or of 4 MB in that of the arrays."""
        a_row = max(1, int(np.prod(self.x.shape[1:]))) * self.x.dtype.itemsize
        rows = max(1, (_PIECE if seed is None else _BLOCK) // a_row)
        starts = torch.arange(0, len(self), rows)
        if seed is not None:
            starts = starts[torch.randperm(len(starts), generator=_generator(seed))]
        for at in starts.tolist():
            part = slice(at, at + rows)
            yield _tensor(self.x[part]), None if self.y is None else _tensor(self.y[part])


@dataclass(frozen=True)
class FileArray:
    """An array in a file, read slice by slice: unlike a memory map it leaves nothing in the process's memory.

    :param path: of the file.
    :param dtype: of the numbers.
    :param shape: of the array, in C order.
    :param offset: bytes before it.
    :raises DataError: for a file that is shorter than that, and numbers of no fixed size.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int = 0

    def __post_init__(self) -> None:
        needed = self.offset + self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))
        found = self.path.stat().st_size
        if self.dtype.hasobject or self.dtype.kind not in "biuf" or not self.shape:
            raise DataError(f"{self.path}: expected rows of numbers, found {self.dtype}.")
        if found < needed:
            raise DataError(
                f"{self.path}: expected {needed:,} bytes, found {found:,}: the file was cut. Write it again."
            )

    @classmethod
    def open(cls, path: str | Path) -> FileArray:
        """Open a ``.npy`` file; nothing but its header is read, and nothing in it is run.

        :raises DataError: for any other file, or one in Fortran's order.
        """
        path = Path(path)
        try:
            with path.open("rb") as stream:
                version = npy.read_magic(stream)
                read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
                shape, fortran, dtype = read[version](stream)
                offset = stream.tell()
        except (KeyError, ValueError) as error:
            raise DataError(f"{path}: not readable as a .npy file ({error}).") from error
        if fortran and len(shape) > 1:
            raise DataError(
                f"{path}: is written column by column; save np.ascontiguousarray of it."
            )
        return cls(path, dtype, shape, offset)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Some neighbouring rows, a copy."""
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise IndexError("FileArray: slices of neighbouring rows only")
        width = int(np.prod(self.shape[1:], dtype=np.int64))
        number = max(0, stop - start)
        offset = self.offset + start * width * self.dtype.itemsize
        found = np.fromfile(self.path, self.dtype, number * width, offset=offset)
        return found.reshape(number, *self.shape[1:])


def _read_by_file(array: Any) -> Any:
    """A memory-mapped array as a file to be read, where it is all of one; anything else as it is."""
    if not isinstance(array, np.memmap) or not isinstance(array.base, mmap.mmap):
        return array
    known = array.filename is not None and array.mode != "c" and array.flags.c_contiguous
    if not known or not array.ndim:
        return array
    return FileArray(Path(array.filename), array.dtype, array.shape, array.offset)


def _tensor(rows: Any) -> Tensor:
    """Rows in memory of their own."""
    if isinstance(rows, Tensor):
        return rows.detach().cpu().clone()
    found = np.array(rows)
    return torch.from_numpy(found.astype(found.dtype.newbyteorder("="), copy=False))


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
