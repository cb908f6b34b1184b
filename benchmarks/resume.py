"""Runs of many fits that go on where they stopped: a JSON file keeps each finished one under its key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pyro_ssbnn.files.atomic import write_text

__all__ = ["run_missing"]


def run_missing(
    keys: Iterable[str],
    run: Callable[[str], dict[str, Any]],
    file: Path | None,
    shown: str | None = None,
) -> dict[str, Any]:
    """All records by key: those of the file, and of what was missing there and has now run.

    :param file: written after every fit, together with what other processes have written since; None keeps nothing.
    :param shown: entry of a new record that is printed, None for all of it.
    """
    results = _read(file)
    for key in keys:
        if key in results:
            continue
        record = run(key)
        print(key, json.dumps(record[shown] if shown else record), flush=True)
        results = {**results, **_read(file), key: record}
        if file is not None:
            write_text(file, json.dumps(results, indent=1) + "\n")
    return results


def _read(file: Path | None) -> dict[str, Any]:
    return json.loads(file.read_text()) if file is not None and file.exists() else {}
