"""Effects of predictors: lines with bands for numbers, points with bars for factors; interactions as bars."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from pyro_ssbnn.analysis.effects import Effect
from pyro_ssbnn.analysis.plots.style import ACCENT, COLOURS, MUTED, single_axes, written
from pyro_ssbnn.errors import ConfigurationError, DataError

__all__ = ["plot_effect", "plot_interactions"]

_CURVES = 100  # drawn at most
_BANDS = ((0.9, 0.2), (0.5, 0.35))  # probability, opacity


def plot_effect(effect: Effect, *, ax: Axes | None = None) -> Axes:
    """Draw an effect with central 50 and 90 % posterior bands, rows as ticks, and their own curves if there are any.

    :param effect: of :func:`~pyro_ssbnn.partial_dependence` or :func:`~pyro_ssbnn.accumulated_effects`; for classes a
        line each.
    """
    draws = effect.draws if effect.draws.ndim == 3 else effect.draws[..., None]
    several = draws.shape[2] > 1
    ax = single_axes(ax, (5.6, 4.0))
    for number in range(draws.shape[2]):
        colour = COLOURS[number % len(COLOURS)]
        label = _class(effect, number) if several else "posterior mean"
        if effect.is_factor:
            _draw_levels(
                ax, draws[..., number], colour, label, 0.15 * (number - (draws.shape[2] - 1) / 2)
            )
        else:
            _draw_line(ax, effect, draws[..., number], colour, label)
    if effect.is_factor:
        names = [
            f"{written(str(value))}\n{int(rows):,}"
            for value, rows in zip(effect.points, effect.observed, strict=True)
        ]
        ax.set_xticks(np.arange(len(names)), names)
        ax.set_xlabel(f"{written(effect.predictor)}, with the number of rows")
    else:
        inside = effect.observed[
            (effect.observed >= effect.points[0]) & (effect.observed <= effect.points[-1])
        ]
        ax.plot(
            inside,
            np.zeros_like(inside),
            "|",
            color=MUTED,
            transform=ax.get_xaxis_transform(),
            clip_on=False,
        )
        ax.set_xlabel(written(effect.predictor))
    mean = (
        f"probability of {written(effect.target)}"
        if effect.class_names
        else f"mean of {written(effect.target)}"
    )
    ax.set_ylabel(mean if effect.kind == "partial dependence" else f"change of the {mean}")
    ax.set_title(effect.kind)
    ax.legend(loc="best", fontsize="small", framealpha=0.9)
    return ax


def plot_interactions(table: pd.DataFrame, *, top: int = 10, ax: Axes | None = None) -> Axes:
    """Draw the strongest interactions of :func:`~pyro_ssbnn.interactions` with their posterior intervals.

    :param top: pairs, at most.
    :raises ConfigurationError: for fewer than one.
    :raises DataError: for a table of something else.
    """
    missing = {"first", "second", "mean", "lower", "upper", "share"} - set(table.columns)
    if missing:
        raise DataError(
            f"plot_interactions: the table of pyro_ssbnn.interactions is wanted; {sorted(missing)} are missing."
        )
    if top < 1:
        raise ConfigurationError(f"plot_interactions: top must be at least 1; got {top}.")
    shown = table.head(top)
    ax = single_axes(ax, (6.4, 1.4 + 0.3 * len(shown)))
    height = np.arange(len(shown))
    ax.hlines(height, shown["lower"], shown["upper"], color=ACCENT, linewidth=2)
    ax.plot(shown["mean"], height, "o", color=ACCENT)
    pairs = [
        f"{written(first)} × {written(second)}, {100 * share:.0f} %"
        for first, second, share in zip(
            shown["first"], shown["second"], shown["share"], strict=True
        )
    ]
    ax.set_yticks(height, pairs)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlim(left=0)
    ax.set_xlabel("standard deviation due to the pair, in units of y")
    ax.set_ylabel("pair, and its share of the variance")
    ax.set_title("interactions")
    return ax


def _class(effect: Effect, number: int) -> str:
    return written(effect.class_names[number]) if effect.class_names else f"class {number}"


def _draw_line(ax: Axes, effect: Effect, draws: np.ndarray, colour: str, label: str) -> None:
    if effect.curves is not None and effect.curves.ndim == 2:
        ax.plot(effect.points, effect.curves[:_CURVES].T, color=MUTED, linewidth=0.5, alpha=0.5)
    for probability, opacity in _BANDS:
        low, high = np.quantile(draws, [(1 - probability) / 2, (1 + probability) / 2], axis=0)
        ax.fill_between(
            effect.points,
            low,
            high,
            color=colour,
            alpha=opacity,
            linewidth=0,
            label=f"{100 * probability:.0f} % band" if label == "posterior mean" else "_band",
        )
    ax.plot(effect.points, draws.mean(0), color=colour, linewidth=1.6, label=label)


def _draw_levels(ax: Axes, draws: np.ndarray, colour: str, label: str, offset: float) -> None:
    at = np.arange(draws.shape[1]) + offset
    for (probability, _), width in zip(_BANDS, (1.2, 3.5), strict=True):
        low, high = np.quantile(draws, [(1 - probability) / 2, (1 + probability) / 2], axis=0)
        ax.vlines(
            at,
            low,
            high,
            color=colour,
            linewidth=width,
            label=f"{100 * probability:.0f} % band" if label == "posterior mean" else "_band",
        )
    ax.plot(at, draws.mean(0), "o", color=colour, label=label)
