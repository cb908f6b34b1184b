r"""Tables of inclusion: one row a node or predictor, and one row a layer; exact wherever the guide has a closed form.

The evidence for a node is the log Bayes factor of its inclusion, posterior odds against prior odds,

.. math:: \log BF_j = \mathrm{logit}\,\gamma_j - \mathrm{logit}\,\lambda,

taken from the guide's logits, so that it stays finite where :math:`\gamma` rounds to 0 or 1. A settled guide
(:class:`~pyro_ssbnn.BlockGuide`) has them from the evidence of all sets; elsewhere they are as far as training has
moved a logit. Where gates are independent, the number of active nodes of a layer has mean :math:`\sum\gamma_j` and
variance :math:`\sum\gamma_j(1-\gamma_j)`; that of dependent gates is from their joint law.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_ssbnn.analysis.mixtures import mixed_layers, mixed_predictors
from pyro_ssbnn.analysis.norms import linear_effects, predictor_norms, slab_norms
from pyro_ssbnn.analysis.scales import (
    gate_logits,
    inclusion_probabilities,
    predictor_inclusion,
    predictor_logits,
    predictor_prior,
    slab_scale_quantiles,
)
from pyro_ssbnn.checks import check_that
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides import CLOSED_LOGIT, MixtureGuide
from pyro_ssbnn.inference.gate_evidence import GateEvidence
from pyro_ssbnn.inference.history import History
from pyro_ssbnn.priors import BetaInclusion
from pyro_ssbnn.selection.error_control import model_size
from pyro_ssbnn.selection.predictor_law import PredictorLaw
from pyro_ssbnn.selection.rules import Selection, require_selection, select
from pyro_ssbnn.structure.gates import GateGroup
from pyro_ssbnn.structure.groups import NodeGroup
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.linear import LinearGroup

__all__ = ["inclusion_summary", "layer_summary", "predictor_names"]


def inclusion_summary(
    guide: Guide | MixtureGuide,
    selection: Selection | None = None,
    *,
    levels: Sequence[float] = (0.05, 0.5, 0.95),
    gated_only: bool = True,
    feature_names: Sequence[str] | None = None,
    history: History | None = None,
    evidence: Mapping[str, GateEvidence] | None = None,
    num_draws: int = 10_000,
    seed: int = 0,
) -> pd.DataFrame:
    """One row for every gated predictor (named by its name) and every gated node (``hidden1[3]``), in forward order.

    Columns: ``group``; ``node``, its index; ``inclusion``, the exact posterior probability; ``prior_inclusion``;
    ``log_bayes_factor``, see the module; ``scale_5%`` ..., posterior quantiles of the slab scale t, a standard
    deviation (NaN for predictors, which own no slab); ``norm``, see :func:`slab_norms` and :func:`predictor_norms`;
    ``selected``.

    With linear terms a predictor still has one row: ``inclusion`` is the probability that either of its gates is open,
    and ``prior_inclusion``, ``log_bayes_factor`` and ``selected`` are of the same; ``nonlinear`` and ``linear`` are of
    each gate. ``effect`` is the posterior mean of the linear weight given that it is in (of several outputs or
    columns the norm of the means), and the quantiles are those of its slab scale.

    Of a mixture there is one row for every predictor: ``inclusion`` averaged by weight, ``lowest`` and ``highest`` of
    the fits, ``norm`` the root of the mean square, no quantiles. Nodes of different fits do not correspond; see
    :func:`layer_summary`.

    :param selection: nodes to mark as selected; by default those of the median probability model.
    :param levels: quantile levels, strictly between 0 and 1.
    :param gated_only: leave out ungated layers (the output, the dense baselines), which are always in the network:
        inclusion 1, no Bayes factor.
    :param feature_names: one name per predictor in place of the network's own.
    :param history: of the fit; where nodes were removed during training it adds ``removed_epoch`` and
        ``removed_inclusion``, the inclusion at which they left (NaN for those that stayed). A removed node has
        inclusion 0, because the guide excludes it; its log Bayes factor is that at which it left, NaN where the history
        is not given.
    :param evidence: what :func:`~pyro_ssbnn.gate_evidence` says of the gates: log Bayes factors are then the evidence
        of both branches of each gate, not what training has made of its logit, and ``log_bayes_factor_error`` is their
        standard error.
    :param num_draws: of Monte Carlo, where :func:`~pyro_ssbnn.analysis.slab_scale_quantiles` has no closed form.
    :param seed: of these draws.
    :raises ConfigurationError: for levels outside (0, 1), miscounted names, a history of another network, or a network
        without gates; for selection, history or evidence of a mixture, which has none of its own.
    :raises SelectionError: for a selection of another network.
    """
    if isinstance(guide, MixtureGuide):
        given = {"selection": selection, "history": history, "evidence": evidence}
        for name, value in given.items():
            check_that("inclusion_summary", name, value, value is None, "left out for a mixture")
        names = predictor_names(guide, feature_names)
        return mixed_predictors(guide, names, predictor_norms(guide), linear_effects)
    selection = _checked_selection("inclusion_summary", guide, selection)
    if history is not None:
        known = isinstance(history, History)
        check_that("inclusion_summary", "history", history, known, "the history of a fit")
        history.require_match("inclusion_summary", guide.description)
    inputs = guide.description.inputs

    def quantiles(group: NodeGroup) -> dict[str, object]:
        scales = slab_scale_quantiles(guide, group.name, levels, num_draws=num_draws, seed=seed)
        return {_quantile_name(p): row for p, row in zip(levels, scales, strict=True)}

    tables = []
    if inputs.gated:
        names = predictor_names(guide, feature_names)
        columns = _gate_columns(guide, inputs, selection)
        for level in levels:
            columns[_quantile_name(level)] = np.full(inputs.size, np.nan)
        columns["norm"] = predictor_norms(guide)
        if (linear := guide.description.linear) is not None:
            columns |= _linear_columns(guide, linear, selection)
            columns |= quantiles(linear)
        tables.append(pd.DataFrame(columns, index=pd.Index(names, dtype=object)))
    for group in guide.description.groups:
        if group is guide.description.linear and inputs.gated:
            continue
        if group.gated or not gated_only:
            columns = _gate_columns(guide, group, selection) | quantiles(group)
            columns["norm"] = slab_norms(guide, group.name)
            index = pd.Index(guide.description.member_names(group.name), dtype=object)
            tables.append(pd.DataFrame(columns, index=index))
    if not tables:
        raise ConfigurationError(
            "inclusion_summary: this network has no gates; gated_only=False describes its ungated layers."
        )
    table = pd.concat(tables)
    if evidence is not None:
        _add_evidence(table, guide, evidence)
    if history is not None and history.removed:
        _add_removals(table, guide, history)
    table["selected"] = table.pop("selected")  # last
    return table.rename_axis("name")


def layer_summary(guide: Guide | MixtureGuide, selection: Selection | None = None) -> pd.DataFrame:
    """One row a gated group, predictors (``input``) first where they are gated.

    Columns: ``nodes``; ``active``, the number selected; ``expected_active`` and ``sd_active``, posterior mean and
    standard deviation of the number of open gates; ``prior_expected``, its prior mean. Where a Beta prior lets members
    share their inclusion probability: ``inclusion_rate`` and ``sd_inclusion_rate``, its posterior mean and standard
    deviation (NaN for other groups).

    Of a mixture ``fewest_active`` and ``most_active`` of the fits stand in place of ``active``.

    :param selection: by default that of the median probability model.
    :raises ConfigurationError: for a selection of a mixture.
    :raises SelectionError: for a selection of another network.
    """
    if isinstance(guide, MixtureGuide):
        alone = selection is None
        check_that("layer_summary", "selection", selection, alone, "left out for a mixture")
        return mixed_layers(guide, [layer_summary(member) for _, member, _ in guide.members])
    selection = _checked_selection("layer_summary", guide, selection)
    rows = {}
    for group in guide.description.gate_groups:
        gamma = inclusion_probabilities(guide, group.name)
        variance = (gamma * (1 - gamma)).sum()
        if group.name in getattr(guide, "coupled", ()):
            mass = model_size(guide)[group.name].numpy()
            counts = np.arange(len(mass))
            variance = mass @ counts**2 - (mass @ counts) ** 2
        rows[group.name] = {
            "nodes": group.size,
            "active": selection.counts[group.name],
            "expected_active": gamma.sum(),
            "sd_active": np.sqrt(variance),
            "prior_expected": float(group.prior_inclusion.sum()),
            **_rate(guide, group),
        }
    dtypes = {"nodes": int, "active": int, "expected_active": float, "sd_active": float}
    columns = [*dtypes, "prior_expected"]
    if any(isinstance(g.inclusion, BetaInclusion) for g in guide.description.gate_groups):
        columns += ["inclusion_rate", "sd_inclusion_rate"]
    table = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    return table.astype({**dtypes, "prior_expected": float}).rename_axis("group")


def _rate(guide: Guide, group: GateGroup) -> dict[str, float]:
    """Posterior mean and standard deviation of the inclusion probability that a group's members share."""
    if not isinstance(group.inclusion, BetaInclusion):
        return {}
    mass = model_size(guide)[group.name].numpy()
    number = np.arange(len(mass))
    a, b = group.inclusion.a + number, group.inclusion.b + group.size - number
    mean = a / (a + b)
    variance = mean * (1 - mean) / (a + b + 1)
    average = mass @ mean
    spread = mass @ (variance + (mean - average) ** 2)
    return {"inclusion_rate": average, "sd_inclusion_rate": np.sqrt(spread)}


