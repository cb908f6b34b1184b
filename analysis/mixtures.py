r"""What several fits say together of predictors and of layers.

A predictor has a name, and its inclusion under the mixture is :math:`\sum_k w_k \gamma_{kj}`. Nodes have none: of a
layer there are the numbers of nodes, with the mixture's mean and variance of them, no table of single nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_ssbnn.analysis.scales import (
    inclusion_probabilities,
    predictor_inclusion,
    predictor_logits,
    predictor_prior,
)
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides import MixtureGuide
from pyro_ssbnn.structure.guide import Guide

__all__ = ["mixed_layers", "mixed_predictors"]

Array = NDArray[np.float64]


def mixed_predictors(
    guide: MixtureGuide,
    names: list[str],
    norms: Array,
    effects: Callable[[Guide], Array],
) -> pd.DataFrame:
    """The table of :func:`~pyro_ssbnn.inclusion_summary` for a mixture: one row a predictor.

    ``lowest`` and ``highest`` are the inclusion's range over the members of positive weight.

    :param names: of the predictors.
    :param norms: of the outgoing weights of each predictor under the mixture, ``[p]``.
    :param effects: of a member's linear terms, ``[p]``.
    :raises ConfigurationError: for predictors without gates.
    """
    inputs, linear = guide.description.inputs, guide.description.linear
    if not inputs.gated:
        raise ConfigurationError(
            "inclusion_summary: of several fits only predictors can be averaged, because nodes of different fits do not"
            " correspond; these carry no gates. layer_summary has numbers of nodes, and each fit a table of its own:"
            " inclusion_summary(mixture.fits[k].guide)."
        )
    members = [(member, weight) for _, member, weight in guide.members if weight]
    each = np.stack([predictor_inclusion(member) for member, _ in members])
    prior = predictor_prior(guide)
    logits = predictor_logits(guide)
    columns: dict[str, object] = {
        "group": inputs.name,
        "node": np.arange(inputs.size),
        "inclusion": predictor_inclusion(guide),
        "lowest": each.min(0),
        "highest": each.max(0),
        "prior_inclusion": prior,
        "log_bayes_factor": np.where(
            np.isneginf(logits), np.nan, logits - np.log(prior / (1 - prior))
        ),
    }
    if linear is not None:
        columns["nonlinear"] = inclusion_probabilities(guide, inputs.name)
        columns["linear"] = inclusion_probabilities(guide, linear.name)
        shares = np.stack([w * inclusion_probabilities(m, linear.name) for m, w in members])
        total = np.maximum(shares.sum(0), np.finfo(np.float64).tiny)
        columns["effect"] = (shares * [effects(member) for member, _ in members]).sum(0) / total
    columns["norm"] = norms
    columns["selected"] = predictor_inclusion(guide) > 0.5
    return pd.DataFrame(columns, index=pd.Index(names, dtype=object)).rename_axis("name")


def mixed_layers(guide: MixtureGuide, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The table of :func:`~pyro_ssbnn.layer_summary` for a mixture.

    ``fewest_active`` and ``most_active`` take the place of ``active``; mean and standard deviation are the mixture's.

    :param tables: of the members.
    """
    inside = [(table, w) for table, w in zip(tables, guide.weights, strict=True) if w]
    weights = np.array([weight for _, weight in inside])
    active, mean, sd = (
        np.stack([table[name].to_numpy() for table, _ in inside])
        for name in ("active", "expected_active", "sd_active")
    )
    expected = weights @ mean
    variance = weights @ (sd**2 + mean**2) - expected**2
    first = tables[0]
    return pd.DataFrame(
        {
            "nodes": first["nodes"],
            "fewest_active": active.min(0),
            "most_active": active.max(0),
            "expected_active": expected,
            "sd_active": np.sqrt(np.maximum(variance, 0.0)),
            "prior_expected": first["prior_expected"],
        },
        index=first.index,
    )
