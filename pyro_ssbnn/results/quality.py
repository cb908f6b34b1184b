"""The section on how well a fit predicts: scores beside baselines, and whether its probabilities can be believed."""

from __future__ import annotations

import torch

from pyro_ssbnn.analysis import plots
from pyro_ssbnn.data import Encoded
from pyro_ssbnn.display import plain
from pyro_ssbnn.results import tips
from pyro_ssbnn.results.blocks import Block, Gallery, Table
from pyro_ssbnn.results.figures import Figure, drawn
from pyro_ssbnn.results.predictions import SCORES, full_ensemble
from pyro_ssbnn.results.results import Results

__all__ = ["predictions"]

_MOST_ROWS = 2_000  # looked at for the figures
_LEVELS = tuple(i / 10 for i in range(1, 10))  # probabilities of the intervals
_COLUMNS = {"full": "full posterior", "pruned": "pruned"}


def predictions(results: Results) -> list[Block]:
    """Scores as they were taken, and figures from the rows that were kept from the fit, where there are some."""
    found: list[Block] = []
    rows = results.train if results.test is None else results.test
    if rows is not None:
        kind = "training" if results.test is None else "test"
        found.append(Gallery(_figures(results, rows, kind)))
    if results.metrics is not None:
        found.append(_scores(results))
    return found


def _scores(results: Results) -> Table:
    metrics = results.metrics or {}
    columns = {name: metrics[key] for key, name in _COLUMNS.items() if key in metrics}
    columns |= metrics.get("baselines") or {}
    rows = []
    for key in metrics["full"]:
        name, meaning = SCORES.get(key, (key, ""))
        values = [scores.get(key) for scores in columns.values()]
        rows.append([name, *("" if v is None else plain(v) for v in values), meaning])
    caption = (
        f"Scores on the {metrics['number_of_rows']:,} {metrics['rows']} rows, beside simpler models"
    )
    return Table(caption, ["score", *columns, "meaning"], rows, words=(0, 1 + len(columns)))


def _figures(results: Results, rows: Encoded, kind: str) -> list[Figure]:
    fit, prepared = results.fit, results.preprocessing
    x, y = rows.x[:_MOST_ROWS], rows.observed[:_MOST_ROWS]
    ensemble = full_ensemble(
        fit, prepared, num_draws=results.num_draws, seed=fit.options.seed, rows=_MOST_ROWS
    )
    counted = f"{len(x):,} {kind} rows"
    if prepared.class_names:
        p = ensemble.summary(x).mean
        return [
            drawn(
                "reliability",
                lambda: plots.plot_reliability(p, y.long(), class_names=prepared.class_names),
                f"Predicted probabilities against what happened, in {counted}.",
                f"Reliability of class probabilities in {counted}, with the number of cases of each bin.",
                lambda panels: tips.of_reliability(p, y.long()),
            )
        ]
    asked = sorted(p for level in _LEVELS for p in ((1 - level) / 2, (1 + level) / 2))
    found = ensemble.summary(x, None, [round(p, 10) for p in asked])
    inside = torch.stack([(low <= y) & (y <= high) for low, high in map(found.interval, _LEVELS)])
    covered = inside.double().mean(1).numpy()
    mean, low, high = (v.numpy() for v in (found.mean, *found.interval(0.9)))
    return [
        drawn(
            "coverage",
            lambda: plots.plot_coverage(_LEVELS, covered, len(x)),
            f"How often central intervals hold the target, in {counted}.",
            f"Coverage of central intervals in {counted}: 50 % intervals hold {100 * covered[4]:.0f} %, 90 % intervals"
            f" {100 * covered[8]:.0f} %.",
            lambda panels: tips.of_coverage(_LEVELS, covered, len(x)),
        ),
        drawn(
            "observed",
            lambda: plots.plot_observed(mean, y.numpy(), low, high, name=prepared.target_name),
            f"{prepared.target_name} as it was, against its prediction with 90 % intervals.",
            f"Observed {prepared.target_name} against predicted means in {counted}.",
        ),
    ]
