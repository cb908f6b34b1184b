"""What a simpler model scores on the same rows: the training mean or shares, and a penalised linear model."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_ssbnn.data import Encoded, Preprocessing

__all__ = ["MOST_VALUES", "baselines"]

MOST_VALUES = 2_000_000
"""Rows times columns that a linear model is fitted to in seconds."""

_FOLDS = 5


def baselines(
    train: Encoded, rows: Encoded, preprocessing: Preprocessing
) -> dict[str, dict[str, float]]:
    """Scores of simple models, fitted to the training rows, by their names.

    Numbers: ``mean`` and ``lasso`` (penalty by cross-validation), with ``rmse``, ``r2`` and the ``log_likelihood`` of
    Normal errors. Classes: ``shares`` and ``logistic``, with ``accuracy``, ``nll`` and ``brier``. The linear model is
    left out where there are too many numbers, or too few rows for its cross-validation.

    :param train: training rows.
    :param rows: rows to score.
    """
    y, observed = (part.observed.double().numpy() for part in (train, rows))
    fits = train.x.numel() <= MOST_VALUES and len(train) >= 2 * _FOLDS
    x, new = train.x.numpy(), rows.x.numpy()
    if not preprocessing.class_names:
        found = {"mean": _of_numbers(y, np.full(len(y), y.mean()), observed, y.mean())}
        if fits:
            from sklearn.linear_model import LassoCV

            model = _fitted(LassoCV(cv=_FOLDS), x, y)
            found["lasso"] = _of_numbers(y, model.predict(x), observed, model.predict(new))
        return found
    number = len(preprocessing.class_names)
    shares = np.bincount(y.astype(np.int64), minlength=number) / len(y)
    labels = observed.astype(np.int64)
    found = {"shares": _of_classes(np.tile(shares, (len(labels), 1)), labels)}
    if fits:
        from sklearn.linear_model import LogisticRegression

        model = _fitted(LogisticRegression(C=1.0, max_iter=500), x, y.astype(np.int64))
        p = np.zeros((len(labels), number))
        p[:, model.classes_] = model.predict_proba(new)
        found["logistic"] = _of_classes(p, labels)
    return found


def _fitted(model: Any, x: NDArray[Any], y: NDArray[Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a baseline that has not quite converged is one
        return model.fit(x, y)


def _of_numbers(
    y: NDArray[Any], fitted: NDArray[Any], observed: NDArray[Any], predicted: Any
) -> dict[str, float]:
    """Scores of predictions with Normal errors of the deviation that the training rows have."""
    variance = max(float(np.mean((y - fitted) ** 2)), np.finfo(np.float64).tiny)
    squares = (observed - predicted) ** 2
    total = float(np.sum((observed - observed.mean()) ** 2))
    scores = {"rmse": float(np.sqrt(squares.mean()))}
    if total > 0:
        scores["r2"] = 1 - float(squares.sum()) / total
    density = -0.5 * (np.log(2 * np.pi * variance) + squares.mean() / variance)
    return {**scores, "log_likelihood": float(density)}


def _of_classes(p: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, float]:
    hits = np.eye(p.shape[1])[labels]
    chosen = np.clip(p[np.arange(len(labels)), labels], np.finfo(np.float64).tiny, None)
    squares = float(((p - hits) ** 2).sum(1).mean())
    return {
        "accuracy": float((p.argmax(1) == labels).mean()),
        "nll": float(-np.log(chosen).mean()),
        "brier": squares / 2 if p.shape[1] == 2 else squares,
    }
