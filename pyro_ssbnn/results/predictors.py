"""One row a column of the table: whether it is in the network, and why it is not."""

from __future__ import annotations

import pandas as pd

from pyro_ssbnn.analysis import inclusion_summary
from pyro_ssbnn.data import Preprocessing, TableDescription
from pyro_ssbnn.inference import Fit, Mixture

__all__ = ["predictor_table"]

_COLUMNS = ["inclusion", "prior_inclusion", "log_bayes_factor", "norm", "selected"]
_RANGE = ["lowest", "highest"]
_LINEAR = ["nonlinear", "linear", "effect"]


def predictor_table(result: Fit | Mixture, preprocessing: Preprocessing) -> pd.DataFrame:
    """Predictors in the network's order, then columns outside it.

    Columns: ``inclusion``, the posterior probability of being in the network; ``prior_inclusion``;
    ``log_bayes_factor``; ``norm`` of the weights; ``nonlinear``, ``linear`` and ``effect`` where there are linear terms
    (:func:`~pyro_ssbnn.inclusion_summary`); ``selected``; ``note``, why a column is closed or was left out. Of several
    fits also ``lowest`` and ``highest``, the inclusion's range. Without gates every predictor is in.
    """
    inputs = result.model.description.inputs
    if inputs.gated:
        history = None if isinstance(result, Mixture) else result.history
        table = inclusion_summary(result.guide, history=history)
        table = table[table["group"] == inputs.name]
        known = (*_COLUMNS[:1], *_RANGE, *_COLUMNS[1:-1], *_LINEAR, "selected")
        table = table[[name for name in known if name in table]]
    else:
        in_all = {"inclusion": 1.0, "prior_inclusion": 1.0, "selected": True}
        table = pd.DataFrame(in_all, index=list(inputs.names)).reindex(columns=_COLUMNS)
    table = table.assign(note="")
    features = preprocessing.features
    if isinstance(features, TableDescription) and (features.closed or features.left_out):
        reasons = {**features.closed, **features.left_out}
        absent = pd.DataFrame(
            {"inclusion": 0.0, "selected": False, "note": list(reasons.values())},
            index=list(reasons),
        )
        absent = absent.reindex(columns=table.columns).astype({"selected": bool})
        table = pd.concat([table, absent])
    return table.rename_axis("predictor")
