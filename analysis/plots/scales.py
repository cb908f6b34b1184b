"""Slab scale against inclusion: which nodes are in, and how large their weights are let be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from pyro_ssbnn.analysis.norms import slab_norms
from pyro_ssbnn.analysis.plots.style import (
    COLOURS,
    MARKERS,
    half_line,
    legend_on_top,
    probability_axis,
    single_axes,
)
from pyro_ssbnn.analysis.scales import inclusion_probabilities, slab_scale_quantiles
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.structure.guide import Guide

__all__ = ["plot_scale_inclusion"]


def plot_scale_inclusion(
    guide: Guide,
    *,
    layers: Sequence[str] | None = None,
    threshold: float = 0.5,
    ax: Axes | None = None,
) -> Axes:
    """Draw one point a node: posterior median of its slab scale t, and its inclusion probability.

    Active nodes have a whisker, the central 90 % of t. The horizontal axis is logarithmic where sizes spread enough.

    Where the slab scale is 1 (SS-IG) the norm of the node's posterior mean weights takes its place
    (:func:`~pyro_ssbnn.analysis.slab_norms`).

    :param layers: names of the gated layers to draw; all by default.
    :param threshold: selection threshold.
    :raises ConfigurationError: without a gated layer to draw, or when layers with and without a slab scale are mixed.
    """
    names = [g.name for g in guide.description.gated_layers] if layers is None else list(layers)
    if not names:
        raise ConfigurationError("plot_scale_inclusion: this network has no gated layer.")
    scaled = {guide.mean_slab_scale(name) is not None for name in names}
    if len(scaled) == 2:
        raise ConfigurationError(
            f"plot_scale_inclusion: {names} mix layers with and without a slab scale; draw them apart (layers=...)."
        )
    has_scale = scaled.pop()
    ax = single_axes(ax, (6.4, 4.2))
    sizes = []
    for i, name in enumerate(names):
        low, middle, high = _sizes(guide, name, has_scale)
        gamma = inclusion_probabilities(guide, name)
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        active = gamma > threshold
        if has_scale:
            ax.hlines(
                gamma[active], low[active], high[active], color=colour, linewidth=0.8, alpha=0.5
            )
        label = f"{name}: {active.sum()} of {guide.description.layer(name).size} active"
        ax.scatter(
            middle, gamma, s=22, color=colour, marker=marker, alpha=0.75, linewidths=0, label=label
        )
        sizes.append(middle)
    half_line(ax, threshold)
    _spread(ax, np.concatenate(sizes))
    probability_axis(ax)
    legend_on_top(ax)
    if has_scale:
        ax.set_xlabel(
            "slab scale t (standard deviation): median, for active nodes with its central 90 %"
        )
        ax.set_title("slab scale and inclusion")
    else:
        ax.set_xlabel("norm of the posterior mean weights")
        ax.set_title("size of the weights and inclusion")
    return ax


def _spread(ax: Axes, sizes: NDArray[np.float64]) -> None:
    """Logarithmic axis with plain numbers, where sizes are positive and spread over more than a factor 5."""
    if sizes.min() <= 0 or sizes.max() < 5 * sizes.min():
        return
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _sizes(guide: Guide, name: str, has_scale: bool) -> NDArray[np.float64]:
    """Low, middle and high size of each node, ``[3, size]``."""
    if has_scale:
        return slab_scale_quantiles(guide, name)
    return np.tile(slab_norms(guide, name), (3, 1))
