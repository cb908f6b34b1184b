r"""How good predictions are, and how honest: scores and calibration from the posterior predictive distribution.

Probabilities here are *predictive*, averaged over draws: ``draws.mean.mean(0)`` of
:class:`~pyro_ssbnn.PosteriorDraws`. ``[N]`` is the probability of class 1, ``[N, K]`` has a column per class.
Arguments may be NumPy arrays or tensors on the CPU; every function raises :class:`~pyro_ssbnn.errors.DataError` for
shapes or values it cannot use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    brier_score_loss,
    log_loss,
    root_mean_squared_error,
)

from pyro_ssbnn.errors import ConfigurationError, DataError

__all__ = [
    "Reliability",
    "brier_score",
    "expected_calibration_error",
    "interval_coverage",
    "log_predictive_density",
    "negative_log_likelihood",
    "reliability",
    "rmse",
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """Observed frequencies by predicted probability; bins without cases are left out.

    :param confidence: mean predicted probability in each bin, ``[B]``.
    :param frequency: share of cases that came true in each bin, ``[B]``.
    :param count: number of cases in each bin, ``[B]``.
    :param edges: limits of all bins, ``[bins + 1]``.
    :param top_label: whether it is the probability of the predicted class (more than two classes), or that of class 1.
    """

    confidence: Array
    frequency: Array
    count: NDArray[np.int64]
    edges: Array
    top_label: bool

    @property
    def ece(self) -> float:
        """Expected calibration error: mean over cases of their bin's ``|frequency - confidence|``."""
        gaps = np.abs(self.frequency - self.confidence)
        return float((self.count * gaps).sum() / self.count.sum())


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = 10) -> Reliability:
    """Compare predicted probabilities with observed frequencies in bins of equal width, (a, b] but for 0 itself.

    :param probabilities: ``[N]`` of class 1, or ``[N, K]``: then the largest probability is compared with how often the
        predicted class is right (Guo et al. 2017).
    :param labels: ``[N]``, 0..K-1.
    :param bins: number of bins.
    """
    if bins < 1:
        raise ConfigurationError(f"reliability: bins must be at least 1; got {bins}.")
    probabilities, labels = checked_probabilities(probabilities, labels)
    top_label = probabilities.ndim == 2
    if top_label:
        happened = probabilities.argmax(1) == labels
        probabilities = probabilities.max(1)
    else:
        happened = labels == 1
    frequency, confidence = calibration_curve(happened, probabilities, n_bins=bins, pos_label=True)
    edges = np.linspace(0.0, 1.0, bins + 1)
    # The same bins as scikit-learn's, which does not give the counts.
    count = np.bincount(np.searchsorted(edges[1:-1], probabilities), minlength=bins)
    return Reliability(confidence, frequency, count[count > 0], edges, top_label)


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 10
) -> float:
    """Mean distance of predicted probability and observed frequency, 0..1; arguments as for :func:`reliability`."""
    return reliability(probabilities, labels, bins).ece


def brier_score(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean squared error of the probabilities.

    That of class 1 for ``[N]``, within 0..1; summed over the classes for ``[N, K]``, within 0..2, which is Brier's own
    (1950) and twice the first when K = 2.
    """
    probabilities, labels = checked_probabilities(probabilities, labels)
    if probabilities.ndim == 1:
        return float(brier_score_loss(labels, probabilities, pos_label=1))
    hits = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities - hits) ** 2).sum(1).mean())


def negative_log_likelihood(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean of -log predictive probability of the observed class, in nats."""
    probabilities, labels = checked_probabilities(probabilities, labels)
    if probabilities.ndim == 1:
        return float(log_loss(labels, probabilities, labels=[0, 1]))
    return float(log_loss(labels, probabilities, labels=np.arange(probabilities.shape[1])))


def interval_coverage(
    samples: ArrayLike, y: ArrayLike, levels: Sequence[float] = (0.5, 0.9)
) -> pd.DataFrame:
    """How often equal-tailed predictive intervals hold the observation.

    :param samples: draws of y from the posterior predictive, ``[S, N]``.
    :param y: observations ``[N]``, in the same units; a value on a limit counts as held.
    :param levels: nominal coverages, strictly between 0 and 1.
    :returns: a row a level: ``coverage``, which is the level for a calibrated model, and mean ``width``, in units of y.
    """
    samples, y = _checked_draws("interval_coverage", samples), _checked_target(y)
    if samples.shape[1] != len(y):
        raise DataError(
            f"interval_coverage: samples are [S, N] with N = {len(y)}, the number of observations;"
            f" got {list(samples.shape)}."
        )
    rows = []
    for level in levels:
        if not 0 < level < 1:
            raise ConfigurationError(
                f"interval_coverage: levels must lie strictly between 0 and 1; got {level}."
            )
        low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2], axis=0)
        held = (low <= y) & (y <= high)
        rows.append({"coverage": held.mean(), "width": (high - low).mean()})
    return pd.DataFrame(rows, index=pd.Index(list(levels), dtype=float, name="level"))


