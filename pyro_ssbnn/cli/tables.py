"""What the commands print of a fit: layers, nodes, predictors, scores, pruning."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from pyro_ssbnn.analysis import (
    credible_set_summary,
    error_control_summary,
    inclusion_summary,
    layer_summary,
    predictor_norms,
)
from pyro_ssbnn.cli.console import print_scores, print_table, results
from pyro_ssbnn.guides import MixtureGuide
from pyro_ssbnn.inference import Fit, History, Mixture
from pyro_ssbnn.selection.error_control import select_fdr
from pyro_ssbnn.structure.guide import Guide

__all__ = [
    "as_record",
    "print_error_control",
    "print_fits",
    "print_layers",
    "print_metrics",
    "print_nodes",
    "print_predictors",
    "print_pruning",
]

TOP_NODES = 5
TOP_PREDICTORS = 20
_NODES = {
    "": "node",
    "inclusion": "inclusion",
    "log_bayes_factor": "log Bayes factor",
    "scale_50%": "slab scale",
    "norm": "norm of weights",
    "selected": "selected",
}
_PREDICTORS = {k: v for k, v in {**_NODES, "": "predictor"}.items() if k != "scale_50%"}
_JOINT = {"": "predictor", "inclusion": "inclusion, jointly", "fitted": "above, gates independent"}
_CHANGE = 0.05
_RANGE = {"lowest": "lowest", "highest": "highest"}
_LINEAR = {"nonlinear": "nonlinear", "linear": "linear", "effect": "linear effect"}
_WORDS = {
    "inclusion": "posterior probability of being in the network",
    "log Bayes factor": "evidence for that, the logarithm of posterior over prior odds",
    "nonlinear": "inclusion by way of the hidden layers",
    "linear": "inclusion of a linear term",
    "linear effect": "mean weight of that term, of standardised numbers",
    "slab scale": "standard deviation of the weights, posterior median",
    "norm of weights": "size of their means",
    "selected": "inclusion above 1/2",
}
_PROBABILITIES = ["inclusion", "lowest", "highest", "nonlinear", "linear"]
# Of those in the network: removed ones have none.
_OF_MEMBERS = ["scale_50%", "norm"]


def as_record(answer: Fit | Mixture, metrics: Mapping[str, Any] | None) -> dict[str, Any]:
    """What :func:`print_layers` and :func:`print_metrics` print, as plain numbers; the history is the best fit's."""
    history, guide = answer.best.history, answer.guide
    table = layer_summary(guide) if guide.description.gate_groups else pd.DataFrame()
    several = {}
    if isinstance(answer, Mixture):
        several = {"fits": json.loads(answer.summary().to_json(orient="records"))}
    return {
        **several,
        "epochs": history.epoch,
        "seconds": history.seconds[-1] if len(history) else 0.0,
        "elbo": float(history.elbo[-1]) if len(history) else None,
        "collapsed": answer.collapsed,
        "layers": json.loads(table.to_json(orient="index")),
        "metrics": metrics,
    }


def print_fits(answer: Fit | Mixture) -> None:
    """Print the weights of several fits, and what they were made of."""
    if not isinstance(answer, Mixture):
        return
    table = answer.summary().set_index("seed")
    headers = {"": "seed", "weight": "weight", "score": "left out, nats a row", "elbo": "ELBO"}
    headers |= {str(c): str(c) for c in table if str(c).startswith("active")}
    table["weight"] = table["weight"].map("{:.3f}".format)
    note = "weights by stacking; predictions and scores are those of all fits together, nodes and plots the best's"
    print_table(f"{len(table)} fits", table, headers, note)


def print_layers(guide: Guide | MixtureGuide) -> None:
    """Print inclusion layer by layer."""
    if not guide.description.gate_groups:
        results.print("\nThis network has no gates: every node and predictor is in it.")
        return
    table = layer_summary(guide)
    if isinstance(guide, MixtureGuide):
        pairs = zip(table["fewest_active"], table["most_active"], strict=True)
        table["active"] = [str(a) if a == b else f"{a} to {b}" for a, b in pairs]
    else:
        table["share"] = [
            f"{100 * a / n:.3g} %" for a, n in zip(table["active"], table["nodes"], strict=True)
        ]
    for column in ("expected_active", "sd_active"):
        table[column] = table[column].map("{:.2f}".format)
    headers = {
        "": "layer",
        "nodes": "nodes",
        "active": "active",
        "share": "share",
        "expected_active": "expected",
        "sd_active": "sd",
        "prior_expected": "prior expected",
    }
    headers = {name: told for name, told in headers.items() if not name or name in table}
    note = "active: inclusion above 1/2; expected, sd: of the number of active nodes under the posterior"
    note = f"{note}; prior expected: before the data"
    print_table("Inclusion by layer", table, headers, note)


