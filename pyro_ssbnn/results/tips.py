"""What a figure of the report says where the pointer rests on it: the numbers behind a bar, a point or a band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pyro_ssbnn.analysis import Effect, reliability
from pyro_ssbnn.analysis.plots.predictions import wilson
from pyro_ssbnn.analysis.plots.style import written
from pyro_ssbnn.display import plain
from pyro_ssbnn.inference import History

__all__ = [
    "Tip",
    "of_bound",
    "of_coverage",
    "of_effect",
    "of_nodes",
    "of_predictors",
    "of_reliability",
]

_MOST = 100  # strips of a trace


@dataclass(frozen=True)
class Tip:
    """Words for a strip of a plot, which goes over its whole height or width.

    :param text: is shown there.
    :param low: where the strip begins, in the units of its axis.
    :param high: where it ends.
    :param panel: which of the figure's axes.
    :param lies: whether the strip lies, and its ends are on the vertical axis.
    """

    text: str
    low: float
    high: float
    panel: int = 0
    lies: bool = False


def of_predictors(ax: Any, table: pd.DataFrame) -> list[Tip]:
    """Each bar's predictor, as it was drawn: inclusion, of several fits its range, and prior.

    :param table: of the predictors, see :func:`~pyro_ssbnn.results.predictors.predictor_table`.
    """
    tips = []
    rows = {written(str(name)): (name, row) for name, row in table.iterrows()}
    for at, label in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True):
        name, row = rows[label.get_text()]
        several = f" ({row['lowest']:.3f} to {row['highest']:.3f})" if "lowest" in row else ""
        told = f"{name}: inclusion {row['inclusion']:.3f}{several}"
        told = f"{told}, prior {row['prior_inclusion']:.3f}"
        tips.append(Tip(told, at - 0.5, at + 0.5, lies=True))
    return tips


def of_nodes(panels: Sequence[Any]) -> list[Tip]:
    """Each bar's node and its inclusion, as they were drawn; of a map, which has no bars, nothing."""
    tips = []
    for panel, ax in enumerate(panels):
        bars = [bar for group in ax.containers for bar in group]
        for bar, label in zip(bars, ax.get_xticklabels() if bars else [], strict=True):
            low, high = bar.get_x(), bar.get_x() + bar.get_width()
            told = f"node {label.get_text()}: inclusion {bar.get_height():.3f}"
            tips.append(Tip(told, low, high, panel))
    return tips


def of_effect(effect: Effect) -> list[Tip]:
    """Mean and 90 % band at each value or level; of classes, each one's."""
    table = effect.table()
    at = np.arange(len(effect.points)) if effect.is_factor else effect.points.astype(float)
    told = []
    for value, rows in table.groupby("value", sort=False):
        at_value = str(value) if effect.is_factor else plain(float(value))  # type: ignore[arg-type]
        told.append(f"{effect.predictor} {at_value}")
        for _, row in rows.iterrows():
            whose = f"\n{row['class']}: " if "class" in row else ": "
            band = f"{plain(row['lower'])} to {plain(row['upper'])}"
            told[-1] += f"{whose}mean {plain(row['mean'])}, 90 % band {band}"
    return _between(at, told)


def of_coverage(levels: Sequence[float], covered: ArrayLike, rows: int) -> list[Tip]:
    """Share of rows inside each interval, with its 95 % interval."""
    shares = np.asarray(covered)
    low, high = wilson(shares, np.full(len(shares), rows))
    told = [
        f"{100 * level:.0f} % interval: {100 * share:.1f} % of rows inside (95 % interval {100 * a:.1f} to"
        f" {100 * b:.1f} %)"
        for level, share, a, b in zip(levels, shares, low, high, strict=True)
    ]
    return _between(np.asarray(levels), told)


def of_reliability(probabilities: ArrayLike, labels: ArrayLike) -> list[Tip]:
    """Cases of each bin: what was predicted, what happened, with its 95 % interval."""
    found = reliability(probabilities, labels)
    low, high = wilson(found.frequency, found.count)
    told = [
        f"predicted {p:.3f}, happened {share:.3f} (95 % interval {a:.3f} to {b:.3f}), {number:,} cases"
        for p, share, a, b, number in zip(
            found.confidence, found.frequency, low, high, found.count, strict=True
        )
    ]
    return _between(found.confidence, told)


def of_bound(history: History, num_data: int) -> list[Tip]:
    """The bound and its two costs, in nats per observation, at a hundred epochs at most."""
    some = np.unique(np.linspace(0, len(history) - 1, min(len(history), _MOST)).round().astype(int))
    at = np.asarray(history.epochs)[some]
    elbo, fitted, kl = (
        np.asarray(values)[some] / num_data
        for values in (history.elbo, history.log_likelihood, history.kl)
    )
    told = [
        f"epoch {epoch:g}: ELBO {plain(bound)}, misfit {plain(-likelihood)}, KL {plain(cost)}"
        for epoch, bound, likelihood, cost in zip(at, elbo, fitted, kl, strict=True)
    ]
    return _between(at, told, 0) + _between(at, told, 1)


def _between(at: np.ndarray[Any, Any], told: Sequence[str], panel: int = 0) -> list[Tip]:
    """Strips around points, each half way to the next."""
    half = np.diff(at) / 2 if len(at) > 1 else np.array([0.5])
    low, high = at - np.r_[half[0], half][: len(at)], at + np.r_[half, half[-1]][: len(at)]
    return [Tip(text, a, b, panel) for text, a, b in zip(told, low, high, strict=True)]
