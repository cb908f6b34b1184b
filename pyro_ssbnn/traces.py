"""Reading Pyro traces."""

from __future__ import annotations

from typing import Any

from pyro.poutine.trace_struct import Trace

__all__ = ["random_sites"]


def random_sites(trace: Trace) -> list[str]:
    """Names of a trace's sample sites in order, without plates' index sites and deterministic ones."""
    nodes: dict[str, Any] = {**trace.nodes}
    return [
        name
        for name, site in nodes.items()
        if site["type"] == "sample"
        and type(site["fn"]).__name__ != "_Subsample"  # a plate's own bookkeeping
        and not (site["infer"] or {}).get("_deterministic")
    ]
