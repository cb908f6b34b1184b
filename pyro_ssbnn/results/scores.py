"""How well a fit predicts rows with known targets, beside its pruned network and simpler models."""

from __future__ import annotations

import math
from typing import Any

from pyro_ssbnn.data import Encoded, Preprocessing
from pyro_ssbnn.inference import Fit, Mixture
from pyro_ssbnn.models import CompactNetwork
from pyro_ssbnn.posterior import PredictiveSummary
from pyro_ssbnn.posterior.ensemble import Ensemble
from pyro_ssbnn.results.baselines import baselines
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
    train: Encoded,
    test: Encoded | None,
    network: CompactNetwork | None,
    num_draws: int,
) -> tuple[PredictiveSummary, dict[str, Any]]:
    """Predict the test rows, or the training rows where there are none, and score what is predicted.

    :param network: the pruned one, of several fits the best one's; None where there is none.
    :param num_draws: of the posterior.
    :returns: what the full posterior predicts, and the scores as ``metrics.json`` holds them: ``full``, ``pruned``,
        ``baselines``, each scores by name; scores that are not finite are None.
    """
    rows = train if test is None else test
    options = {"num_draws": num_draws, "seed": result.options.seed, "rows": len(rows)}
    asked = quantiles(preprocessing, INTERVAL, scored=True)

    def scored(ensemble: Ensemble) -> tuple[PredictiveSummary, dict[str, float | None]]:
        summary = ensemble.summary(rows.x, rows.observed, asked)
        running = RunningScores(preprocessing)
        running.add(summary, rows.observed)
        found = running.result()
        return summary, {k: v if math.isfinite(v) else None for k, v in found.items()}

    summary, full = scored(full_ensemble(result, preprocessing, **options))
    metrics: dict[str, Any] = {
        "rows": "training" if test is None else "test",
        "number_of_rows": len(rows),
        "collapsed": result.collapsed,
        "full": full,
        "baselines": baselines(train, rows, preprocessing),
    }
    if network is not None:
        pruned = pruned_ensemble(network, result.best, preprocessing, **options)
        metrics["pruned"] = scored(pruned)[1]
    return summary, metrics