def print_nodes(guide: Guide, history: History, every: bool) -> None:
    """Print the nodes of each gated layer, the likeliest first, all or the top ones."""
    if not guide.description.gated_layers:
        return
    table = inclusion_summary(guide, history=history)
    said: set[str] = set()
    for group in guide.description.gated_layers:
        nodes = _likeliest_first(table[table["group"] == group.name])
        shown, headers, note = _shown(nodes, every, TOP_NODES, _NODES)
        print_table(f"Nodes of {group.name}, likeliest first", shown, headers, note)
        said |= {*headers.values()}
    _explain(said)


def _explain(headers: Iterable[str]) -> None:
    """Say below a table what its headers mean."""
    told = [f"{word}: {meaning}" for word, meaning in _WORDS.items() if word in headers]
    if told:
        results.print("; ".join(told), style="dim", markup=False)


def _likeliest_first(table: pd.DataFrame) -> pd.DataFrame:
    """Sorted by inclusion and evidence; removed members by the epoch up to which they stayed."""
    keys = ["inclusion", "log_bayes_factor"]
    if "removed_epoch" in table:
        keys.insert(1, "removed_epoch")
    return table.sort_values(keys, ascending=False, kind="stable")


def _shown(
    table: pd.DataFrame, every: bool, top: int, headers: dict[str, str]
) -> tuple[pd.DataFrame, dict[str, str], str]:
    """Rows to show, their headers, and a note on the others; removed members say only when they left, and at what."""
    shown = table if every else table.head(top)
    notes = []
    if len(shown) < len(table):
        notes.append(f"and {len(table) - len(shown)} more: --all")
    if "removed_epoch" in table and table["removed_epoch"].notna().any():
        notes.append(f"{table['removed_epoch'].notna().sum()} left the network during training")
        gone = shown["removed_epoch"].notna()
        if gone.any():
            told = [
                f"after epoch {epoch:.0f}, at {inclusion:.2g}" if epoch == epoch else ""
                for epoch, inclusion in zip(
                    shown["removed_epoch"], shown["removed_inclusion"], strict=True
                )
            ]
            if "effect" not in headers:  # beside linear terms there is no room
                headers = {**headers, "removed": "removed"}
            shown = shown.assign(removed=told)
            shown.loc[gone, _OF_MEMBERS] = np.nan  # printed as nothing
    return shown, headers, "; ".join(notes)


def print_predictors(guide: Guide | MixtureGuide, history: History, every: bool) -> None:
    """Print predictors, the likeliest (without gates: those of the largest weights) first."""
    inputs = guide.description.inputs
    if inputs.gated:
        title, several = "Predictors, likeliest first", isinstance(guide, MixtureGuide)
        table = inclusion_summary(guide, history=None if several else history)
        table = _likeliest_first(table[table["group"] == inputs.name])
        linear = guide.description.linear is not None
        first = {name: _PREDICTORS[name] for name in ("", "inclusion")}
        headers = {
            **first,
            **(_RANGE if several else {}),
            **(_LINEAR if linear else {}),
            **_PREDICTORS,
        }
        if linear:  # 80 columns hold no more
            headers.pop("norm")
        told = table.columns.intersection(_PROBABILITIES)
        table = table.assign(**{name: table[name].map("{:.3f}".format) for name in told})
    else:
        table = pd.DataFrame({"norm": predictor_norms(guide)}, index=list(inputs.names))
        table = table.sort_values("norm", ascending=False)
        title, headers = (
            "Predictors by size (no gates: fit with --input-gates)",
            {name: _PREDICTORS[name] for name in ("", "norm")},
        )
    shown, headers, note = _shown(table, every, TOP_PREDICTORS, headers)
    print_table(title, shown, headers, note)
    _explain({*headers.values()} - {*(_NODES.values() if guide.description.gated_layers else ())})
    if inputs.name in getattr(guide, "coupled", ()):
        print_credible_sets(guide, every)


def print_joint(table: pd.DataFrame) -> None:
    """Say which predictors' inclusion is another once they are weighed jointly, and which share one."""
    _print_changes(table)
    for _, one in table.groupby("credible_set"):
        if len(one) > 1:
            results.print(
                f"One of {', '.join(one.index)} is in with probability"
                f" {one['set_inclusion'].iloc[0]:.3f}.",
                soft_wrap=True,
                markup=False,
            )


