"""What was found, in three lines: which predictors matter, how well it predicts, how small it became."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from pyro_ssbnn.display import plain
from pyro_ssbnn.results.results import Results

__all__ = ["best_simple", "findings"]

_UNDECIDED = (0.2, 0.8)  # inclusion probabilities that say little
_APART = 0.2  # change of an inclusion probability, once predictors are weighed jointly
_MOST = 6  # names in a sentence
_SIMPLE = {
    "mean": "the mean",
    "lasso": "a lasso",
    "shares": "the most frequent class",
    "logistic": "a logistic model",
}


def findings(results: Results) -> list[str]:
    """One sentence each, those that there is something to say of."""
    told = [_predictors(results), _predictions(results), _size(results)]
    return [sentence for sentence in told if sentence]


def _predictors(results: Results) -> str:
    inputs = results.fit.model.description.inputs
    if not inputs.gated and results.preprocessing.image_shape is not None:
        return ""  # nobody asks which pixels are in
    if not inputs.gated:
        return f"The predictors carry no gates: all {inputs.size:,} are in the network."
    table = results.predictors
    table = table[table["note"] == ""]
    chosen, rest = table[table["selected"]], table[~table["selected"]]
    low, high = _UNDECIDED
    open_ones = chosen[chosen["inclusion"] < high].index.tolist()
    open_ones += rest[rest["inclusion"] > low].index.tolist()
    number = f"{len(chosen):,} of {inputs.size:,} predictors"
    if chosen.empty:
        text = "No predictor is in the network: it predicts a constant"
    else:
        verb = "is" if len(chosen) == 1 else "are"
        sure = chosen["inclusion"][chosen["inclusion"] >= high]
        text = f"{number} {verb} in the network{': ' if len(sure) else ''}{_with_inclusion(sure)}"
    if open_ones:
        text += f"; undecided: {_with_inclusion(table['inclusion'][open_ones])}"
    if "jointly" in table:
        apart = (table["jointly"] - table["inclusion"]).abs() > _APART
        if apart.any():
            text += f"; weighed jointly: {_with_inclusion(table['jointly'][apart])}"
    return f"{text}."


def _with_inclusion(inclusion: pd.Series[float]) -> str:
    told = [f"{name} ({value:.2f})" for name, value in inclusion.items()]
    more = f" and {len(told) - _MOST} more" if len(told) > _MOST else ""
    return ", ".join(told[:_MOST]) + more


def _predictions(results: Results) -> str:
    metrics = results.metrics
    if metrics is None:
        return ""
    full, simple = metrics["full"], metrics.get("baselines") or {}
    rows = f"{metrics['number_of_rows']:,} {metrics['rows']} rows"
    target = results.preprocessing.target_name
    if "accuracy" in full:
        others = _compared(simple, "accuracy")
        return (
            f"It predicts {target} rightly in {100 * full['accuracy']:.0f} % of the {rows}{others}."
        )
    if full.get("r2") is not None:
        others = _compared(simple, "r2")
        held = f"its 90 % intervals hold {100 * full['coverage_90']:.0f} % of them"
        share = f"{100 * full['r2']:.0f} %" if full["r2"] > 0 else "nothing"
        what = f"{share} of the variance of {target}"
        return f"It explains {what} in the {rows}{others}; {held}."
    return f"The error of {target} in the {rows} is {plain(full['rmse'])} (root mean square)."


def _compared(simple: Mapping[str, Mapping[str, float]], score: str) -> str:
    """What the best of the simpler models has of a score that is better the higher it is."""
    best = best_simple(simple, score)
    return "" if best is None else f" ({best[1]}: {100 * simple[best[0]][score]:.0f} %)"


def best_simple(simple: Mapping[str, Mapping[str, float]], score: str) -> tuple[str, str] | None:
    """Name of the best of the simpler models by a score that is better the higher it is, and its name in words."""
    found = {name: s[score] for name, s in simple.items() if s.get(score) is not None}
    if not found:
        return None
    best = max(found, key=lambda name: found[name])
    return best, _SIMPLE.get(best, best)


def _size(results: Results) -> str:
    fit, pruning = results.fit, results.pruning
    if fit.collapsed:
        return f"No node of {', '.join(fit.collapsed)} is active: what is left predicts a constant."
    if pruning is None:
        return ""
    kept, weights = (int(pruning[name].loc["total"]) for name in ("weights_kept", "weights"))
    text = f"Pruned, the network has {kept:,} of {weights:,} weights"
    pruned = (results.metrics or {}).get("pruned")
    return f"{text} ({plain(100 * kept / weights, 2)} %){_kept_scores(pruned)}."


def _kept_scores(pruned: Mapping[str, float] | None) -> str:
    if not pruned:
        return ""
    for name, words in (("accuracy", "is right in"), ("r2", "explains")):
        if pruned.get(name) is not None:
            return f" and {words} {100 * pruned[name]:.0f} %"
    return ""
