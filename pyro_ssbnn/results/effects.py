"""The section on what predictors do: effects with bands, and pairs that act together."""

from __future__ import annotations

import torch

from pyro_ssbnn.analysis import Effect, interactions, partial_dependence, plots
from pyro_ssbnn.data import TableDescription
from pyro_ssbnn.display import plain
from pyro_ssbnn.results.blocks import Block, Gallery, Table
from pyro_ssbnn.results.figures import Figure, drawn
from pyro_ssbnn.results.results import Results
from pyro_ssbnn.results.tips import of_effect

__all__ = ["effects"]

_MOST = 6  # predictors whose effects are drawn


def effects(results: Results) -> list[Block]:
    """Partial dependence on the likeliest predictors that are selected, and their interactions."""
    fit, prepared, rows = results.fit, results.preprocessing, results.train
    if rows is None or not isinstance(prepared.features, TableDescription):
        return []
    table = results.predictors
    chosen = table.index[table["selected"] & (table["note"] == "")].tolist()
    shown = chosen[:_MOST]
    if not shown:
        return []
    x = rows.x.to(torch.float32)
    drawings = [
        _figure(i, partial_dependence(fit.model, fit.guide, x, name, preprocessing=prepared))
        for i, name in enumerate(shown)
    ]
    left = (
        f" Of {len(chosen)} selected predictors the {_MOST} likeliest are shown."
        if len(chosen) > _MOST
        else ""
    )
    found: list[Block] = [
        "Mean prediction with a predictor set to each value and all others as they are, averaged over rows; bands are"
        f" the posterior's, of the mean.{left}",
        Gallery(drawings),
    ]
    if len(shown) > 1:
        found.append(_pairs(results, shown, x))
    return found


def _figure(number: int, effect: Effect) -> Figure:
    means = effect.draws.mean(0)
    told = f"{effect.kind} of {effect.target} on {effect.predictor}"
    if means.ndim == 1:
        low, high = int(means.argmin()), int(means.argmax())
        told += (
            f": lowest, {plain(means[low])}, at {_at(effect, low)}; highest, {plain(means[high])}, at"
            f" {_at(effect, high)}"
        )
    return drawn(
        f"effect{number}",
        lambda: plots.plot_effect(effect),
        f"{effect.predictor}: mean of {effect.target} with 50 and 90 % bands.",
        f"{told}.",
        lambda panels: of_effect(effect),
    )


def _at(effect: Effect, place: int) -> str:
    point = effect.points[place]
    return str(point) if effect.is_factor else plain(float(point))


def _pairs(results: Results, shown: list[str], x: torch.Tensor) -> Table:
    fit, prepared = results.fit, results.preprocessing
    table = interactions(fit.model, fit.guide, x, shown, preprocessing=prepared)
    rows = [
        (
            f"{pair['first']} and {pair['second']}",
            plain(pair["mean"], 3),
            f"{plain(pair['lower'], 3)} to {plain(pair['upper'], 3)}",
            f"{100 * pair['share']:.1f} %",
            f"{pair['probability']:.2f}",
        )
        for _, pair in table.iterrows()
    ]
    headers = ["pair", "standard deviation", "90 % band", "share of the variance", "probability"]
    caption = (
        f"Pairs that act together: what of {prepared.target_name} is due to both at once; probability that this is"
        " more than 1 % of the variance"
    )
    return Table(caption, headers, rows)