def _print_changes(table: pd.DataFrame) -> None:
    change = (table["inclusion"] - table["fitted"]).abs()
    told = table[change > _CHANGE].sort_values("inclusion", ascending=False, kind="stable")
    if told.empty:
        results.print(
            f"\nWeighed jointly (joint.csv), no predictor's inclusion changes by more than {_CHANGE:g}.",
            soft_wrap=True,
        )
        return
    shown = told.head(TOP_PREDICTORS)
    shown = shown.assign(**{name: shown[name].map("{:.3f}".format) for name in _JOINT if name})
    more = len(told) - len(shown)
    note = f"inclusion that changes by more than {_CHANGE:g}; all in joint.csv" + (
        f"; and {more} more" if more else ""
    )
    print_table("Predictors weighed jointly", shown, _JOINT, note)


def print_credible_sets(guide: Guide, every: bool) -> None:
    """Print the sets of predictors of which one at least matters."""
    table = credible_set_summary(guide)
    if table.empty:
        results.print("\nNo set of predictors holds one that matters with a probability of 95 %.")
        return
    shown = table if every else table.head(TOP_PREDICTORS)
    shown = shown.assign(members=[", ".join(names) for names in shown["members"]])
    shown = shown.set_index("members")
    headers = {
        "": "one of",
        "inclusion": "inclusion of one",
        "prior_inclusion": "under the prior",
        "log_bayes_factor": "log Bayes factor",
    }
    note = "smallest disjoint sets of which one at least is in with a probability of 95 % or more"
    print_table("Credible sets of predictors", shown, headers, note)


def print_error_control(guide: Guide, level: float, every: bool) -> None:
    """Print what a false discovery rate keeps of each group, how many errors to expect, and the model's size."""
    title = f"Selection at a Bayesian false discovery rate of at most {level:g}"
    if not guide.description.gate_groups:
        results.print(f"\n{title}: this network has no gates, hence nothing to select.")
        return
    table = error_control_summary(guide, level)
    for column in ("expected_false", "expected_missed"):
        table[column] = table[column].map("{:.2g}".format)
    table["size"] = [
        f"{mode} ({low} to {high})"
        for mode, low, high in zip(
            table["size_mode"], table["size_low"], table["size_high"], strict=True
        )
    ]
    headers = {
        "": "layer",
        "nodes": "nodes",
        "selected": "selected",
        "expected_false": "false ones expected",
        "expected_missed": "missed ones expected",
        "size": "size",
    }
    note = "size: most probable number of nodes in the network, with its 90 % posterior interval"
    print_table(title, table, headers, note)
    inputs = guide.description.inputs
    if inputs.gated:
        selected = select_fdr(guide.inclusion(), level=level).kept
        gates = [inputs.name, *(name for name in selected if name == "linear")]
        kept = sorted({j for name in gates for j in selected[name].tolist()})
        shown = kept if every else kept[:TOP_PREDICTORS]
        more = f", and {len(kept) - len(shown)} more: --all" if len(shown) < len(kept) else ""
        names = ", ".join(inputs.names[j] for j in shown) or "none"
        results.print(f"selected predictors: {names}{more}", markup=False, soft_wrap=True)


def print_metrics(metrics: Mapping[str, Any]) -> None:
    """Print what ``metrics.json`` holds."""
    title = f"Scores on the {metrics['number_of_rows']:,} {metrics['rows']} rows"
    columns = {"full posterior": metrics["full"]}
    if "pruned" in metrics:
        columns["pruned"] = metrics["pruned"]
    print_scores(title, columns)
    if "pruned" in columns:
        results.print("pruned: the active nodes alone, at their mean weights", style="dim")
    if metrics.get("baselines"):
        print_scores("Simpler models on the same rows", metrics["baselines"])


def print_pruning(report: pd.DataFrame, rule: str) -> None:
    """Print nodes, weights and multiply-adds before and after."""
    table = pd.DataFrame(index=report.index)
    for name in ("nodes", "weights", "multiply_adds"):
        before, after = report[name], report[f"{name}_kept"]
        table[name] = [f"{b:,} -> {a:,}" for b, a in zip(before, after, strict=True)]
    share = 100 * report["weights_kept"] / report["weights"]
    table["share"] = [f"{part:.3g} %" if part == part else "" for part in share]  # none of none
    headers = {
        "": "layer",
        "nodes": "nodes",
        "weights": "weights",
        "multiply_adds": "multiply-adds",
        "share": "weights left",
    }
    print_table(
        "Pruning, before -> after",
        table,
        headers,
        f"rule: {rule}; multiply-adds per row, biases counted",
    )
