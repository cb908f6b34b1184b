"""Which predictors the network uses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pyro_ssbnn.analysis.inclusion import predictor_names
from pyro_ssbnn.analysis.norms import predictor_norms
from pyro_ssbnn.analysis.plots.style import (
    ACCENT,
    MUTED,
    half_line,
    members,
    prior_line,
    single_axes,
    written,
)
from pyro_ssbnn.analysis.scales import (
    inclusion_probabilities,
    predictor_inclusion,
    predictor_prior,
)
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides import MixtureGuide
from pyro_ssbnn.selection.joint import credible_sets
from pyro_ssbnn.selection.predictor_law import PredictorLaw
from pyro_ssbnn.structure.guide import Guide

__all__ = ["plot_predictor_inclusion"]

_NOTHING = 0.05  # change of the log-odds below which the data have said nothing


def plot_predictor_inclusion(
    guide: Guide | MixtureGuide | PredictorLaw,
    *,
    top: int = 25,
    threshold: float = 0.5,
    feature_names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the exact inclusion probabilities of the predictors as horizontal bars, the highest on top.

    With linear terms a bar is the probability that either gate is open, and two marks on it are those of the linear and
    the nonlinear one alone.

    A bar at the prior, of which the data say nothing, is hatched and not filled.

    Predictors of a credible set of several, where gates are dependent, carry its number and its probability beside
    their bars: at least one of them is in.

    :param top: at most so many are drawn; the title counts all.
    :param threshold: selection threshold, a dashed line; the prior is a dotted one.
    :param feature_names: one name per predictor in place of the network's own.
    :raises ConfigurationError: when the network does not select among its predictors.
    """
    inputs = guide.description.inputs
    if inputs.inclusion is None:
        raise ConfigurationError(
            "plot_predictor_inclusion: this network's predictors carry no gates; give it input_inclusion."
        )
    if top < 1:
        raise ConfigurationError(f"plot_predictor_inclusion: top must be at least 1; got {top}.")
    names = predictor_names(guide, feature_names)
    gamma = predictor_inclusion(guide)
    linear = guide.description.linear
    prior = predictor_prior(guide)
    ties = gamma if isinstance(guide, PredictorLaw) else predictor_norms(guide)
    shown = np.lexsort((-ties, -gamma))[:top]
    ax = single_axes(ax, (6.4, 1.4 + 0.24 * len(shown)))
    colours = [ACCENT if p > threshold else MUTED for p in gamma[shown]]
    positions = np.arange(len(shown))
    bars = ax.barh(positions, gamma[shown], height=0.8, color=colours)
    told = np.abs(_logit(gamma[shown]) - _logit(prior[shown])) >= _NOTHING
    for bar, moved in zip(bars, told, strict=True):
        if not moved:
            bar.set(facecolor="none", edgecolor=MUTED, hatch="////", linewidth=0.8)
    if not told.all():
        bars[int(np.flatnonzero(~told)[0])].set_label("at its prior: the data say nothing of it")
    half_line(ax, threshold, vertical=True)
    prior_line(ax, prior[shown], vertical=True)
    if linear is not None:
        for group, name, marker, size in (
            (linear, "linear", "s", 8),
            (inputs, "nonlinear", "o", 5),
        ):
            alone = inclusion_probabilities(guide, group.name)[shown]
            ax.plot(alone, positions, f"k{marker}", markersize=size, mfc="white", label=name)
    if not isinstance(guide, MixtureGuide) and inputs.name in getattr(guide, "coupled", ()):
        _mark_sets(ax, guide, shown.tolist())
    ax.set_yticks(positions, [written(names[i]) for i in shown])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlim(0, 1.02)
    ax.set_xlabel("inclusion probability")
    ax.set_ylabel("predictor")
    count = int((gamma > threshold).sum())
    title = f"{count} of {inputs.size} {members('input', inputs.size)} selected"
    if len(shown) < inputs.size:
        title += f"; the {len(shown)} highest shown"
    ax.set_title(title)
    ax.legend(loc="lower right", fontsize="small", framealpha=0.9)
    return ax


def _logit(p: NDArray[np.float64] | float) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.log(p) - np.log1p(-np.asarray(p))


def _mark_sets(ax: Axes, guide: Guide | PredictorLaw, shown: list[int]) -> None:
    sets = [one for one in credible_sets(guide) if len(one.members) > 1]
    for number, one in enumerate(sets, start=1):
        for member in one.members:
            if member in shown:
                said = f"set {number}: {one.probability:.2f}"
                ax.text(1.04, shown.index(member), said, va="center", fontsize="x-small")
