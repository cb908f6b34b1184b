"""Files found in a folder by one of several names, and their bytes, unpacked when gzipped."""

import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from pyro_ssbnn.data.wording import did_you_mean, listed
from pyro_ssbnn.errors import DataError
from pyro_ssbnn.files.untrusted import GZIP, most_unpacked, unpacked


def read_bytes(path: str | Path) -> tuple[bytes, bool]:
    """Read a whole file, unpacked when its first bytes (not its name) say gzip.

    :returns: The bytes, and whether they are all: False when a gzip stream ends too early, so that the caller can say
        how many bytes it expected.
    :raises DataError: no such file, a folder, an empty file, a damaged gzip stream.
    """
    file = check_file(path)
    raw = file.read_bytes()
    if not raw:
        raise DataError(f"{file}: the file is empty; download it again.")
    if not raw.startswith(GZIP):
        return raw, True
    try:
        return unpacked(raw)
    except zlib.error as error:
        raise DataError(
            f"{file}: the gzip data are damaged ({error}); download the file again."
        ) from error
    except OverflowError as error:
        raise _too_large(file, len(raw), str(error)) from error


def check_unpacked(file: Path, size: int) -> None:
    """Raise :class:`DataError` where a packed file says that it holds much more than images or tables ever do.

    :param size: bytes of what is packed in it.
    """
    packed = file.stat().st_size
    if size > most_unpacked(packed):
        raise _too_large(file, packed, f"{size:,} bytes when unpacked")


def _too_large(file: Path, packed: int, held: str) -> DataError:
    return DataError(
        f"{file}: a packed file of {packed:,} bytes holds {held}, as no images or tables do; it was not unpacked"
        " further. Unpack it yourself if it is what you mean."
    )


def check_file(path: str | Path) -> Path:
    """Return the file as a path; DataError when it is absent or a folder."""
    file = Path(path)
    if file.is_dir():
        raise DataError(f"{file}: this is a folder. Give a file.")
    return file if file.is_file() else _absent(file, "file")


def check_folder(folder: str | Path) -> Path:
    """Return the folder as a path; DataError when it is absent or a file."""
    path = Path(folder)
    if path.is_file():
        raise DataError(f"{path}: this is a file. Give a folder.")
    return path if path.is_dir() else _absent(path, "folder")


def check_source(source: str, others: Sequence[str]) -> Path:
    """Return a file or a folder as a path; DataError when there is neither.

    :param others: what a source may be instead.
    """
    path = Path(source)
    also = f", or give {' or '.join(map(repr, others))}"
    found = path.is_file() or path.is_dir()
    return path if found else _absent(path, "file or folder", also, others)


def _absent(path: Path, kind: str, also: str = "", others: Sequence[str] = ()) -> NoReturn:
    """Raise :class:`DataError` for a path at which there is nothing, with the nearest name that there is."""
    beside = [*others]
    with suppress(OSError):
        beside += sorted(entry.name for entry in path.parent.iterdir())
    raise DataError(
        f"{path}: this {kind} does not exist (looked from {Path.cwd()}). Check name and folder{also}."
        f"{did_you_mean(path.name, beside)}"
    )


def find_file(folder: Path, names: Sequence[str]) -> Path:
    """Return the first of ``names`` in the folder, plain before ``.gz``; DataError when absent."""
    candidates = [folder / f"{name}{suffix}" for name in names for suffix in ("", ".gz")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    below = sorted({file.parent.name for name in names for file in folder.glob(f"*/{name}*")})
    hint = f" There is one in the folder {below[0]!r} below: give that one." if below else ""
    raise DataError(
        f"{folder}: expected a file called {names[0]!r} or {names[0] + '.gz'!r}, "
        f"found {_contents(folder)}.{hint}"
    )


def _contents(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    return listed(names, most=5) if names else "an empty folder"


def find_numbered(folder: Path, stem: str) -> list[Path]:
    """Return ``stem*.bin`` or ``.bin.gz`` in the order of their numbers, each batch once.

    :raises DataError: none in the folder.
    """
    found: dict[str, Path] = {}
    for suffix in (".bin.gz", ".bin"):  # the plain file, when both are there
        for file in folder.glob(f"{stem}*{suffix}"):
            found[file.name.removesuffix(suffix)] = file
    if not found:
        find_file(folder, [f"{stem}1.bin"])
    return [found[name] for name in sorted(found, key=lambda name: (len(name), name))]
