"""Everyday alternatives in ``benchmarks/selection.py``: the cross-validated lasso and random forests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from selection_data import REAL, Data, rmse, rule_record
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LassoCV, lasso_path

__all__ = ["fit_forest", "fit_lasso"]

FOREST_CUT = 3
"""Standard deviations above the mean importance from which on a predictor counts as selected."""

FOREST_ROWS = 3_000
"""Largest number of rows drawn for a tree."""


def fit_lasso(data: Data) -> dict:
    """Five-fold cross-validation over 40 penalties: the best, and the largest within one standard error of it."""
    x, y = data.x.numpy(), data.y.numpy()
    # Penalties down to a hundredth of the one that closes all: far smaller ones take minutes.
    cross_validated = LassoCV(alphas=40, eps=0.01, cv=5, max_iter=5_000).fit(x, y)
    error = cross_validated.mse_path_.mean(1)
    best = int(error.argmin())
    limit = (
        error[best]
        + cross_validated.mse_path_[best].std(ddof=1) / cross_validated.mse_path_.shape[1] ** 0.5
    )
    simplest = int(np.flatnonzero(error <= limit)[0])  # penalties fall
    centre, level = x.mean(0), y.mean()
    chosen = cross_validated.alphas_[[simplest, best]]
    _, weights, _ = lasso_path(x - centre, y - level, alphas=chosen, max_iter=5_000)
    rules = {}
    for name, weight in zip(("one standard error", "least error"), weights.T, strict=True):
        prediction = (data.x_test.numpy() - centre) @ weight + level
        rules[name] = rule_record(np.flatnonzero(weight), rmse(prediction, data.y_test))
    at = {"best_penalty": best, "penalties": len(error)}  # the last one would be a border
    return {"rules": rules, **at}


def fit_forest(data: Data, trees: int) -> dict:
    """A random forest's impurity importances, cut in two ways; errors are those of a forest of the predictors kept."""
    x, y, x_test = data.x.numpy(), data.y.numpy(), data.x_test.numpy()
    importance = _forest(x, y, trees).feature_importances_
    cut = importance.mean() + FOREST_CUT * importance.std()
    kept = {
        "five most important": np.sort(importance.argsort()[-len(REAL) :]),
        f"mean + {FOREST_CUT} sd": np.flatnonzero(importance > cut),
    }
    rules = {}
    for name, columns in kept.items():
        prediction = np.full(len(x_test), y.mean())
        if len(columns):
            prediction = _forest(x[:, columns], y, 100).predict(x_test[:, columns])
        rules[name] = rule_record(columns, rmse(prediction, data.y_test))
    return {"rules": rules}


def _forest(x: NDArray, y: NDArray, trees: int) -> RandomForestRegressor:
    share = min(1.0, FOREST_ROWS / len(x))  # rows of a tree: whole samples of 10,000 take minutes
    forest = RandomForestRegressor(
        trees, max_features=1 / 3, min_samples_leaf=5, max_samples=share, random_state=0
    )
    return forest.fit(x, y)
