"""Selection with error control as tables: what a false discovery rate keeps, how sure the size is, credible sets."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch

from pyro_ssbnn.analysis.inclusion import predictor_names
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.selection.error_control import (
    expected_false_omissions,
    expected_false_selections,
    model_size,
    select_fdr,
)
from pyro_ssbnn.selection.joint import credible_sets
from pyro_ssbnn.selection.predictor_law import PredictorLaw
from pyro_ssbnn.structure.guide import Guide

__all__ = ["credible_set_summary", "error_control_summary"]


def error_control_summary(
    guide: Guide, level: float = 0.1, probability: float = 0.9
) -> pd.DataFrame:
    r"""One row a gated group, predictors (``input``) first where they are gated; each group is a family of its own.

    Columns: ``nodes``; ``selected``, the number that :func:`~pyro_ssbnn.select_fdr` keeps; ``expected_false`` and
    ``expected_missed``, posterior expected numbers of false ones among the kept and of true ones among the dropped;
    ``size_mode``, ``size_low``, ``size_high``, most probable number of open gates and the equal-tailed interval of that
    posterior probability, :math:`\min\{k : P(K \le k) \ge a\}` for a = (1 - probability)/2 and (1 + probability)/2.

    :param level: largest Bayesian false discovery rate, in [0, 1).
    :param probability: of the interval, in (0, 1).
    :raises ConfigurationError: for a level or a probability outside its domain.
    """
    if not 0 < probability < 1:
        raise ConfigurationError(
            f"error_control_summary: probability must lie strictly between 0 and 1; got {probability}."
        )
    inclusion = guide.inclusion()
    selection = select_fdr(inclusion, level=level)
    false = expected_false_selections(inclusion, selection)
    missed = expected_false_omissions(inclusion, selection)
    tails = torch.tensor([(1 - probability) / 2, (1 + probability) / 2], dtype=torch.float64)
    rows = {}
    for name, mass in model_size(guide).items():
        low, high = torch.searchsorted(mass.cumsum(0), tails).clamp_max(len(mass) - 1).tolist()
        rows[name] = {
            "nodes": selection.sizes[name],
            "selected": selection.counts[name],
            "expected_false": false[name],
            "expected_missed": missed[name],
            "size_mode": int(mass.argmax()),
            "size_low": low,
            "size_high": high,
        }
    columns = ["nodes", "selected", "expected_false", "expected_missed"]
    columns += ["size_mode", "size_low", "size_high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("group")


def credible_set_summary(
    guide: Guide | PredictorLaw,
    probability: float = 0.95,
    feature_names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """One row a credible set of predictors, the smallest first: a set of which one at least matters.

    Columns: ``members``, names of its predictors, a tuple, the likeliest first; ``size``; ``inclusion``, probability
    that at least one of them is in; ``prior_inclusion``, the same under the prior; ``log_bayes_factor``. See
    :func:`~pyro_ssbnn.credible_sets`.

    :param probability: least posterior probability of each set, in (0, 1).
    :param feature_names: one name per predictor in place of the network's own.
    :raises ConfigurationError: for a probability outside (0, 1), miscounted names, or predictors without gates.
    """
    inputs = guide.description.inputs
    names = predictor_names(guide, feature_names)
    each = guide.inclusion_logits(inputs.name).tolist()
    rows = [
        {
            "members": tuple(names[i] for i in sorted(one.members, key=lambda i: -each[i])),
            "size": len(one.members),
            "inclusion": one.probability,
            "prior_inclusion": one.prior_probability,
            "log_bayes_factor": one.log_bayes_factor,
        }
        for one in credible_sets(guide, probability, inputs.name)
    ]
    columns = ["members", "size", "inclusion", "prior_inclusion", "log_bayes_factor"]
    return pd.DataFrame(rows, columns=columns).rename_axis("set")
