"""Does the exact answer agree, where it can be had? :func:`pyro_ssbnn.certify` as a check."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from pyro_ssbnn.analysis.certificate import certify
from pyro_ssbnn.analysis.diagnostics.report import Check
from pyro_ssbnn.inference import Fit

__all__ = ["check_certificate"]

_APART = 0.1  # of an inclusion probability: more changes what is said of a predictor


def check_certificate(
    result: Fit, x: Tensor, y: Tensor, *, budget: float, seed: int, progress: bool
) -> Check:
    """Exact beside variational: a warning where they are far apart, a note where there is no exact answer."""
    found = certify(result, x, y, budget=budget, seed=seed, progress=progress)
    table = found.table
    values: dict[str, Any] = {
        "certified": found.certified,
        "table": {str(name): dict(row) for name, row in table.iterrows()},
        "open": {name: list(members) for name, members in found.open.items()},
        "closed": dict(found.closed),
        "left_out": found.left_out,
        "r_hat": found.r_hat,
        "seconds": found.seconds,
    }
    if not found.certified:
        return Check("exact answer", "note", found.finding, values=values)
    members = table[[not str(name).endswith(".size") for name in table.index]]
    apart = float((members["exact"] - members["variational"]).abs().max()) if len(members) else 0.0
    if math.isnan(apart) or apart <= _APART:
        return Check("exact answer", "ok", found.finding, values=values)
    return Check(
        "exact answer",
        "warning",
        found.finding,
        "Quote the exact column (values, or pyro_ssbnn.certify) in place of the fit's inclusion probabilities.",
        values,
    )
