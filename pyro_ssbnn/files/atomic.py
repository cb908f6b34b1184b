"""Writing files so that an interruption never leaves a broken one under the final name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing", "write_text"]


@contextmanager
def replacing(
    path: str | Path, previous: Path | None = None, check: Callable[[], None] | None = None
) -> Iterator[Path]:
    """Give a temporary path in the same folder, which takes the place of ``path`` once the block has succeeded.

    The folder is made when it is missing. When the block raises, the temporary file is removed and an older file
    under the final name stays as it was.

    :param previous: what the older file is called from then on, in the same folder; by default it goes.
    :param check: called at the last moment before; what it raises leaves all as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept: writers of pictures and tables go by it.
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's 0600 is for secrets
        if check is not None:
            check()
        if previous is not None and path.exists():
            path.replace(previous)
        temporary.replace(path)
        _keep(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file whole or not at all (UTF-8)."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _keep(folder: Path) -> None:
    """Have the names in a folder outlast a power failure, where the system can do that."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some network file systems cannot
        pass
    finally:
        os.close(handle)