def _linear_columns(guide: Guide, linear: LinearGroup, selection: Selection) -> dict[str, object]:
    """What the row of a predictor says of both its gates, or of its linear term."""
    inputs = guide.description.inputs
    either = predictor_inclusion(guide)
    prior = predictor_prior(guide)
    return {
        "inclusion": either,
        "prior_inclusion": prior,
        "log_bayes_factor": predictor_logits(guide) - np.log(prior / (1 - prior)),
        "selected": (selection.mask(inputs.name) | selection.mask(linear.name)).cpu().numpy(),
        "nonlinear": inclusion_probabilities(guide, inputs.name),
        "linear": inclusion_probabilities(guide, linear.name),
        "effect": linear_effects(guide),
    }


def _add_evidence(table: pd.DataFrame, guide: Guide, evidence: Mapping[str, GateEvidence]) -> None:
    if guide.description.linear is not None:
        raise ConfigurationError(
            "inclusion_summary: with linear terms a row is of two gates, and evidence is of each alone; read"
            " gate_evidence itself."
        )
    sizes = {group.name: group.size for group in guide.description.gate_groups}
    if {name: len(found.logits) for name, found in evidence.items()} != sizes:
        raise ConfigurationError(
            f"inclusion_summary: the evidence is that of groups {list(evidence)}; this network has {sizes}. Give what"
            " gate_evidence says of this guide."
        )
    place = list(table.columns).index("log_bayes_factor")
    table.insert(place + 1, "log_bayes_factor_error", np.nan)
    for name, found in evidence.items():
        rows = table["group"] == name
        table.loc[rows, "log_bayes_factor"] = found.log_bayes_factor.numpy()
        table.loc[rows, "log_bayes_factor_error"] = found.error.numpy()


