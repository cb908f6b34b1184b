r"""Predictions in the target's own units: from the full posterior or from the pruned network, as a table and as scores.

A network's predictive distribution is its likelihood averaged over draws. The pruned network has one set of weights
(their posterior mean), or S draws of them; the noise of a regression is drawn from the guide in both cases.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pyro_ssbnn.analysis import (
    classification_scores,
    interval_coverage,
    log_predictive_density,
    rmse,
)
from pyro_ssbnn.data import Dataset, Preprocessing
from pyro_ssbnn.errors import DataError
from pyro_ssbnn.inference import Fit
from pyro_ssbnn.isolation import seeded
from pyro_ssbnn.posterior.draws import PosteriorDraws, draw_posterior

__all__ = [
    "Prediction",
    "class_columns",
    "in_own_units",
    "predict_full",
    "predict_pruned",
    "scores",
    "to_table",
]

_ROWS = 20_000  # at a time: draws of class probabilities are large
_LEVELS = (0.5, 0.9)


@dataclass(frozen=True)
class Prediction:
    """Predictions for N rows, in the target's own units.

    :param class_names: K names; empty for regression and counts.
    :param mean: expected target, or probability of each class, averaged over the draws, ``[N]`` or ``[N, K]``.
    :param samples: draws of the target, ``[S, N]``; None for classes.
    :param log_likelihood: log p(y | draw), ``[S, N]``; None without y.
    """

    class_names: tuple[str, ...]
    mean: NDArray[np.float64]
    samples: NDArray[np.floating[Any]] | None
    log_likelihood: NDArray[np.float32] | None


def predict_full(
    result: Fit,
    preprocessing: Preprocessing,
    x: Tensor,
    y: Tensor | None = None,
    *,
    num_draws: int,
    seed: int = 0,
) -> Prediction:
    """Predict with draws from the posterior of the full network.

    :param x: scaled predictors ``[N, p]``.
    :param y: scaled targets ``[N]`` to score.
    """
    parts = []
    for rows in torch.arange(len(x)).split(_ROWS):
        at = None if y is None else y[rows]
        draws = draw_posterior(result.model, result.guide, num_draws, x=x[rows], y=at, seed=seed)
        parts.append(_prediction(in_own_units(draws, preprocessing), preprocessing))
    return _joined(parts)


def predict_pruned(
    network: nn.Module,
    result: Fit,
    preprocessing: Preprocessing,
    x: Tensor,
    y: Tensor | None = None,
    *,
    num_draws: int,
    seed: int = 0,
) -> Prediction:
    """Predict with a pruned network of posterior mean weights, or of draws.

    :param x: scaled predictors ``[N, p]``.
    :param num_draws: of the noise, where the network has one set of weights.
    """
    likelihood = result.model.likelihood
    dtype = next(result.guide.parameters()).dtype
    parts = []
    for rows in torch.arange(len(x)).split(_ROWS):
        with torch.no_grad(), seeded(seed, torch.device("cpu")):
            f = network(x[rows].to(dtype))
            if f.ndim == 2:
                f = f.expand(
                    num_draws if preprocessing.task in ("regression", "count") else 1, *f.shape
                )
            noise = draw_posterior(result.model, result.guide, len(f), seed=seed).latents
            latents = {k: v[:, None] for k, v in noise.items() if k.startswith("noise.")}
            predictive = likelihood.distribution(f, latents)
            score = None if y is None else predictive.log_prob(y[rows])
            draws = PosteriorDraws(
                {},
                f.new_zeros(len(f)),
                f.new_zeros(len(f)),
                log_likelihood=score,
                predictive=predictive.sample(),
                mean=likelihood.mean(f),
            )
        parts.append(_prediction(in_own_units(draws, preprocessing), preprocessing))
    return _joined(parts)


def in_own_units(draws: PosteriorDraws, preprocessing: Preprocessing) -> PosteriorDraws:
    """Bring mean, draws and log-likelihood of a standardised target to its own units; latents stay as they are."""
    if preprocessing.target.is_identity:
        return draws
    score = draws.log_likelihood
    return replace(
        draws,
        mean=None if draws.mean is None else preprocessing.inverse(draws.mean),
        predictive=None if draws.predictive is None else preprocessing.inverse(draws.predictive),
        log_likelihood=None if score is None else score - preprocessing.target.log_scale,
    )


def scores(prediction: Prediction, y: Tensor) -> dict[str, float]:
    """Scores against targets ``[N]`` in their own units (labels for classes); see ``console`` for their meaning."""
    observed = y.numpy()
    if prediction.class_names:
        p = prediction.mean
        labels = observed.astype(np.int64)
        # Two classes are scored by the probability of the second one.
        probabilities = p[:, 1] if p.shape[1] == 2 else p
        return classification_scores(probabilities, labels)
    found = {"rmse": rmse(prediction.mean, observed)}
    if prediction.log_likelihood is not None:
        found["log_likelihood"] = log_predictive_density(prediction.log_likelihood)
    if prediction.samples is not None:
        table = interval_coverage(prediction.samples, observed, _LEVELS)
        for level, row in table.iterrows():
            found[f"coverage_{100 * float(str(level)):.0f}"] = float(row["coverage"])
            found[f"width_{100 * float(str(level)):.0f}"] = float(row["width"])
    return found


def to_table(prediction: Prediction, interval: float) -> pd.DataFrame:
    """One row a prediction.

    Classes: ``predicted``, the most probable class, and ``p[class]`` for each. Otherwise ``mean``, ``sd`` (standard
    deviation of the predictive distribution) and ``lower``, ``upper``, the limits of its equal-tailed interval.
    """
    if prediction.class_names:
        names = np.asarray(prediction.class_names, dtype=object)
        table = pd.DataFrame(prediction.mean, columns=class_columns(prediction.class_names))
        table.insert(0, "predicted", names[prediction.mean.argmax(1)])
        return table
    columns: dict[str, Any] = {"mean": prediction.mean}
    if prediction.samples is not None:
        limits = [(1 - interval) / 2, (1 + interval) / 2]
        columns["sd"] = prediction.samples.std(0)
        columns["lower"], columns["upper"] = np.quantile(prediction.samples, limits, axis=0)
    return pd.DataFrame(columns)


def class_columns(class_names: tuple[str, ...]) -> list[str]:
    """Names of the columns of class probabilities."""
    return [f"p[{name}]" for name in class_names]


def labels_of(column: pd.Series, class_names: tuple[str, ...]) -> NDArray[np.int64]:
    """Labels of class names.

    :raises DataError: for a name that is none of the classes.
    """
    code: Mapping[str, int] = {name: label for label, name in enumerate(class_names)}
    unknown = sorted(set(column) - set(code))
    if unknown:
        raise DataError(f"unknown classes {unknown}; expected {list(class_names)}.")
    return np.asarray(column.map(code), dtype=np.int64)


def observed_column(dataset: Dataset) -> NDArray[Any]:
    """Observed targets as they are written beside predictions: class names, or numbers."""
    if dataset.class_names:
        return np.asarray(dataset.class_names, dtype=object)[dataset.y.long().numpy()]
    return dataset.y.numpy()


def _prediction(draws: PosteriorDraws, preprocessing: Preprocessing) -> Prediction:
    if draws.mean is None or draws.predictive is None:
        raise ValueError("predictions need draws at some rows: call draw_posterior with x.")
    mean = draws.mean.double().mean(0).numpy()
    score = None if draws.log_likelihood is None else draws.log_likelihood.float().numpy()
    if preprocessing.task == "binary":
        mean = np.stack([1 - mean, mean], 1)
    samples = None if preprocessing.class_names else draws.predictive.numpy()
    return Prediction(preprocessing.class_names, mean, samples, score)


def _joined(parts: list[Prediction]) -> Prediction:
    def along(axis: int, arrays: list[Any]) -> Any:
        return None if arrays[0] is None else np.concatenate(arrays, axis)

    return Prediction(
        parts[0].class_names,
        along(0, [p.mean for p in parts]),
        along(1, [p.samples for p in parts]),
        along(1, [p.log_likelihood for p in parts]),
    )
