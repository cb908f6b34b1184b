"""What there is of a fit, in one place: the run folder and the estimators both give it, reports are made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from pyro_ssbnn.analysis import Report
from pyro_ssbnn.data import Encoded, Preprocessing
from pyro_ssbnn.inference import Fit, Mixture
from pyro_ssbnn.results.predictors import predictor_table

__all__ = ["Results"]


@dataclass(frozen=True)
class Results:
    """A fit with what was made of it; what is None was not made, or cannot be.

    :param fit: network, guide, history; of the standardised target. Of several fits the pruned network, single nodes
        and the training are those of the best.
    :param preprocessing: what was learnt of table and target.
    :param train: the rows that were fitted to.
    :param test: rows kept from the fit.
    :param metrics: scores as :func:`~pyro_ssbnn.results.scores.scores` gives them.
    :param checks: verdicts of :func:`~pyro_ssbnn.diagnose`.
    :param pruning: nodes, weights and multiply-adds before and after: ``report`` of a :class:`~pyro_ssbnn.Pruning`.
    :param joint: predictors weighed jointly, in the network's order: their ``inclusion``, as in the ``summary`` of a
        :class:`~pyro_ssbnn.PredictorLaw`.
    :param latency: times of the forward pass, as :func:`~pyro_ssbnn.analysis.pruning_latency` gives them.
    :param facts: how it was made, a sentence or number by name.
    :param command: what was typed to make it.
    :param num_draws: posterior draws that predictions average over.
    """

    fit: Fit | Mixture
    preprocessing: Preprocessing
    train: Encoded | None = None
    test: Encoded | None = None
    metrics: Mapping[str, Any] | None = None
    checks: Report | None = None
    pruning: pd.DataFrame | None = None
    latency: pd.DataFrame | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    num_draws: int = 200
    joint: pd.DataFrame | None = None

    @property
    def predictors(self) -> pd.DataFrame:
        """One row a column of the table, the likeliest first, columns outside the network last.

        Where predictors were weighed jointly, ``jointly`` is their inclusion then.
        """
        table = predictor_table(self.fit, self.preprocessing)
        names = self.fit.model.description.inputs.names
        if self.joint is not None and len(self.joint) == len(names):
            found = dict(zip(names, self.joint["inclusion"], strict=True))
            table.insert(1, "jointly", [found.get(name) for name in table.index])
        return table.sort_values(["inclusion", "norm"], ascending=False, kind="stable")