def _add_removals(table: pd.DataFrame, guide: Guide, history: History) -> None:
    """Say when members left, and their last evidence; of those that settling has brought back nothing."""
    place = {key: i for i, key in enumerate(zip(table["group"], table["node"], strict=True))}
    epochs, inclusion = np.full((2, len(table)), np.nan)
    factors = table["log_bayes_factor"].to_numpy(copy=True)
    closed = {g.name: _is_closed(guide, g.name) for g in guide.description.gate_groups}
    for removal in history.removed:
        if closed[removal.group][removal.node]:
            row = place[removal.group, removal.node]
            epochs[row], inclusion[row] = removal.epoch, removal.inclusion
            prior_logit = float(guide.description[removal.group].prior_logit[removal.node])
            sure = removal.inclusion in (0.0, 1.0)  # of fixed gates nothing is known
            factors[row] = np.nan if sure else _logit(removal.inclusion) - prior_logit
    table["log_bayes_factor"] = factors
    table["removed_epoch"], table["removed_inclusion"] = epochs, inclusion


def _is_closed(guide: Guide, name: str) -> NDArray[np.bool_]:
    return gate_logits(guide, name) == CLOSED_LOGIT


def _logit(probability: float) -> float:
    return np.log(probability) - np.log1p(-probability)


def predictor_names(
    guide: Guide | MixtureGuide | PredictorLaw, feature_names: Sequence[str] | None
) -> list[str]:
    """Names of the predictors: those given, or the network's own."""
    inputs = guide.description.inputs
    names = list(inputs.names if feature_names is None else feature_names)
    if len(names) != inputs.size:
        raise ConfigurationError(
            f"feature_names must be {inputs.size} names, one per predictor; got {len(names)}."
        )
    return [str(name) for name in names]


def _gate_columns(
    guide: Guide, group: GateGroup | NodeGroup, selection: Selection
) -> dict[str, object]:
    columns: dict[str, object] = {"group": group.name, "node": np.arange(group.size)}
    if not group.gated:
        nothing = np.full(group.size, np.nan)
        return columns | {
            "inclusion": 1.0,
            "prior_inclusion": 1.0,
            "log_bayes_factor": nothing,
            "selected": True,
        }
    logits = gate_logits(guide, group.name)
    return columns | {
        "inclusion": inclusion_probabilities(guide, group.name),
        "prior_inclusion": group.prior_inclusion.numpy(),
        "log_bayes_factor": np.where(
            logits != CLOSED_LOGIT, logits - group.prior_logit.numpy(), np.nan
        ),
        "selected": selection.mask(group.name).cpu().numpy(),
    }


def _checked_selection(owner: str, guide: Guide, selection: Selection | None) -> Selection:
    known = hasattr(guide, "inclusion") and hasattr(guide, "description")
    check_that(owner, "guide", guide, known, "a guide, such as result.guide of a fit")
    if selection is None:
        return select(guide.inclusion())
    require_selection(owner, selection, guide.description)
    return selection


def _quantile_name(level: float) -> str:
    return f"scale_{100 * level:g}%"
