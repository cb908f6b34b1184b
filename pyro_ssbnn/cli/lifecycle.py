"""A run folder from its first moment to its last: who may write it, and how far it is.

The folder is there from the start. While ``unfinished.json`` is in it, training or what is made of the fit is not done;
``fit --resume`` or ``finish`` goes on. One process at a time writes it, which the system's lock on ``.lock`` sees to;
a killed process holds none. A run that replaces another (``--overwrite``) is made beside it, as ``RUN.new``.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pyro_ssbnn.cli.run_folder import RunFolder, resume_command
from pyro_ssbnn.data.encoded_rows import clear_half_written
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.files.untrusted import read_json

__all__ = [
    "begin",
    "check_free",
    "claiming",
    "complete",
    "leftovers",
    "occupying",
    "restore",
    "update",
]

_LOCK = ".lock"
_MARKER = "pyro_ssbnn unfinished run"
# As Python's tempfile names them, and the writer of safetensors.
_TEMPORARY = re.compile(r"\.[^/]+-[a-z0-9_]{8}(\.\w+)?|\.tmp\w{6}")
_SIBLING = r"\.{}-[0-9a-f]{{8}}"


def check_free(path: Path, overwrite: bool) -> None:
    """Raise :class:`ConfigurationError` unless a run may be written there.

    Only an earlier run or an empty folder is ever overwritten.
    """
    for parent in path.parents:
        if parent.exists() and not parent.is_dir():
            raise ConfigurationError(f"{path}: {parent} is a file. Choose another --out.")
    if not path.exists() or (path.is_dir() and _is_bare(path)):
        return
    folder = RunFolder(path)
    if not path.is_dir() or not (folder.config_file.is_file() or folder.state is not None):
        raise ConfigurationError(
            f"{path}: exists and is no run folder, so it is left alone. Choose another --out."
        )
    if overwrite:
        return
    if folder.state is not None:
        raise ConfigurationError(
            f"{path}: there is an unfinished run. Go on with it: {resume_command(path)}; or start anew with"
            " --overwrite, or choose another --out."
        )
    raise ConfigurationError(
        f"{path}: there is a run already. Choose another --out, or replace it with --overwrite."
    )


@contextmanager
def claiming(path: Path, overwrite: bool) -> Iterator[RunFolder]:
    """Hold the folder in which a new run is to be made, for the block.

    As long as nothing has begun in it (:func:`begin`), it leaves no trace, whatever ends the block.

    :raises ConfigurationError: when it is not free, cannot be made, or another process holds it.
    """
    try:
        path = path.resolve()
        check_free(path, overwrite)
        finished = not _is_bare(path) and RunFolder(path).state is None
        place = path.with_name(f"{path.name}.new") if finished else path
        check_free(place, overwrite)
        made = [p for p in (place, *place.parents) if not p.exists()]  # nearest first
        place.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise ConfigurationError(f"--out {path}: cannot be made ({error}).") from error
    folder = RunFolder(place)
    try:
        with _locked(place):
            try:
                check_free(place, overwrite)  # another run may have come meanwhile
                yield folder
            finally:
                if _is_bare(place):
                    (place / _LOCK).unlink(missing_ok=True)
    finally:
        for parent in made:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


@contextmanager
def occupying(path: Path) -> Iterator[RunFolder]:
    """Hold a run folder that is there, for the block, and clear away what a killed process left in it.

    :raises ConfigurationError: when another process holds it.
    """
    folder = RunFolder(path)
    folder.read_config(unfinished=True)
    with _locked(folder.path):
        for file in folder.path.rglob("*"):
            if _TEMPORARY.fullmatch(file.name) and file.is_file() and not file.is_symlink():
                file.unlink()
        clear_half_written(folder.data)
        yield folder


def begin(folder: RunFolder, target: Path, config: Mapping[str, Any]) -> None:
    """Make the held folder an unfinished run; what an earlier unfinished run left goes."""
    folder.write_json(folder.state_file, _state(replaces=folder.path.name != target.resolve().name))
    for entry in folder.path.iterdir():
        if entry.name not in (_LOCK, folder.state_file.name):
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    folder.write_json(folder.config_file, config)


def restore(folder: RunFolder, config: Mapping[str, Any]) -> None:
    """Make the held folder an unfinished run again, where someone has removed it meanwhile.

    :raises ConfigurationError: where another run has begun there since.
    """
    if not folder.config_file.exists():
        folder.write_json(folder.config_file, config)
        update(folder, trained=False, failed={})
    elif read_json(folder.config_file) != json.loads(json.dumps(config)):
        raise ConfigurationError(
            f"{folder.path}: was removed while this run was trained, and another has begun there, which is left alone;"
            " this one is not saved. Give each run a folder of its own."
        )


def update(folder: RunFolder, *, trained: bool, failed: Mapping[str, str]) -> None:
    """Say how far an unfinished run is.

    :param failed: why what was to be made of the fit could not be made.
    """
    replaces = bool((folder.state or {}).get("replaces"))
    state = _state(trained=trained, replaces=replaces, failed=failed)
    folder.write_json(folder.state_file, state)


def complete(folder: RunFolder) -> Path:
    """Make the held folder a finished run, in the place of the one it replaces; returns its path."""
    path = folder.path.resolve()
    if (folder.state or {}).get("replaces") and path.name.endswith(".new"):
        path = path.with_name(path.name.removesuffix(".new"))
        check_free(path, overwrite=True)
        old = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
        if path.exists():
            path.rename(old)
        try:
            folder.path.rename(path)
        except BaseException:
            if old.exists():
                old.rename(path)
            raise
        if old.exists():
            shutil.rmtree(old)
    done = RunFolder(path)
    done.state_file.unlink(missing_ok=True)
    (path / _LOCK).unlink(missing_ok=True)
    return path


def leftovers(path: Path) -> str:
    """The command that removes what killed processes left beside a run, nothing where there is none."""
    path = path.resolve()
    name = re.compile(_SIBLING.format(re.escape(path.name)))
    found = sorted(p for p in path.parent.glob(f".{path.name}-*") if name.fullmatch(p.name))
    return f"rm -r {' '.join(shlex.quote(str(p)) for p in found)}" if found else ""


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(path / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise ConfigurationError(
            f"{path}: another process is writing this run now. Wait for it, or choose another --out."
        ) from error
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written ({error.strerror}).") from error
    try:
        yield
    finally:
        lock.release()


def _state(
    *, trained: bool = False, replaces: bool = False, failed: Mapping[str, str] | None = None
) -> dict[str, Any]:
    return {"format": _MARKER, "trained": trained, "replaces": replaces, "failed": failed or {}}


def _is_bare(path: Path) -> bool:
    """Whether there is nothing in a folder, or only what a process leaves that was killed before it began."""
    if not path.is_dir():
        return not path.exists()
    return all(p.name == _LOCK or _TEMPORARY.fullmatch(p.name) for p in path.iterdir())
