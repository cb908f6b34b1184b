"""How well a fit predicts rows with known targets, beside its pruned network and simpler models."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pyro_ssbnn.data import Encoded, EncodedRows, Preprocessing
from pyro_ssbnn.inference import Fit, Mixture
from pyro_ssbnn.models import CompactNetwork
from pyro_ssbnn.posterior import PredictiveSummary
from pyro_ssbnn.posterior.ensemble import Ensemble
from pyro_ssbnn.results.baselines import MOST_VALUES, baselines
from pyro_ssbnn.results.predictions import (
    RunningScores,
    full_ensemble,
    pruned_ensemble,
    quantiles,
)

__all__ = ["INTERVAL", "scores"]

INTERVAL = 0.9
"""Probability of the intervals beside predictions."""


def scores(
    result: Fit | Mixture,
    preprocessing: Preprocessing,
    train: Encoded | EncodedRows,
    test: Encoded | EncodedRows | None,
    network: CompactNetwork | None,
    num_draws: int,
    seen: Callable[[Encoded, PredictiveSummary], None] = lambda rows, summary: None,
) -> dict[str, Any]:
    """Predict the test rows, or the training rows where there are none, and score what is predicted.

    :param network: the pruned one, of several fits the best one's; None where there is none.
    :param num_draws: of the posterior.
    :param seen: called with rows that were predicted together, and what the full posterior predicts of them.
    :returns: the scores as ``metrics.json`` holds them: ``full``, ``pruned``, ``baselines``, each scores by name;
        scores that are not finite are None. Rows that are read in pieces have the baselines of a sample.
    """
    rows = train if test is None else test
    options = {"num_draws": num_draws, "seed": result.options.seed, "rows": rows.together}
    asked = quantiles(preprocessing, INTERVAL, scored=True)

    def scored(
        ensemble: Ensemble, seen: Callable[[Encoded, PredictiveSummary], None]
    ) -> dict[str, float | None]:
        running = RunningScores(preprocessing)
        for part in rows.parts():
            summary = ensemble.summary(part.x, part.observed, asked)
            running.add(summary, part.observed)
            seen(part, summary)
        found = running.result()
        return {k: v if math.isfinite(v) else None for k, v in found.items()}

    full = scored(full_ensemble(result, preprocessing, **options), seen)
    columns = (
        len(preprocessing.feature_names)
        if preprocessing.widths is None
        else sum(preprocessing.widths)
    )
    most = max(1, MOST_VALUES // columns)
    metrics: dict[str, Any] = {
        "rows": "training" if test is None else "test",
        "number_of_rows": len(rows),
        "collapsed": result.collapsed,
        "full": full,
        "baselines": baselines(train.sample(most), rows.sample(most), preprocessing),
    }
    if network is not None:
        pruned = pruned_ensemble(network, result.best, preprocessing, **options)
        metrics["pruned"] = scored(pruned, lambda rows, summary: None)
    return metrics
