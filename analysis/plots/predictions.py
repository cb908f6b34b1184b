"""Predictions: credible bands along one predictor, and the reliability of probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from pyro_ssbnn.analysis.calibration import reliability
from pyro_ssbnn.analysis.plots.style import ACCENT, COLOURS, MUTED, single_axes, written
from pyro_ssbnn.errors import DataError
from pyro_ssbnn.posterior.draws import PosteriorDraws

__all__ = ["plot_predictive_band", "plot_reliability", "wilson"]

BAND_LEVELS = (0.9, 0.5)


def plot_predictive_band(
    x: ArrayLike,
    draws: PosteriorDraws,
    y: ArrayLike | None = None,
    *,
    x_observed: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the predictive mean with central 50 and 90 % credible bands, of the mean (blue) and of y (grey).

    The limits of y's bands come from the draws alone: a thousand draws or more make them smooth.

    :param x: the one predictor where ``draws`` predict, ``[N]`` or ``[N, 1]``, in any order.
    :param draws: ``draw_posterior(model, guide, 1000, x=x)``; its ``mean`` and ``predictive`` are ``[S, N]``.
    :param y: observations to draw as points, ``[N]`` at x, or ``[M]`` at ``x_observed``.
    :param x_observed: where y was observed, when that is not x.
    :raises DataError: when x is not one predictor, or shapes do not match.
    """
    where = _one_predictor("x", x)
    if draws.mean is None or draws.predictive is None or draws.mean.shape[1:] != where.shape:
        held = None if draws.mean is None else list(draws.mean.shape)
        raise DataError(
            f"plot_predictive_band: draws must predict one number at each of the {len(where)} points of x, [S, N];"
            f" their mean is {held}. Make them with draw_posterior(..., x=x)."
        )
    order = np.argsort(where, kind="stable")
    where = where[order]
    mean, predictive = draws.mean.numpy()[:, order], draws.predictive.numpy()[:, order]
    ax = single_axes(ax, (6.4, 4.2))
    _draw_bands(ax, where, predictive, ("#E4E4E4", "#C8C8C8"), "y")
    _draw_bands(ax, where, mean, ("#9CCBE8", "#4FA0D0"), "mean")
    for limit in np.quantile(predictive, [0.25, 0.75], axis=0):  # where the mean's bands cover it
        ax.plot(where, limit, color="#707070", linewidth=0.6)
    ax.plot(where, mean.mean(0), color="black", linewidth=1.4, label="posterior mean")
    if y is not None:
        at = (
            _one_predictor("x", x)
            if x_observed is None
            else _one_predictor("x_observed", x_observed)
        )
        observed = np.asarray(y, dtype=float)
        if observed.shape != at.shape:
            raise DataError(
                f"plot_predictive_band: y must be [{len(at)}], one a point; got {list(observed.shape)}."
            )
        ax.plot(at, observed, ".", color=COLOURS[1], markersize=5, label="observed")
    ax.set_xlabel("x")
    ax.set_ylabel("y")
    ax.set_title("posterior prediction")
    ax.legend(loc="best", fontsize="small", framealpha=0.9)
    return ax


def plot_reliability(
    probabilities: ArrayLike,
    labels: ArrayLike,
    *,
    bins: int = 10,
    class_names: Sequence[str] = (),
    ax: Axes | None = None,
) -> Axes:
    """Draw observed frequency against predicted probability, with 95 % Wilson intervals and the cases in each bin.

    Points on the diagonal are calibrated, below it overconfident. The title has the expected calibration error.

    :param probabilities: predictive, ``[N]`` of class 1 or ``[N, K]`` (then the top class), averaged over draws.
    :param labels: ``[N]``, 0..K-1.
    :param bins: of equal width.
    :param class_names: names of the classes, in label order.
    :raises DataError: for shapes or values that cannot be used.
    """
    found = reliability(probabilities, labels, bins)
    ax = single_axes(ax, (5.2, 5.0))
    low, high = wilson(found.frequency, found.count)
    frequency, confidence = found.frequency, found.confidence
    ax.plot(
        [0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="perfectly calibrated"
    )
    ax.vlines(confidence, low, high, color=ACCENT, linewidth=1.2, alpha=0.7, label="95 % interval")
    ax.plot(
        confidence,
        frequency,
        "o-",
        color=ACCENT,
        markersize=5,
        label="bins; below, their number of cases",
    )
    middle = (found.edges[:-1] + found.edges[1:]) / 2
    places = np.clip(np.searchsorted(found.edges, confidence) - 1, 0, len(middle) - 1)
    for place, number in zip(places, found.count, strict=True):  # where nothing else is drawn
        ax.text(middle[place], -0.06, f"{number:,}", ha="center", va="center", fontsize="small")
    ax.axhline(-0.02, color=MUTED, linewidth=0.6)
    ax.set_xlim(0, 1)
    ax.set_ylim(-0.1, 1.02)
    ax.set_aspect("equal", adjustable="box")
    if found.top_label:
        ax.set_xlabel("predicted probability of the predicted class")
        ax.set_ylabel("share predicted rightly")
    else:
        name = f"'{written(class_names[1])}'" if len(class_names) > 1 else "class 1"
        ax.set_xlabel(f"predicted probability of {name}")
        ax.set_ylabel(f"share that are {name}")
    ax.set_title(
        f"reliability of {found.count.sum():,} cases; calibration error {100 * found.ece:.1f} %"
    )
    ax.legend(loc="best", fontsize="small", framealpha=0.9)
    return ax


def _draw_bands(
    ax: Axes,
    x: NDArray[np.float64],
    draws: NDArray[np.float64],
    colours: tuple[str, str],
    what: str,
) -> None:
    for level, colour in zip(BAND_LEVELS, colours, strict=True):
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
        label = f"{what}: central {100 * level:.0f} %"
        ax.fill_between(x, low, high, color=colour, linewidth=0, label=label)


def wilson(p: NDArray[np.float64], n: NDArray[np.int64], z: float = 1.96) -> NDArray[np.float64]:
    """Wilson's (1927) interval of each frequency among so many cases: low and high, ``[2, B]``."""
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return np.clip([centre - half, centre + half], 0, 1)


def _one_predictor(name: str, x: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(x, dtype=float)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise DataError(
            f"plot_predictive_band: {name} must be one predictor, [N] or [N, 1]; got {list(values.shape)}."
        )
    return values
