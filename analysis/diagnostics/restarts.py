r"""Do other seeds tell the same story?

Each restart is a chain of independent draws from its own guide. Within a chain there is nothing to mix, so R-hat
across restarts asks one thing: do the restarts say the same? It is taken of what the posterior identifies: the
log-likelihood, the number of active nodes of each layer, and the predictive mean at every row.

How much it matters is measured in nats: B is the variance between the restarts of the predictive mean, W the predictive
variance within, and :math:`\tfrac12\log(1 + B/W)` what a prediction tells of the restart that made it, the most that
averaging restarts can gain; for classes it is the mutual information of class and restart,
:math:`H[\bar p] - \tfrac1R\sum_r H[p_r]`.

Predictors have names and are compared one by one. Nodes of a layer are exchangeable and have none: node 3 of one
restart is not node 3 of the next. Their inclusion probabilities are sorted within each restart, which is what remains
when labels are taken away (the assignment of least total distance between two sets of numbers is the sorted one), and
the number of active nodes is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_ssbnn.analysis.diagnostics.evidence import Evidence
from pyro_ssbnn.analysis.diagnostics.report import MATTERS, SERIOUS, Check
from pyro_ssbnn.analysis.scales import inclusion_probabilities, predictor_inclusion
from pyro_ssbnn.exact import r_hat
from pyro_ssbnn.inference import Fit

__all__ = [
    "check_node_agreement",
    "check_prediction_agreement",
    "check_predictor_agreement",
]

Array = NDArray[np.float64]

_ODDS = 3.0  # to one: what counts as substantial evidence (Kass and Raftery 1995)
_R_HAT = 1.1


def check_predictor_agreement(fits: Sequence[Fit]) -> Check:
    """Inclusion of every gated predictor, linear or not, over the restarts.

    Decisions that differ are told; it is a warning where two restarts hold odds of three to one against each other.
    """
    inputs = fits[0].model.description.inputs
    gamma = np.stack([predictor_inclusion(f.guide) for f in fits])
    low, high = gamma.min(0), gamma.max(0)
    sure = _ODDS / (1 + _ODDS)
    opposed = (low < 1 - sure) & (high > sure)
    differs = (low <= 0.5) & (high > 0.5)
    told = [
        f"inclusion of {inputs.names[j]} varies from {low[j]:.2f} to {high[j]:.2f}"
        for j in sorted(np.flatnonzero(differs), key=lambda j: low[j] - high[j])
    ]
    values = {
        "restarts": len(fits),
        "lowest": dict(zip(inputs.names, low.tolist(), strict=True)),
        "highest": dict(zip(inputs.names, high.tolist(), strict=True)),
    }
    if not told:
        most = float((high - low).max())
        return Check(
            "predictors",
            "ok",
            f"{len(fits)} restarts select the same predictors; inclusion differs by {most:.2f} at most.",
            values=values,
        )
    return Check(
        "predictors",
        "warning" if opposed.any() else "note",
        f"Over {len(fits)} restarts {'; '.join(told[:5])}{' and more' if len(told) > 5 else ''}: do not interpret"
        f" {'it' if len(told) == 1 else 'them'}.",
        "Look for predictors that stand in for each other (correlation); report the set, not the member.",
        values,
    )


def check_node_agreement(fits: Sequence[Fit], parts: Sequence[Evidence]) -> Check:
    """Number of active nodes and sorted inclusion of every gated layer over the restarts; never a warning.

    The number of nodes is no parameter of the data: networks of different widths may predict alike. What they predict
    is checked by :func:`check_prediction_agreement`.
    """
    told, values = [], {}
    agree = True
    for group in fits[0].model.description.gated_layers:
        gamma = np.stack(
            [np.sort(inclusion_probabilities(f.guide, group.name))[::-1] for f in fits]
        )
        active = (gamma > 0.5).sum(1)
        open_gates = np.stack(
            [p.draws.latents[group.gate_site].double().numpy().sum(1) for p in parts]
        )
        values[group.name] = {
            "active": active.tolist(),
            "largest_difference_of_sorted_inclusion": float(np.ptp(gamma, axis=0).max()),
            "r_hat_of_open_gates": _r_hat(open_gates),
        }
        agree &= bool(np.ptp(active) == 0)
        low, high = int(active.min()), int(active.max())
        told.append(f"{group.name} has {low if low == high else f'{low} to {high}'} active nodes")
    said = f"Over {len(fits)} restarts {'; '.join(told)}."
    if agree:
        return Check("nodes", "ok", said, values=values)
    return Check(
        "nodes",
        "note",
        said,
        "Nodes are exchangeable: report the range of their number; do not interpret single nodes.",
        values,
    )


def check_prediction_agreement(
    fits: Sequence[Fit], parts: Sequence[Evidence], averaged: bool = False
) -> Check:
    """R-hat across restarts of log-likelihood and predictive mean, and what the restarts' difference costs in nats.

    :param averaged: whether the answer is the fits' mixture, whose spread holds their difference: then it is told, and
        no warning.
    """
    means = _means(parts)
    columns = _r_hats(means.reshape(*means.shape[:2], -1))
    columns = columns[~np.isnan(columns)]
    middle = float(np.median(columns)) if len(columns) else float("nan")
    score = np.stack([p.log_likelihood.sum(1) for p in parts])
    cost = _disagreement(parts, means)
    # the bound over the last tenth of each run, in which rates are low
    bound = [_last_bound(f) for f in fits]
    behind = max(bound) - bound[0]
    values: dict[str, Any] = {
        "cost": cost,
        "r_hat_predictive_mean_median": middle,
        "r_hat_predictive_mean_95%": float(np.quantile(columns, 0.95, method="higher"))
        if len(columns)
        else None,
        "r_hat_log_likelihood": _r_hat(score),
        "elbo_per_row": bound,
    }
    said = (
        f"{len(fits)} restarts differ in their predictions by {cost:.3f} nats per observation; median R-hat of the"
        f" predictive mean {middle:.2f}"
    )
    if averaged and (cost > MATTERS or middle > _R_HAT):
        return Check(
            "predictions",
            "note",
            f"{said}: the mixture averages them, and its uncertainty holds their difference.",
            "Take the mixture's predictions, not those of one of its fits.",
            values,
        )
    if averaged:
        return Check("predictions", "ok", f"{said}.", values=values)
    if cost > SERIOUS:
        return Check(
            "predictions",
            "warning",
            f"{said}: each fit is a story of its own.",
            "Average the restarts' predictions, or use fewer nodes, more data, or a longer run.",
            values,
        )
    if behind > SERIOUS:
        return Check(
            "predictions",
            "warning",
            f"{said}, and the ELBO of this fit is {behind:.2f} nats per observation below that of the best restart.",
            f"Use the restart of seed {fits[int(np.argmax(bound))].options.seed}.",
            values,
        )
    if cost > MATTERS or middle > _R_HAT:
        return Check(
            "predictions",
            "note",
            f"{said}: one fit understates its uncertainty about the mean.",
            "Average the restarts' predictions where the mean's own uncertainty matters.",
            values,
        )
    return Check("predictions", "ok", f"{said}.", values=values)


def _last_bound(result: Fit) -> float:
    elbo = result.history.elbo
    return float(elbo[-max(1, len(elbo) // 10) :].mean()) / result.num_data


def _means(parts: Sequence[Evidence]) -> Array:
    """Predictive means, ``[restarts, S, N, ...]``."""
    found = [p.draws.mean for p in parts if p.draws.mean is not None]
    return np.stack([m.double().numpy() for m in found])


def _disagreement(parts: Sequence[Evidence], means: Array) -> float:
    each = means.mean(1)  # [restarts, N, ...]
    if parts[0].result.model.likelihood.predicts_classes:
        if each.ndim == 2:  # probabilities of 1
            each = np.stack([each, 1 - each], -1)
        return float((_entropy(each.mean(0)) - _entropy(each).mean(0)).mean())
    drawn = [p.draws.predictive for p in parts if p.draws.predictive is not None]
    within = np.stack([d.double().numpy().var(0) for d in drawn]).mean(0)
    between = each.var(0, ddof=1)
    return float((0.5 * np.log1p(between / np.maximum(within, 1e-300))).mean())


def _entropy(p: Array) -> Array:
    terms: Array = -(p * np.log(np.maximum(p, 1e-300))).sum(-1)
    return terms


def _r_hat(draws: Array) -> float:
    return float(_r_hats(draws))


def _r_hats(draws: Array) -> Array:
    """R-hat; infinite where every chain stands still at a place of its own."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return r_hat(draws)
