"""Checks that a fit alone cannot make: its scores beside simpler models', and what its table lacked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pyro_ssbnn.analysis import Check, Report
from pyro_ssbnn.analysis.diagnostics.report import SCALE_RATIO, SERIOUS, SIGMAS
from pyro_ssbnn.data import Preprocessing, TableDescription
from pyro_ssbnn.results.findings import best_simple

__all__ = ["with_data_checks"]

_LEAST = 1e-12  # of a share of the variance that is left
_ADVICE = (
    "Look at convergence, schedule and signal first. Where they are ok, take the simpler model, or let the network be"
    " one: no hidden layers, or linear terms beside them."
)


def with_data_checks(
    report: Report, preprocessing: Preprocessing, metrics: Mapping[str, Any] | None
) -> Report:
    """The report, and what scores and table add to it.

    :param metrics: see :func:`~pyro_ssbnn.results.scores.scores`; None where there are none.
    """
    return Report((*report, *_simpler_models(metrics or {}), *_missing_values(preprocessing)))


def _simpler_models(metrics: Mapping[str, Any]) -> list[Check]:
    """Whether the best of them predicts better; a warning where that is serious, and more than chance."""
    full, simple = metrics.get("full", {}), metrics.get("baselines") or {}
    score = "accuracy" if "accuracy" in full else "r2"
    best = best_simple(simple, score)
    if best is None or full.get(score) is None:
        return []
    name, words = best
    other, own, number = simple[name][score], full[score], metrics["number_of_rows"]
    if score == "accuracy":
        has = f"is right in {100 * other:.1f} % of them, the network in {100 * own:.1f} %"
        error = math.sqrt((own * (1 - own) + other * (1 - other)) / number)
        nats = [s["nll"] if s.get("nll") is not None else math.inf for s in (full, simple[name])]
        apart, serious = other - own, nats[0] - nats[1] >= SERIOUS
    else:
        has = f"has an R^2 of {other:.3f}, the network {own:.3f}"
        error = 1 / math.sqrt(number)  # of the logarithm below, for Normal errors, at most
        apart = math.log(max(1 - own, _LEAST) / max(1 - other, _LEAST)) / 2  # of scales of errors
        serious = apart >= math.log(SCALE_RATIO)
    rows = f"{number:,} {metrics['rows']} rows"
    values = {"model": name, "score": score, "simpler": other, "network": own, "rows": number}
    if apart <= 0:
        found = f"No simpler model predicts the {rows} better: {words} {has}."
        return [Check("simpler models", "ok", found, "", values)]
    chance = apart <= SIGMAS * error
    luck = " With so few rows that may be chance." if chance else ""
    found = f"A simpler model predicts the {rows} better: {words} {has}.{luck}"
    warns = serious and not chance and metrics["rows"] == "test"
    return [Check("simpler models", "warning" if warns else "note", found, _ADVICE, values)]


def _missing_values(preprocessing: Preprocessing) -> list[Check]:
    table = preprocessing.features
    predictors = table.predictors if isinstance(table, TableDescription) else ()
    names = [p.name for p in predictors if p.marks_missing]
    if not names:
        return []
    found = f"Columns with missing values, filled in within the fit: {', '.join(names)}."
    advice = "That a value is missing is learnt like a value: new rows should lack theirs for the same reasons."
    return [Check("missing values", "note", found, advice, {"columns": names})]
