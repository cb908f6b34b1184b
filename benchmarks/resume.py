"""Runs of many fits that go on where they stopped: a JSON file keeps each finished one under its key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pyro_ssbnn.files.atomic import write_text
from pyro_ssbnn.parallel import run_jobs

__all__ = ["run_missing"]


def run_missing(
    keys: Iterable[str],
    run: Callable[[str], dict[str, Any]],
    file: Path | None,
    shown: str | None = None,
    jobs: int | None = None,
) -> dict[str, Any]:
    """All records by key: those of the file, and of what was missing there and has now run.

    :param run: makes the record of a key.
    :param file: written after every fit, together with what other processes have written since; None keeps nothing.
    :param shown: entry of a new record that is printed, None for all of it.
    :param jobs: fits at a time, each in a process of its own, after which the file is written; None makes one after
        another in this process.
    """
    results = _read(file)
    missing = [key for key in keys if key not in results]
    for at in range(0, len(missing), jobs or 1):
        some = missing[at : at + (jobs or 1)]
        records = (
            run_jobs(run, {key: (key,) for key in some}, n_jobs=jobs) if jobs else map(run, some)
        )
        new = dict(zip(some, records, strict=True))
        for key, record in new.items():
            print(key, json.dumps(record[shown] if shown else record), flush=True)
        results = {**results, **_read(file), **new}
        if file is not None:
            write_text(file, json.dumps(results, indent=1) + "\n")
    return results


def _read(file: Path | None) -> dict[str, Any]:
    return json.loads(file.read_text()) if file is not None and file.exists() else {}
