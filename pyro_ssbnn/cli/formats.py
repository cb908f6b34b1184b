"""Sources that know themselves: embedded sets, folders of images and UCI folders; told by what is there, and read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pyro_ssbnn.cli.kinds import Format
from pyro_ssbnn.errors import DataError

if TYPE_CHECKING:
    from pyro_ssbnn.data import Dataset

__all__ = ["EMBEDDED", "TABLES", "checksums", "detect", "own_test", "whole"]

EMBEDDED = (Format.digits, Format.diabetes)
TABLES = (".parquet", ".pq", ".feather", ".arrow", ".csv", ".tsv", ".txt")
"""Endings of the files of a table that is a folder."""

# A pattern's letters in either case, as names of images are read.
_PICTURES = [
    "".join(f"[{letter}{letter.upper()}]" for letter in kind) for kind in ("png", "jpg", "jpeg")
]
_SIGNS = {
    Format.idx: ("train-images*", "t10k-images*"),
    Format.cifar: ("data_batch_*", "test_batch*"),
    Format.uci: ("data.txt",),
    Format.images: tuple(f"{at}*/*.{kind}" for kind in _PICTURES for at in ("", "train/")),
}
_FILES = {
    Format.idx: ("*-images*ubyte*", "*-labels*ubyte*"),
    Format.cifar: ("data_batch_*.bin*", "test_batch.bin*"),
    Format.uci: ("data.txt*", "index_*.txt*"),
}


def detect(source: str) -> Format:
    """Tell the format of a source by what is there.

    :raises DataError: when there is nothing, or a folder of no known layout.
    """
    if source in {f.value for f in EMBEDDED}:
        return Format(source)
    from pyro_ssbnn.data.files import check_source

    path = check_source(source, [f.value for f in EMBEDDED])
    if path.is_file():
        return Format.table
    for format, patterns in _SIGNS.items():
        if any(any(path.glob(pattern)) for pattern in patterns):
            return format
    if any(file.suffix.lower() in TABLES for file in path.iterdir()):
        return Format.table
    raise DataError(
        f"{source}: a folder of no known layout; expected IDX files (train-images-idx3-ubyte, ...), CIFAR-10's binary"
        " files (data_batch_1.bin, ...), PNG or JPEG files in a folder for each class, or a UCI layout (data.txt,"
        " index_features.txt, ...). Give the folder that holds the files itself, or a CSV file."
    )


def whole(source: str, format: Format) -> Dataset:
    """All rows, or the training half where the source has halves."""
    from pyro_ssbnn import data

    if format in EMBEDDED:
        return data.digits() if format is Format.digits else data.diabetes()
    if format is Format.uci:
        return data.read_uci(source)
    if format is Format.images:
        return data.read_image_folder(_half(source, "train") or source)
    read = data.read_idx_images if format is Format.idx else data.read_cifar
    return read(source)


def own_test(source: str, format: Format) -> Dataset | None:
    """The test half of an image folder, None where there is none."""
    from pyro_ssbnn.data import read_cifar, read_idx_images, read_image_folder

    if format is Format.images and (test := _half(source, "test")) is not None:
        return read_image_folder(test)
    if format is Format.idx and any(Path(source).glob("t10k-images*")):
        return read_idx_images(source, "test")
    if format is Format.cifar and any(Path(source).glob("test_batch*")):
        return read_cifar(source, "test")
    return None


def checksums(path: Path, format: Format) -> dict[str, str]:
    """SHA-256 of a source's files, by their names."""
    if format is Format.images:
        return {"all images": _sha256_of_all(path)}
    files = [path] if path.is_file() else _files(path, _FILES[format])
    return {file.name: _sha256(file) for file in files}


def _half(source: str | Path, name: str) -> Path | None:
    """The folder ``train`` or ``test`` in a folder of images, where there are such halves."""
    from pyro_ssbnn.data.image_folders import require_no_link

    half = Path(source) / name
    if not (half.is_dir() and any(entry.is_dir() for entry in half.iterdir())):
        return None
    require_no_link(half)
    return half


def _sha256_of_all(folder: Path) -> str:
    """One digest of the names and contents of all images that are read."""
    from pyro_ssbnn.data.image_folders import class_folders, image_files

    halves = (_half(folder, "train") or folder, _half(folder, "test"))
    classes = [entry for half in halves if half is not None for entry in class_folders(half)]
    digest = hashlib.sha256()
    for file in sorted(file for entry in classes for file in image_files(entry)):
        digest.update(f"{file.relative_to(folder)}\0{_sha256(file)}\0".encode())
    return digest.hexdigest()


def _files(folder: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted({file for pattern in patterns for file in folder.glob(pattern)})


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
