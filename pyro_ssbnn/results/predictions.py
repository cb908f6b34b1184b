r"""Predictions in the target's own units: from the full posterior or from the pruned network, as columns and as scores.

A network's predictive distribution is its likelihood averaged over draws. The pruned network has one set of weights
(their posterior mean), or S draws of them; the noise of a regression is drawn from the guide in both cases. Nothing
else is drawn: intervals are quantiles of that distribution, and a row's are the same in any company.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_ssbnn.data import Preprocessing
from pyro_ssbnn.data.own_units import own_units
from pyro_ssbnn.errors import DataError
from pyro_ssbnn.inference import Fit, Mixture
from pyro_ssbnn.models import CompactNetwork
from pyro_ssbnn.posterior import PredictiveSummary
from pyro_ssbnn.posterior.draws import PosteriorDraws, draw_latents
from pyro_ssbnn.posterior.ensemble import Ensemble, compact_ensemble, posterior_ensemble

__all__ = [
    "SCORES",
    "RunningScores",
    "class_columns",
    "columns",
    "csv_text",
    "digits",
    "full_ensemble",
    "harmless",
    "in_own_units",
    "labels_of",
    "observed_column",
    "pruned_ensemble",
    "quantiles",
]

SCORES = {
    "accuracy": ("accuracy", "share of rows, 1 is best"),
    "nll": ("negative log-likelihood", "nats per row, 0 is best"),
    "ece": ("calibration error (ECE)", "0 to 1, 0 is best"),
    "brier": ("Brier score", "squared error, 0 is best"),
    "rmse": ("RMSE", "target's own units"),
    "r2": ("R^2", "share of the variance, 1 is best"),
    "log_likelihood": ("log-likelihood", "nats per row, own units"),
    "coverage_50": ("50 % interval: coverage", "0.5 is calibrated"),
    "width_50": ("50 % interval: width", "mean, own units"),
    "coverage_90": ("90 % interval: coverage", "0.9 is calibrated"),
    "width_90": ("90 % interval: width", "mean, own units"),
}
"""What scores are called, and what they mean."""

_LEVELS = (0.5, 0.9)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what spreadsheets take for the beginning of a formula
_BINS = 10  # of equal width, for the calibration error


def full_ensemble(
    result: Fit | Mixture, preprocessing: Preprocessing, *, num_draws: int, seed: int, rows: int
) -> Ensemble:
    """Draws from the posterior of the full network, which predict in own units.

    :param rows: to predict at together.
    """
    ensemble = posterior_ensemble(result.model, result.guide, num_draws, seed=seed, rows=rows)
    return own_units(ensemble, preprocessing.target)


def pruned_ensemble(
    network: CompactNetwork,
    result: Fit,
    preprocessing: Preprocessing,
    *,
    num_draws: int,
    seed: int,
    rows: int,
) -> Ensemble:
    """A pruned network of posterior mean weights, or of draws, which predicts in own units.

    :param num_draws: of the noise, where the network has one set of weights.
    :param rows: to predict at together.
    """
    model, guide = result.model, result.guide
    row = next(guide.parameters()).new_zeros(1, model.description.inputs.num_columns)
    with torch.no_grad():
        f = network(row)
    number = len(f) if f.ndim == 3 else num_draws
    blocks = [
        model.likelihood.latents_of(values, model.description.prefix)
        for values in draw_latents(model, guide, number, seed)
    ]
    latents = {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}
    ensemble = compact_ensemble(network, model.likelihood, latents, row, rows=rows)
    return own_units(ensemble, preprocessing.target)


def quantiles(preprocessing: Preprocessing, interval: float, scored: bool) -> tuple[float, ...]:
    """Probabilities of the quantiles to ask of an ensemble: of the interval, and of those that are scored."""
    if preprocessing.class_names:
        return ()
    levels = {interval, *(_LEVELS if scored else ())}
    return tuple(sorted(p for level in levels for p in ((1 - level) / 2, (1 + level) / 2)))


def columns(
    summary: PredictiveSummary, preprocessing: Preprocessing, interval: float
) -> dict[str, NDArray[Any]]:
    """Columns of a table with one row a prediction.

    Classes: ``predicted``, the most probable class, and ``p[class]`` for each. Otherwise ``mean``, ``sd`` (standard
    deviation of the predictive distribution) and ``lower``, ``upper``, the limits of its central interval.
    """
    names = preprocessing.class_names
    if names:
        p = _probabilities(summary)
        predicted = np.asarray(names, dtype=object)[p.argmax(1)]
        return {"predicted": predicted, **dict(zip(class_columns(names), p.T, strict=True))}
    if summary.variance is None:
        raise ValueError("columns: a numeric target's summary has a variance.")
    lower, upper = summary.interval(interval)
    found = {
        "mean": summary.mean,
        "sd": summary.variance.sqrt(),
        "lower": lower,
        "upper": upper,
    }
    return {name: value.numpy() for name, value in found.items()}


class RunningScores:
    """Scores over rows that come piece by piece; ``SCORES`` says what they mean."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        self.count = 0
        self._sums: dict[str, float] = {}
        self._spread = (0.0, 0.0)  # mean of the targets, sum of their squared deviations
        self._bins = np.zeros((2, _BINS))  # confidence and hits of the classes, by confidence

    def add(self, summary: PredictiveSummary, y: Tensor) -> None:
        """Take in some rows.

        :param summary: in own units, scored, with :func:`quantiles`.
        :param y: targets ``[N]`` in own units, labels for classes.
        """
        if summary.log_density is None:
            raise ValueError("RunningScores: the summary is not scored; give it y.")
        self.count += len(y)
        density = summary.log_density
        if self.preprocessing.class_names:
            self._add("nll", -density)
            self._add_classes(_probabilities(summary), y.long().numpy())
            return
        y = y.double()
        before, (mean, squares) = self.count - len(y), self._spread
        here = float(y.mean())  # moments by Chan, Golub and LeVeque's update
        squares += float((y - here).square().sum())
        squares += before * len(y) / self.count * (here - mean) ** 2
        self._spread = (mean + (here - mean) * len(y) / self.count, squares)
        self._add("squares", (summary.mean - y).square())
        self._add("log_likelihood", density)
        for level in _LEVELS:
            lower, upper = summary.interval(level)
            self._add(f"coverage_{100 * level:.0f}", (lower <= y) & (y <= upper))
            self._add(f"width_{100 * level:.0f}", upper - lower)

    def result(self) -> dict[str, float]:
        """Scores of all rows so far."""
        found = {name: total / self.count for name, total in self._sums.items()}
        if "squares" in found:
            mean_square = found.pop("squares")
            total = self._spread[1] / self.count
            share = {"r2": 1 - mean_square / total} if total > 0 else {}
            return {"rmse": math.sqrt(mean_square), **share, **found}
        error = float(np.abs(self._bins[0] - self._bins[1]).sum()) / self.count
        order = {"accuracy": found["accuracy"], "nll": found["nll"], "ece": error}
        return {**order, "brier": found["brier"]}

    def _add_classes(self, p: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
        hits = np.eye(p.shape[1])[labels]
        right = p.argmax(1) == labels
        self._add("accuracy", right)
        # two classes are scored by the probability of the second one
        confidence, happened = (p[:, 1], labels == 1) if p.shape[1] == 2 else (p.max(1), right)
        squares = ((p - hits) ** 2).sum(1)
        self._add("brier", squares / 2 if p.shape[1] == 2 else squares)
        bins = np.searchsorted(np.linspace(0, 1, _BINS + 1)[1:-1], confidence)
        for total, values in zip(self._bins, (confidence, happened), strict=True):
            total += np.bincount(bins, weights=values, minlength=_BINS)

    def _add(self, name: str, values: Tensor | NDArray[Any]) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + float(values.sum())


def digits(preprocessing: Preprocessing) -> int:
    """Significant digits of predictions: nine of the scaled target, as single precision has, and those of its mean."""
    target = preprocessing.target
    if not target.map.is_identity:
        return 12
    before = math.ceil(math.log10(1 + abs(float(target.loc)) / float(target.scale)))
    return min(17, 9 + before)


def csv_text(table: Mapping[str, NDArray[Any]], digits: int, *, header: bool) -> str:
    """Comma-separated rows, with names in the first line on request.

    :param table: columns of numbers, or of objects, which are written as text.
    :param digits: significant digits of the numbers.
    """
    cells = [_quoted(v.tolist()) if v.dtype == object else v.tolist() for v in table.values()]
    row = ",".join("%s" if v.dtype == object else f"%.{digits}g" for v in table.values()) + "\n"
    # One formatting of all rows is ten times as fast as a writer's, row by row.
    body = row * len(cells[0]) % tuple(chain.from_iterable(zip(*cells, strict=True)))
    return f"{','.join(_quoted(list(table)))}\n{body}" if header else body


def in_own_units(
    draws: PosteriorDraws, preprocessing: Preprocessing, observed: Tensor | None = None
) -> PosteriorDraws:
    """Bring mean, draws and log-likelihood of a scaled target to its own units; latents stay as they are.

    Where the target is transformed, the mean of a draw becomes the median.

    :param observed: targets of the rows in own units, ``[N]``, of draws with a log-likelihood.
    """
    if preprocessing.target.is_identity:
        return draws
    score = draws.log_likelihood
    return replace(
        draws,
        mean=None if draws.mean is None else preprocessing.inverse(draws.mean),
        predictive=None if draws.predictive is None else preprocessing.inverse(draws.predictive),
        log_likelihood=None
        if score is None or observed is None
        else score + preprocessing.target.log_slope(observed),
    )


def class_columns(class_names: tuple[str, ...]) -> list[str]:
    """Names of the columns of class probabilities."""
    return [f"p[{name}]" for name in class_names]


def labels_of(column: pd.Series, class_names: tuple[str, ...]) -> NDArray[np.int64]:
    """Labels of class names.

    :raises DataError: for a name that is none of the classes.
    """
    code: Mapping[str, int] = {harmless(name): i for i, name in enumerate(class_names)}
    unknown = sorted(set(column) - set(code))
    if unknown:
        raise DataError(f"unknown classes {unknown}; expected {list(class_names)}.")
    return np.asarray(column.map(code), dtype=np.int64)


def observed_column(y: Tensor, class_names: tuple[str, ...]) -> NDArray[np.object_]:
    """Observed targets as they are written beside predictions: class names, or numbers in all their digits."""
    if class_names:
        return np.asarray(class_names, dtype=object)[y.long().numpy()]
    return y.numpy().astype(object)


def _probabilities(summary: PredictiveSummary) -> NDArray[np.float64]:
    """Class probabilities, ``[N, K]``, of two classes, too."""
    p: NDArray[np.float64] = summary.mean.numpy()
    return np.stack([1 - p, p], 1) if p.ndim == 1 else p


def harmless(text: str) -> str:
    """A name that a spreadsheet takes for text, not for a formula: with an apostrophe before it where that is needed.

    >>> harmless("=1+1"), harmless("-1.5"), harmless("good")
    ("'=1+1", '-1.5', 'good')
    """
    if not text.startswith(_FORMULA):
        return text
    try:
        float(text)
        return text
    except ValueError:
        return f"'{text}"


def _quoted(values: list[Any]) -> list[str]:
    """Fields of text, in quotation marks where they hold a comma, a quotation mark or the end of a line."""
    texts = [harmless(str(value)) for value in values]
    return [
        '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text
        for text in texts
    ]
