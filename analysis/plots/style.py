"""What the plots share: colours for colour-blind eyes, axes that are given or made, the 1/2 line.

Nothing here touches matplotlib's global settings. A figure is made only when no axes are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from pyro_ssbnn.errors import ConfigurationError

__all__ = [
    "ACCENT",
    "COLOURS",
    "MARKERS",
    "MUTED",
    "AxesArray",
    "figure_axes",
    "half_line",
    "legend_on_top",
    "members",
    "prior_line",
    "probability_axis",
    "single_axes",
    "written",
]

AxesArray = NDArray[np.object_]
"""One-dimensional array of Axes."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, the darker colours first: told apart with any kind of colour vision."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""One shape per layer beside its colour."""

ACCENT = COLOURS[0]
"""What is in the network."""

MUTED = "#9A9A9A"
"""What is not."""

_LONGEST = 60  # characters of a name


def written(name: str) -> str:
    """A name from data as it is written: its dollars begin no formula; of a very long one the beginning."""
    name = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."
    return name.replace("$", r"\$")


def single_axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """The axes given, or those of a new figure of that size in inches."""
    if ax is not None:
        return ax
    return plt.subplots(figsize=size, layout="constrained")[1]


def figure_axes(
    ax: Axes | Sequence[Axes] | AxesArray | None,
    number: int,
    size: tuple[float, float],
    *,
    columns: int | None = None,
    **options: Any,
) -> AxesArray:
    """So many axes as an array: those given, or those of a new figure.

    :param size: of one panel, in inches.
    :param columns: panels side by side; all by default.
    :param options: for ``plt.subplots``.
    :raises ConfigurationError: when another number of axes is given.
    """
    if ax is not None:
        given = np.array([ax], dtype=object) if isinstance(ax, Axes) else np.ravel(np.asarray(ax))
        if len(given) != number:
            raise ConfigurationError(
                f"this plot has {number} panels; give as many axes, or none; got {len(given)}."
            )
        return given
    columns = 2 if number == 4 and columns == 3 else min(columns or number, number)
    rows = -(-number // columns)
    _, grid = plt.subplots(
        rows,
        columns,
        figsize=(size[0] * columns, size[1] * rows),
        layout="constrained",
        squeeze=False,
        **options,
    )
    for spare in grid.ravel()[number:]:
        spare.remove()
    return grid.ravel()[:number]


def half_line(ax: Axes, threshold: float, *, vertical: bool = False, label: str = "") -> None:
    """Dashed line at the selection threshold."""
    draw = ax.axvline if vertical else ax.axhline
    style: dict[str, Any] = {"color": "black", "linestyle": "--", "linewidth": 1, "zorder": 3}
    draw(threshold, label=label or f"threshold {threshold:g}", **style)


def prior_line(ax: Axes, prior: NDArray[np.float64], *, vertical: bool = False) -> None:
    """Dotted line at the prior inclusion probability, or a step for each member where they differ.

    :param prior: of the members in the order in which they are drawn, at 0, 1, ...
    """
    style: dict[str, Any] = {"color": "black", "linestyle": ":", "linewidth": 1}
    if np.ptp(prior) < 1e-12:
        draw = ax.axvline if vertical else ax.axhline
        draw(prior[0], label=f"prior {prior[0]:.2g}", **style)
        return
    places, values = np.arange(len(prior) + 1) - 0.5, np.append(prior, prior[-1])
    if vertical:
        ax.plot(np.repeat(prior, 2), np.repeat(places, 2)[1:-1], label="prior", **style)
    else:
        ax.step(places, values, where="post", label="prior", **style)


def probability_axis(ax: Axes) -> None:
    """Vertical axis of inclusion probabilities, with room for the legend above 1."""
    ax.set_ylim(-0.02, 1.2)
    ax.set_yticks(np.arange(6) / 5)
    ax.set_ylabel("inclusion probability")


def legend_on_top(ax: Axes) -> None:
    """Legend in one row in the room above 1."""
    ax.legend(
        loc="upper center",
        ncols=3,
        fontsize="small",
        frameon=False,
        columnspacing=1.2,
        handlelength=1.6,
    )


def members(group: str, number: int) -> str:
    """Word for a group's members: predictors of the inputs, nodes of a layer."""
    word = "predictor" if group == "input" else "node"
    return word if number == 1 else f"{word}s"
