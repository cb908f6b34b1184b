"""How a fit went: the ELBO with its parts, and the nodes' inclusion, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.typing import NDArray

from pyro_ssbnn.analysis.plots.style import (
    ACCENT,
    COLOURS,
    MUTED,
    AxesArray,
    figure_axes,
    half_line,
    legend_on_top,
    members,
    probability_axis,
)
from pyro_ssbnn.display import plain
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference.history import History

__all__ = ["plot_elbo", "plot_inclusion_history"]

Array = NDArray[np.float64]
MOST_TRAJECTORIES = 64
_SPIKES = 0.02  # share of the late epochs, at either end, that the axis may cut off


def plot_elbo(
    history: History,
    *,
    num_data: int | None = None,
    ax: Sequence[Axes] | AxesArray | None = None,
) -> AxesArray:
    """Draw the ELBO, and below it the two costs it is made of: misfit (-log-likelihood) and KL.

    The ELBO is the whole bound also while the KL's weight was still rising (shaded). The vertical axes are fitted to
    the later epochs, so that neither the first ones nor spikes squash the rest; the legend says how many lie outside.
    Points with error bars are the bound as it was read on draws of its own.

    :param num_data: observations fitted to; then all is in nats per observation.
    :param ax: two axes; by default a new figure.
    :returns: both axes.
    :raises ConfigurationError: for an empty history.
    """
    _check_not_empty(history)
    panels = figure_axes(ax, 2, (7.0, 2.9), columns=1, sharex=True)
    unit, per = ("nats", 1) if num_data is None else ("nats per observation", num_data)
    epochs = history.epochs
    warm = np.asarray(history.kl_weight) < 1
    misfit, kl = -np.asarray(history.log_likelihood) / per, np.asarray(history.kl) / per
    elbo = history.elbo / per
    panels[0].plot(epochs, elbo, color=ACCENT, label="ELBO")
    if history.bounds:
        at, bound, error = np.asarray(history.bounds, dtype=float).T
        panels[0].errorbar(
            at,
            bound / per,
            error / per,
            fmt="o",
            ms=4,
            color=COLOURS[1],
            zorder=3,
            label="read on its own draws",
        )
    panels[1].plot(epochs, misfit, color=COLOURS[1], label="misfit: −E[log-likelihood]")
    panels[1].plot(
        epochs, kl, color=COLOURS[2], linestyle="--", label="complexity: KL from the prior"
    )
    _fit_limits(panels[0], [elbo], warm)
    _fit_limits(panels[1], [misfit, kl], warm)
    for panel in panels:
        if warm.any():
            last = int(np.flatnonzero(warm)[-1]) + 1
            panel.axvspan(0.5, last + 0.5, color="#E8E8E8", zorder=0, label="KL warm-up")
        panel.set_xlim(history.epochs[0] / 2, history.epoch + history.epochs[0] / 2)
        panel.set_ylabel(unit)
        panel.legend(loc="best", fontsize="small", framealpha=0.9)
    panels[0].set_title(f"ELBO (last epoch: {plain(elbo[-1])} {unit})")
    panels[1].set_title("its two costs: ELBO = −misfit − complexity")
    panels[1].set_xlabel("epoch")
    return panels


def plot_inclusion_history(
    history: History,
    *,
    threshold: float = 0.5,
    ax: Sequence[Axes] | AxesArray | None = None,
) -> AxesArray:
    """Draw the number of active nodes of every gated group, then a panel a group with its inclusion probabilities.

    Up to 64 nodes have a line each; of wider groups the median and the central 50 and 90 % of the nodes are shown,
    apart for those that end above the threshold and those that end below.

    :param threshold: selection threshold.
    :param ax: one axes more than there are gated groups; by default a new figure.
    :returns: the axes, the counts' first.
    :raises ConfigurationError: for an empty history, or a network without gates.
    """
    _check_not_empty(history)
    if not history.inclusion:
        raise ConfigurationError("plot_inclusion_history: this network has no gates.")
    panels = figure_axes(ax, 1 + len(history.inclusion), (4.8, 3.4), columns=3)
    _draw_counts(panels[0], history, threshold)
    for panel, (name, rows) in zip(panels[1:], history.inclusion.items(), strict=True):
        trajectories = np.stack(rows).astype(float)  # [epochs, size]
        kept = trajectories[-1] > threshold
        if trajectories.shape[1] <= MOST_TRAJECTORIES:
            _draw_lines(panel, history.epochs, trajectories, kept)
            panel.set_xlabel("epoch")
        else:
            _draw_fans(panel, history.epochs, trajectories, kept)
            panel.set_xlabel("epoch; lines: median, bands: 50 and 90 % of the nodes")
        half_line(panel, threshold)
        panel.set_xlim(history.epochs[0], max(history.epoch, 2 * history.epochs[0]))
        probability_axis(panel)
        panel.set_title(f"{name}: {kept.sum()} of {len(kept)} {members(name, len(kept))} active")
        legend_on_top(panel)
    return panels


def _draw_counts(ax: Axes, history: History, threshold: float) -> None:
    epochs = history.epochs
    styles = ("-", "--", "-.", ":")
    counts = history.active(threshold)
    for i, (name, count) in enumerate(counts.items()):
        label = f"{name}: {count[-1]} of {len(history.inclusion[name][0])} at the end"
        colour = COLOURS[i % len(COLOURS)]
        ax.plot(epochs, count, color=colour, linestyle=styles[i % len(styles)], label=label)
    largest = max(count.max() for count in counts.values())
    ax.set_ylim(-0.03 * max(largest, 1), 1.05 * max(largest, 1))
    ax.set_xlim(history.epochs[0], max(history.epoch, 2 * history.epochs[0]))
    ax.set_xlabel("epoch")
    ax.set_ylabel("active nodes or predictors" if "input" in counts else "active nodes")
    ax.set_title(f"active: inclusion above {threshold:g}")
    ax.legend(loc="best", fontsize="small", framealpha=0.9)


def _draw_lines(ax: Axes, epochs: Array, trajectories: Array, kept: NDArray[np.bool_]) -> None:
    for chosen, colour, word in ((~kept, MUTED, "below"), (kept, ACCENT, "above")):
        if chosen.any():
            lines = [np.column_stack([epochs, line]) for line in trajectories[:, chosen].T]
            label = f"{chosen.sum()} end {word}"
            ax.add_collection(LineCollection(lines, colors=colour, linewidths=1.1, label=label))


def _draw_fans(ax: Axes, epochs: Array, trajectories: Array, kept: NDArray[np.bool_]) -> None:
    for chosen, colour, word in ((~kept, MUTED, "end below"), (kept, ACCENT, "end above")):
        if not chosen.any():
            continue
        nodes = trajectories[:, chosen]
        low, quarter, middle, upper, high = np.quantile(
            nodes, [0.05, 0.25, 0.5, 0.75, 0.95], axis=1
        )
        ax.fill_between(epochs, low, high, color=colour, alpha=0.2, linewidth=0)
        ax.fill_between(epochs, quarter, upper, color=colour, alpha=0.35, linewidth=0)
        ax.plot(epochs, middle, color=colour, label=f"{chosen.sum()} {word}")


def _fit_limits(ax: Axes, curves: list[Array], warm: NDArray[np.bool_]) -> None:
    """Fit the vertical axis to the epochs after the warm-up and the first third (the last half at least)."""
    epochs = len(warm)
    settled = int(np.flatnonzero(warm)[-1]) + 1 if warm.any() else 0
    start = min(max(settled, epochs // 3), epochs // 2)
    late = np.concatenate([curve[start:] for curve in curves])
    late = late[np.isfinite(late)]
    if not late.size:
        return
    # Quantiles: a spike of a few epochs must not make the rest a flat line. The last epoch is always seen.
    ends = [curve[-1] for curve in curves if np.isfinite(curve[-1])]
    low, high = np.quantile(late, [_SPIKES, 1 - _SPIKES])
    low, high = min(low, *ends, high), max(high, *ends, low)
    span = (high - low) or 0.05 * abs(late[0]) or 1.0
    every = np.concatenate([curve[np.isfinite(curve)] for curve in curves])
    # Half as much again for the early epochs, where they need it.
    low = max(every.min(), low - 0.5 * span) - 0.08 * span
    high = min(every.max(), high + 0.5 * span) + 0.08 * span
    ax.set_ylim(low, high)
    outside = np.any([(curve < low) | (curve > high) for curve in curves], axis=0)
    if outside.any():
        note = f"{outside.sum()} epoch{'s' if outside.sum() > 1 else ''} outside the axis"
        ax.plot([], [], linestyle="none", label=f"({note})")


def _check_not_empty(history: History) -> None:
    if len(history) == 0:
        raise ConfigurationError("the history holds no epoch; fit the network first.")
