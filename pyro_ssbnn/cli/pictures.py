"""The diagnostic plots of a run by name: which there are for it, and drawing them into files."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes

from pyro_ssbnn.analysis import Effect, plots
from pyro_ssbnn.analysis.plots.style import written
from pyro_ssbnn.cli.kinds import Picture, PlotKind
from pyro_ssbnn.data import Preprocessing, TableDescription
from pyro_ssbnn.data.predictors import Number
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.files.atomic import replacing
from pyro_ssbnn.inference import Fit
from pyro_ssbnn.posterior.draws import draw_posterior
from pyro_ssbnn.results.predictions import class_columns, in_own_units, labels_of

__all__ = ["PlotInputs", "available", "draw", "draw_effects", "draw_latency"]

_BAND_POINTS = 200
_BAND_DRAWS = 1000
_SIDE_BY_SIDE = 3


@dataclass(frozen=True)
class PlotInputs:
    """What plots are made from.

    :param predictions: predictions for the test rows with their ``observed`` column, or None.
    """

    result: Fit
    preprocessing: Preprocessing
    predictions: pd.DataFrame | None


def available(inputs: PlotInputs) -> list[PlotKind]:
    """Plots that there are for this network and its data, in the order to look at them."""
    description = inputs.result.model.description
    gated = bool(description.gate_groups)
    holds = {
        PlotKind.elbo: True,
        PlotKind.inclusion_history: gated,
        PlotKind.inclusion: bool(description.gated_layers),
        PlotKind.scales: bool(description.gated_layers),
        PlotKind.predictors: description.inputs.gated,
        PlotKind.reliability: bool(inputs.preprocessing.class_names)
        and inputs.predictions is not None,
        PlotKind.band: not inputs.preprocessing.class_names
        and _single_number(inputs.preprocessing) is not None,
    }
    return [kind for kind, there in holds.items() if there]


def draw(
    inputs: PlotInputs,
    folder: Path,
    kinds: Sequence[PlotKind] | None = None,
    picture: Picture = Picture.png,
) -> list[Path]:
    """Draw plots into ``{folder}/{kind}.{picture}``.

    :param kinds: None for all there are.
    :raises ConfigurationError: for a kind that this run has not.
    """
    mpl.use("Agg")  # pictures go to files: no window, no display needed
    possible = available(inputs)
    for kind in kinds or ():
        if kind not in possible:
            raise ConfigurationError(
                f"--kind {kind.value}: {_NEEDS[kind]}; this run has: {', '.join(k.value for k in possible)}."
            )
    written = []
    for kind in kinds or possible:
        target = folder / f"{kind.value}.{picture.value}"
        with mpl.rc_context({"text.parse_math": False}):  # a column called a$b$c is no formula
            _save(_PLOTS[kind](inputs), target)
        written.append(target)
    return written


def draw_latency(table: pd.DataFrame, target: Path) -> None:
    """Draw times of the forward pass into a file, a picture by its suffix."""
    mpl.use("Agg")
    _save(plots.plot_latency(table), target)


def draw_effects(effects: Sequence[Effect], target: Path) -> None:
    """Draw effects side by side into a file, a picture by its suffix."""
    mpl.use("Agg")
    wide = min(_SIDE_BY_SIDE, len(effects))
    high = math.ceil(len(effects) / wide)
    with mpl.rc_context({"text.parse_math": False}):
        _, axes = plt.subplots(
            high, wide, figsize=(4.6 * wide, 3.6 * high), squeeze=False, layout="constrained"
        )
        for effect, ax in zip(effects, axes.flat, strict=False):
            plots.plot_effect(effect, ax=ax)
        for ax in axes.flat[len(effects) :]:
            ax.set_axis_off()
        _save(axes, target)


def _save(axes: Any, target: Path) -> None:
    figure = np.ravel(np.asarray(axes, dtype=object))[0].figure
    try:
        with replacing(target) as temporary:
            figure.savefig(temporary, dpi=150)
    finally:
        plt.close(figure)


def _single_number(preprocessing: Preprocessing) -> Number | None:
    """The only predictor, where it is a number and one column."""
    features = preprocessing.features
    if not isinstance(features, TableDescription) or len(features.columns) != 1:
        return None
    only = features.predictors[0]
    return only if isinstance(only, Number) else None


def _reliability(inputs: PlotInputs) -> Axes:
    names, table = inputs.preprocessing.class_names, inputs.predictions
    if table is None:
        raise ConfigurationError(f"--kind reliability: {_NEEDS[PlotKind.reliability]}.")
    probabilities = table[class_columns(names)].to_numpy(dtype=float)
    labels = labels_of(table["observed"], names)
    return plots.plot_reliability(
        probabilities[:, 1] if len(names) == 2 else probabilities, labels, class_names=names
    )


def _band(inputs: PlotInputs) -> Axes:
    """Along the one predictor, two and a half standard deviations to either side of its mean."""
    result, preprocessing = inputs.result, inputs.preprocessing
    x = torch.linspace(-2.5, 2.5, _BAND_POINTS).unsqueeze(-1)
    draws = draw_posterior(result.model, result.guide, _BAND_DRAWS, x=x)
    number = _single_number(preprocessing)
    if number is None:
        raise ConfigurationError(f"--kind {PlotKind.band.value}: {_NEEDS[PlotKind.band]}.")
    own = number.decode(x.numpy())
    axes = plots.plot_predictive_band(own, in_own_units(draws, preprocessing))
    axes.set_xlabel(written(preprocessing.feature_names[0]))
    axes.set_ylabel(written(preprocessing.target_name))
    return axes


_PLOTS: dict[PlotKind, Callable[[PlotInputs], Any]] = {
    PlotKind.elbo: lambda i: plots.plot_elbo(i.result.history, num_data=i.result.num_data),
    PlotKind.inclusion_history: lambda i: plots.plot_inclusion_history(i.result.history),
    PlotKind.inclusion: lambda i: plots.plot_inclusion(i.result.guide),
    PlotKind.scales: lambda i: plots.plot_scale_inclusion(i.result.guide),
    PlotKind.predictors: lambda i: plots.plot_predictor_inclusion(i.result.guide),
    PlotKind.reliability: _reliability,
    PlotKind.band: _band,
}
_NEEDS = {
    PlotKind.elbo: "needs a training history",
    PlotKind.inclusion_history: "needs gates, a spike-and-slab prior or --input-gates",
    PlotKind.inclusion: "needs gated hidden layers, a spike-and-slab prior",
    PlotKind.scales: "needs gated hidden layers, a spike-and-slab prior",
    PlotKind.predictors: "needs predictors with gates, --input-gates",
    PlotKind.reliability: "needs classes and test_predictions.csv in the run",
    PlotKind.band: "needs one single predictor and a numeric target",
}
