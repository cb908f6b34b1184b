"""Whether restarts select the same predictors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from pyro_ssbnn.analysis.inclusion import predictor_names
from pyro_ssbnn.analysis.plots.style import COLOURS, MUTED, half_line, single_axes
from pyro_ssbnn.analysis.scales import predictor_inclusion
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.match import first_difference

__all__ = ["plot_restart_inclusion"]


def plot_restart_inclusion(
    guides: Sequence[Guide],
    *,
    top: int = 25,
    threshold: float = 0.5,
    feature_names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw every predictor's inclusion in each restart, a dot a restart, and the range between as a line.

    Predictors on which restarts disagree, some above and some below the threshold, are coloured; the highest mean is on
    top. Nodes have no names that restarts share, so that there is no such plot of them.

    :param guides: of two or more fits of one network to the same data.
    :param top: at most so many predictors are drawn.
    :param threshold: selection threshold, a dashed line.
    :param feature_names: one name per predictor in place of the network's own.
    :raises ConfigurationError: for fewer than two guides, guides of different networks, or predictors without gates.
    """
    if len(guides) < 2:
        raise ConfigurationError(
            "plot_restart_inclusion: expected the guides of two or more fits of one network; got"
            f" {len(guides)}."
        )
    for number, other in enumerate(guides[1:], 2):
        difference = first_difference(guides[0], other, ("the first", f"number {number}"))
        if difference:
            raise ConfigurationError(
                f"plot_restart_inclusion: expected guides of one network; {difference}."
            )
    inputs = guides[0].description.inputs
    if not inputs.gated:
        raise ConfigurationError(
            "plot_restart_inclusion: this network's predictors carry no gates; give it input_inclusion."
        )
    if top < 1:
        raise ConfigurationError(f"plot_restart_inclusion: top must be at least 1; got {top}.")
    names = predictor_names(guides[0], feature_names)
    gamma = np.stack([predictor_inclusion(g) for g in guides])
    differs = np.asarray((gamma > threshold).any(0) & (gamma <= threshold).any(0))
    shown = np.argsort(-gamma.mean(0), kind="stable")[:top]
    ax = single_axes(ax, (6.4, 1.6 + 0.26 * len(shown)))
    for label, mask, colour in (
        ("restarts agree", ~differs, MUTED),
        ("restarts disagree", differs, COLOURS[1]),
    ):
        rows = np.flatnonzero(mask[shown])
        if len(rows):
            part = gamma[:, shown[rows]]
            ax.hlines(rows, part.min(0), part.max(0), color=colour, linewidth=1.5)
            x, y = part.ravel(), np.tile(rows, len(guides))
            ax.scatter(x, y, s=28, color=colour, alpha=0.7, linewidths=0, label=label, zorder=4)
    half_line(ax, threshold, vertical=True)
    ax.set_yticks(np.arange(len(shown)), [names[i] for i in shown])
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.set_xlim(-0.03, 1.03)
    ax.set_xlabel(f"inclusion probability, a dot for each of {len(guides)} restarts")
    ax.set_ylabel("predictor")
    title = f"restarts disagree on {differs.sum()} of {inputs.size} predictors"
    if len(shown) < inputs.size:
        title += f"; the {len(shown)} highest shown"
    ax.set_title(title)
    ax.legend(loc="lower right", fontsize="small", framealpha=0.9)
    return ax
