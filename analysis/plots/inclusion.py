"""Inclusion probabilities, layer by layer: sorted bars, or a map of the nodes of a wide layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from pyro_ssbnn.analysis.plots.style import (
    ACCENT,
    MUTED,
    AxesArray,
    figure_axes,
    half_line,
    legend_on_top,
    members,
    prior_line,
    probability_axis,
)
from pyro_ssbnn.analysis.scales import inclusion_probabilities
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.structure.gates import GateGroup
from pyro_ssbnn.structure.guide import Guide

__all__ = ["plot_inclusion"]

WIDEST_BARS = 64
_VISIBLE = 0.005  # height from which a bar is seen
_FEWEST_BARS = 12


def plot_inclusion(
    guide: Guide,
    *,
    layers: Sequence[str] | None = None,
    threshold: float = 0.5,
    kind: str = "auto",
    ax: Axes | Sequence[Axes] | AxesArray | None = None,
) -> AxesArray:
    """Draw the exact inclusion probabilities of the nodes, one panel a layer.

    Bars are sorted from the highest, with a dashed line at the threshold and a dotted one at the prior; nodes above the
    threshold are blue, those too low to be seen only counted. Layers of more than 64 nodes become a map: one cell a
    node, in the order of the nodes, active ones framed.

    :param layers: names of the gated layers to draw; all by default (predictors: ``plot_predictor_inclusion``).
    :param threshold: selection threshold.
    :param kind: "bars", "map", or "auto".
    :param ax: as many axes as there are layers; by default a new figure.
    :returns: the axes, one per layer.
    :raises ConfigurationError: when there is no gated layer to draw, or ``kind`` is another word.
    """
    if kind not in ("auto", "bars", "map"):
        raise ConfigurationError(
            f"plot_inclusion: kind must be 'auto', 'bars' or 'map'; got {kind!r}."
        )
    names = [g.name for g in guide.description.gated_layers] if layers is None else list(layers)
    if not names:
        raise ConfigurationError("plot_inclusion: this network has no gated layer.")
    panels = figure_axes(ax, len(names), (5.0, 3.8), columns=3)
    for panel, name in zip(panels, names, strict=True):
        gamma = inclusion_probabilities(guide, name)
        active = int((gamma > threshold).sum())
        panel.set_title(f"{name}: {active} of {len(gamma)} {members(name, len(gamma))} active")
        if kind == "map" or (kind == "auto" and len(gamma) > WIDEST_BARS):
            _draw_map(panel, gamma, threshold)
        else:
            _draw_bars(panel, gamma, threshold, guide.description[name])
    return panels


def _draw_bars(ax: Axes, gamma: NDArray[np.float64], threshold: float, group: GateGroup) -> None:
    """Every bar there is to see, each named; nodes without one are only counted."""
    order = np.argsort(-gamma, kind="stable")
    seen = int((gamma >= _VISIBLE).sum())
    shown = order[: min(len(gamma), max(seen, _FEWEST_BARS))]
    colours = [ACCENT if p > threshold else MUTED for p in gamma[shown]]
    positions = np.arange(len(shown))
    ax.bar(positions, gamma[shown], width=0.85, color=colours)
    half_line(ax, threshold)
    if group.gated:
        prior_line(ax, group.prior_inclusion.numpy()[shown])
    turned = 90 if len(shown) > 24 else 0
    size = min(10.0, (270 if turned else 200) / len(shown))  # points, so that none touches another
    ax.set_xticks(positions, [str(j) for j in shown], fontsize=size, rotation=turned)
    ax.set_xlim(-0.7, len(shown) - 0.3)
    left = len(gamma) - len(shown)
    more = f"; {left} more below {_VISIBLE:g}" if left else ""
    ax.set_xlabel(f"node, sorted by inclusion{more}")
    probability_axis(ax)
    legend_on_top(ax)


def _draw_map(ax: Axes, gamma: NDArray[np.float64], threshold: float) -> None:
    columns = math.ceil(math.sqrt(len(gamma)))
    rows = -(-len(gamma) // columns)
    cells = np.full(rows * columns, np.nan)
    cells[: len(gamma)] = gamma
    image = ax.imshow(cells.reshape(rows, columns), cmap="cividis", vmin=0, vmax=1, aspect="equal")
    for node in np.flatnonzero(gamma > threshold):
        corner = (node % columns - 0.5, node // columns - 0.5)
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="#D55E00", linewidth=1.2))
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.85)
    bar.set_label("inclusion probability")
    bar.ax.axhline(threshold, color="#D55E00", linewidth=1.5)
    firsts = np.arange(0, rows, -(-rows // 8))
    ax.set_yticks(firsts, [str(row * columns) for row in firsts])
    ax.set_ylabel("first node of the row")
    ax.set_xlabel(f"node within its row; framed: above {threshold:g}")