def rmse(mean: ArrayLike, y: ArrayLike) -> float:
    """Root mean squared error of the predictive mean, in units of y.

    :param mean: predictive mean ``[N]``, or expected y of each draw, ``[S, N]``, to be averaged.
    :param y: observations ``[N]``.
    """
    predicted, observed = np.asarray(mean, dtype=float), _checked_target(y)
    if predicted.ndim == 2:
        predicted = predicted.mean(0)
    if predicted.shape != observed.shape:
        raise DataError(
            f"rmse: mean must be [N] or [S, N] with N = {len(observed)}; got {list(predicted.shape)}."
        )
    return float(root_mean_squared_error(observed, predicted))


def log_predictive_density(log_likelihood: ArrayLike) -> float:
    r"""Mean test log-likelihood: :math:`N^{-1}\sum_i \log S^{-1}\sum_s p(y_i | \text{draw } s)`, nats per observation.

    For targets standardised by a scale c, subtract log c to have it in the targets' own units.

    :param log_likelihood: ``[S, N]``, as ``draws.log_likelihood``.
    """
    scores = _checked_draws("log_predictive_density", log_likelihood)
    return float((np.logaddexp.reduce(scores, axis=0) - np.log(len(scores))).mean())


def checked_probabilities(
    probabilities: ArrayLike, labels: ArrayLike
) -> tuple[Array, NDArray[np.int64]]:
    """Probabilities ``[N]`` or ``[N, K]``, rows summing to 1, and labels ``[N]`` as arrays.

    :raises DataError: for shapes or values that are none.
    """
    p, y = np.asarray(probabilities, dtype=float), np.asarray(labels)
    if p.ndim not in (1, 2) or p.shape[:1] != y.shape or not y.size:
        raise DataError(
            "probabilities must be [N] or [N, K] and labels [N]; got"
            f" {list(p.shape)} and {list(y.shape)}. Average over the draws first: draws.mean.mean(0)."
        )
    if not ((p >= 0) & (p <= 1)).all():
        raise DataError("probabilities must lie in [0, 1]; give probabilities, not logits.")
    if p.ndim == 2 and not np.allclose(p.sum(1), 1, atol=1e-4):
        raise DataError("probabilities [N, K] must sum to 1 in every row; these do not.")
    classes = 2 if p.ndim == 1 else p.shape[1]
    if (y != np.round(y)).any() or y.min() < 0 or y.max() >= classes:
        raise DataError(
            f"labels must be whole numbers 0..{classes - 1}; found {y.min()} to {y.max()}."
        )
    if p.ndim == 2:
        p = p / p.sum(1, keepdims=True)  # single precision's rounding
    return p, y.astype(np.int64)


def _checked_draws(owner: str, draws: ArrayLike) -> Array:
    values = np.asarray(draws, dtype=float)
    if values.ndim != 2 or not values.size:
        raise DataError(f"{owner}: draws must be [S, N]; got {list(values.shape)}.")
    if np.isnan(values).any():
        raise DataError(f"{owner}: draws have missing values.")
    return values


def _checked_target(y: ArrayLike) -> Array:
    values = np.asarray(y, dtype=float)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise DataError(f"y must be [N], finite numbers; got shape {list(values.shape)}.")
    return values
