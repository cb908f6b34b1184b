"""Whether predictive intervals of numbers hold what they promise, and where predictions miss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from pyro_ssbnn.analysis.plots.predictions import wilson
from pyro_ssbnn.analysis.plots.style import ACCENT, COLOURS, single_axes, written
from pyro_ssbnn.errors import DataError

__all__ = ["plot_coverage", "plot_observed"]

_MOST_POINTS = 400


def plot_coverage(
    levels: Sequence[float], covered: ArrayLike, rows: int, *, ax: Axes | None = None
) -> Axes:
    """Draw how often central predictive intervals hold the target, with 95 % Wilson intervals, by their probability.

    Below the diagonal intervals are too narrow, above it too wide. The points come from the same rows, so that they
    move together.

    :param levels: probabilities of the intervals, ``[L]``.
    :param covered: shares of rows inside, ``[L]``.
    :param rows: their number.
    :raises DataError: for shapes that do not match, or no row.
    """
    at, share = np.asarray(levels, dtype=float), np.asarray(covered, dtype=float)
    if at.shape != share.shape or at.ndim != 1 or rows < 1:
        raise DataError(
            f"plot_coverage: levels and covered must be [L], of at least one row; got {list(at.shape)},"
            f" {list(share.shape)}, {rows} rows."
        )
    ax = single_axes(ax, (5.2, 5.0))
    ax.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="calibrated")
    low, high = wilson(share, np.full(len(at), rows))
    ax.vlines(at, low, high, color=ACCENT, linewidth=1.2, alpha=0.7, label="95 % interval")
    ax.plot(at, share, "o-", color=ACCENT, markersize=5, label="share of rows inside")
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.02)
    ax.set_aspect("equal", adjustable="box")
    ax.set_xlabel("probability of the interval")
    ax.set_ylabel("share of rows inside")
    ax.set_title(f"central intervals of {rows:,} rows")
    ax.legend(loc="upper left", fontsize="small", framealpha=0.9)
    return ax


def plot_observed(
    mean: ArrayLike,
    observed: ArrayLike,
    lower: ArrayLike | None = None,
    upper: ArrayLike | None = None,
    *,
    name: str = "y",
    ax: Axes | None = None,
) -> Axes:
    """Draw what was observed against what was predicted, ``[N]`` each, with intervals where they are given.

    :param name: of the target.
    :raises DataError: for shapes that do not match.
    """
    predicted, seen = np.asarray(mean, dtype=float), np.asarray(observed, dtype=float)
    if predicted.shape != seen.shape or predicted.ndim != 1 or not len(seen):
        raise DataError(
            f"plot_observed: mean and observed must be [N]; got {list(predicted.shape)}, {list(seen.shape)}."
        )
    ax = single_axes(ax, (5.2, 5.0))
    shown = slice(0, _MOST_POINTS)
    ends = [min(predicted.min(), seen.min()), max(predicted.max(), seen.max())]
    ax.plot(ends, ends, color="black", linestyle="--", linewidth=1, label="observed = predicted")
    if lower is not None and upper is not None:
        low, high = (np.asarray(limit, dtype=float)[shown] for limit in (lower, upper))
        ax.vlines(
            predicted[shown], low, high, color=ACCENT, linewidth=0.8, alpha=0.35, label="interval"
        )
    ax.plot(predicted[shown], seen[shown], ".", color=COLOURS[1], markersize=5, label="rows")
    ax.locator_params(axis="x", nbins=5)  # long numbers stand apart
    ax.set_xlabel(f"predicted mean of {written(name)}")
    ax.set_ylabel(f"observed {written(name)}")
    left = f"; the first {_MOST_POINTS:,} shown" if len(seen) > _MOST_POINTS else ""
    ax.set_title(f"{len(seen):,} rows{left}")
    ax.legend(loc="best", fontsize="small", framealpha=0.9)
    return ax
