"""Which processes of a run are still there: each says so once a second, and says why when it ends.

A collective operation whose partner has died fails at once, or waits for ever, and names nobody. So every rank counts
up a key of its own in the process group's store, from a thread beside the training; whoever waits looks whose count
stands still. Only changes are compared, never clocks of two machines.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from contextlib import suppress
from typing import Any

from pyro_ssbnn.errors import RankError

__all__ = ["Presence"]

_EVERY = 1.0  # seconds between two signs of life
_SILENT = 20.0  # after which a rank that others wait for is given up
_SUSPECT = 4.0  # the same once an operation has failed
_LONGEST = 500  # characters of a reason


class Presence:
    """Signs of life of all ranks.

    :param store: of the process group.
    :param name: of the run, another one for each.
    """

    def __init__(self, store: Any, name: str, rank: int, size: int) -> None:
        self._store, self._name, self.rank, self.size = store, name, rank, size
        self._others = [other for other in range(size) if other != rank]
        self._seen: dict[int, tuple[bytes, float]] = {}
        self._ended = threading.Event()
        where = f"{platform.node()}, process {os.getpid()}"
        for kind, text in (("where", where), ("left", ""), ("alive", "0")):
            self._store.set(self._key(kind, rank), text)
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def begin(self) -> None:
        """Begin to give signs of life, once every rank has made its object."""
        self._thread.start()

    def leave(self, reason: str = "") -> None:
        """End them.

        :param reason: what the others should know, of a rank that ends before its work is done.
        """
        self._ended.set()
        with suppress(Exception):  # the store may be gone
            if reason:
                self._store.set(self._key("left", self.rank), reason[:_LONGEST])
        self._thread.join(_EVERY)

    def check(self) -> None:
        """Look at the others, in a wait that lasts.

        :raises RankError: naming one that has left, or has been silent for long.
        """
        lost = self._lost(_SILENT)
        if lost is not None:
            raise lost

    def missing(self) -> RankError | None:
        """Who is missing, after an operation has failed; None where all others show signs of life."""
        self._seen.clear()
        end = time.monotonic() + _SUSPECT + 2 * _EVERY
        while time.monotonic() < end:
            lost = self._lost(_SUSPECT)
            if lost is not None:
                return lost
            time.sleep(_EVERY / 4)
        return None

    def _lost(self, after: float) -> RankError | None:
        silent = None
        for other in self._others:
            try:
                left = self._read("left", other)
                count = self._read("alive", other)
            except Exception:  # whatever the store's client raises
                return RankError(
                    "the store of the process group no longer answers: the process that keeps it has ended, rank 0"
                    " unless torchrun does."
                )
            now = time.monotonic()
            before, since = self._seen.get(other, (b"", now))
            if count != before:
                since = now
            self._seen[other] = (count, since)
            if left:
                return RankError(
                    f"{self._called(other)} has ended: {left.decode(errors='replace')}"
                )
            if silent is None and now - since >= after:
                silent = RankError(
                    f"{self._called(other)} has given no sign of life for {now - since:.0f} s: it was killed, or its"
                    " machine cannot be reached."
                )
        return silent

    def _called(self, other: int) -> str:
        where = ""
        with suppress(Exception):
            where = f" ({self._read('where', other).decode()})"
        return f"rank {other} of {self.size}{where}"

    def _read(self, kind: str, rank: int) -> bytes:
        return bytes(self._store.get(self._key(kind, rank)))

    def _beat(self) -> None:
        count = 0
        while not self._ended.wait(_EVERY):
            count += 1
            with suppress(Exception):
                self._store.set(self._key("alive", self.rank), str(count))

    def _key(self, kind: str, rank: int) -> str:
        return f"pyro_ssbnn/{self._name}/{kind}/{rank}"
