"""Classifiers in one row: the usual scores of class probabilities, and how well uncertainty tells foreign inputs."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score

from pyro_ssbnn.analysis.calibration import (
    brier_score,
    checked_probabilities,
    expected_calibration_error,
    negative_log_likelihood,
)
from pyro_ssbnn.errors import DataError

__all__ = ["accuracy", "classification_scores", "ood_auroc"]


def accuracy(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Share of rows whose most probable class is the observed one, 0..1; ties go to the lower class.

    :param probabilities: ``[N, K]``, or ``[N]`` of class 1.
    :param labels: ``[N]``, 0..K-1.
    """
    probabilities, labels = checked_probabilities(probabilities, labels)
    predicted = probabilities.argmax(1) if probabilities.ndim == 2 else probabilities > 0.5
    return float((predicted == labels).mean())


def classification_scores(
    probabilities: ArrayLike, labels: ArrayLike, bins: int = 10
) -> dict[str, float]:
    """Scores of predictive class probabilities.

    :param probabilities: averaged over the draws, ``[N, K]``, or ``[N]`` of class 1.
    :param labels: ``[N]``, 0..K-1.
    :param bins: of equal width, for the calibration error (see :func:`~pyro_ssbnn.analysis.reliability`: that of the
        most probable class for ``[N, K]``).
    :returns: ``accuracy``, 0..1; ``nll``, mean negative log-likelihood in nats; ``ece``, expected calibration error,
        0..1; ``brier``, 0..2 for ``[N, K]`` and 0..1 for ``[N]``.
    :raises DataError: for shapes or values that are no probabilities and labels.
    """
    return {
        "accuracy": accuracy(probabilities, labels),
        "nll": negative_log_likelihood(probabilities, labels),
        "ece": expected_calibration_error(probabilities, labels, bins),
        "brier": brier_score(probabilities, labels),
    }


def ood_auroc(entropy_in: ArrayLike, entropy_out: ArrayLike) -> float:
    """How well a measure of uncertainty tells inputs of another kind from those of the training data's.

    The area under the ROC curve is the probability that a foreign input has the higher entropy, ties counted half: 1/2
    for no better than chance, 1 for perfectly apart.

    :param entropy_in: uncertainty at inputs like the training data, ``[N]``; any measure that rises with it.
    :param entropy_out: the same at foreign inputs, ``[M]``.
    :raises DataError: for empty or not one-dimensional arguments, and values that are not finite.
    """
    parts = [np.asarray(values, dtype=float) for values in (entropy_in, entropy_out)]
    for values in parts:
        if values.ndim != 1 or not values.size or not np.isfinite(values).all():
            raise DataError(
                f"ood_auroc: both arguments must be [N], finite numbers; got shape {list(values.shape)}."
            )
    foreign = np.repeat([0, 1], [len(values) for values in parts])
    return float(roc_auc_score(foreign, np.concatenate(parts)))
