"""Checkpoints of a run: the fit as of the end of a block of epochs, on disk, so that a killed process loses little."""

from __future__ import annotations

import logging
import os
import time
from os import PathLike
from pathlib import Path

from pyro_ssbnn.checks import check_positive, check_that
from pyro_ssbnn.errors import CheckpointError, ConfigurationError
from pyro_ssbnn.inference.result import Fit
from pyro_ssbnn.inference.saving import load_fit, write_fit

__all__ = ["EVERY", "Checkpoints", "last_checkpoint"]

EVERY = 60.0
"""Seconds between two checkpoints."""

_LEAST_SHARE = 150  # times its own cost passes before the next one, so that all cost less than 1 %
_log = logging.getLogger(__name__)


class Checkpoints:
    """Where a run writes what :func:`~pyro_ssbnn.load_fit` reads, and when.

    The last two are kept: ``run.safetensors``, and ``run.previous.safetensors``. Each takes its name once it is whole
    on the disk. One that cannot be written is reported to the log, and the run goes on; only the first must succeed.
    Nor is one written over what another run has put there meanwhile.

    :param path: of the newest one; None writes none.
    :param every: seconds between two.
    :param resumes: whether the run goes on from an earlier one, whose checkpoint may then be replaced.
    :raises ConfigurationError: where there is a checkpoint of another run.
    """

    def __init__(
        self, path: str | Path | None, every: float = EVERY, *, resumes: bool = False
    ) -> None:
        check_positive("fit", checkpoint_every=every)
        check_that("fit", "checkpoint", path, isinstance(path, str | PathLike | None), "a path")
        self.path = None if path is None else Path(path)
        self._every, self._next = every, float("inf")
        self._written: tuple[int, int] | None = None
        if self.path is not None and not resumes:
            for file in (self.path, _previous(self.path)):
                if file.exists():
                    raise ConfigurationError(
                        f"fit: {file} is there already, the checkpoint of an earlier run. Go on from it by"
                        f" fit(..., resume=load_fit({str(file)!r}), checkpoint=...), remove it, or give another path."
                    )

    @property
    def due(self) -> bool:
        """Whether it is time for the next one."""
        return time.perf_counter() >= self._next

    def begin(self, result: Fit) -> None:
        """Write the first one: what cannot be written is better known now.

        :raises ConfigurationError: when it cannot.
        """
        try:
            self._write(result)
        except OSError as error:
            raise ConfigurationError(
                f"fit: the checkpoint cannot be written: {error}. Give another path, or make room."
            ) from error

    def write(self, result: Fit) -> None:
        """Write one if that is possible."""
        try:
            self._write(result)
        except OSError as error:
            _log.warning("No checkpoint after %g epochs: %s", result.history.epoch, error)

    def _write(self, result: Fit) -> None:
        if self.path is None:
            return
        start = time.perf_counter()
        try:
            self._require_own()
            write_fit(result, self.path, _previous(self.path), self._require_own)
            self._written = self._stamp()
        finally:
            now = time.perf_counter()
            self._next = now + max(self._every, _LEAST_SHARE * (now - start))
        _log.info("Checkpoint after %g epochs: %s", result.history.epoch, self.path)

    def _require_own(self) -> None:
        """Refuse to replace what another run has put in place of this one's checkpoint."""
        if self._written is not None and self._stamp() not in (None, self._written):
            raise FileExistsError(f"{self.path} is there, and not what this run wrote")

    def _stamp(self) -> tuple[int, int] | None:
        """What tells the file of the newest checkpoint from another, None where there is none."""
        try:
            found = os.stat(self.path or "")
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size


def last_checkpoint(path: Path) -> Fit | None:
    """The newest checkpoint that can be read, None where there is none.

    :raises CheckpointError: when there are some, and none can be read.
    """
    trouble = None
    for file in (path, _previous(path)):
        if file.exists():
            try:
                return load_fit(file)
            except CheckpointError as error:
                _log.warning("%s", error)
                trouble = trouble or error
    if trouble is not None:
        raise trouble
    return None


def _previous(path: Path) -> Path:
    return path.with_name(f"{path.stem}.previous{path.suffix}")
