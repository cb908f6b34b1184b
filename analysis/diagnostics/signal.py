r"""Is there signal that the network leaves behind? And if a layer closed, was there anything to find?

The residuals of the fit, :math:`r_i = y_i - E[y_i]` for a Gaussian likelihood, class indicators minus probabilities for
classes, and quantile residuals :math:`\Phi^{-1}(u_i)` of the probability integral transform for all others (Dunn and
Smyth 1996), which are standard Normal for a right model whatever the targets, are predicted from x by a random forest
on other folds, :math:`\hat r_{-i}`. With :math:`d_i = r_i^2 - (r_i - \hat r_{-i})^2`, the share of the residuals'
variance that could still be explained is

.. math:: R = \sum_i d_i \Big/ \sum_i r_i^2,\qquad \text{cost} = -\tfrac12\log(1 - R)\ \text{nats per observation},

the cost being that of a Gaussian noise that is too large by it. A forest is no judge of how much there is, only a
witness that there is some: a network without active nodes leaves all of it behind.

A forest that finds nothing is no evidence of absence: of rare classes it sees little. So where a layer closed each
column of x is tested by itself, too, with a variance that need not be the same for all rows (White 1980),

.. math:: z_j = \sum_i (x_{ij} - \bar x_j)\, r_i \Big/ \Big(\sum_i (x_{ij} - \bar x_j)^2 r_i^2\Big)^{1/2},

standard Normal without signal; the smallest p-value counts times the number of tests (Bonferroni).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import KFold, cross_val_predict

from pyro_ssbnn.analysis.diagnostics.evidence import Evidence
from pyro_ssbnn.analysis.diagnostics.predictive import transformed
from pyro_ssbnn.analysis.diagnostics.report import MATTERS, SERIOUS, SIGMAS, Check
from pyro_ssbnn.likelihoods import GaussianLikelihood

__all__ = ["check_signal"]

Array = NDArray[np.float64]

_FOLDS = 5
_TREES = 100
_LEAF = 5
_CANDIDATES = 64  # predictors tried at a split, at most: images have hundreds
_LEVEL = 0.01  # of all tests of single columns together


def check_signal(evidence: Evidence) -> Check:
    """Whether a random forest finds signal in the residuals, and what a collapsed layer means for it."""
    residual = residuals(evidence)
    share, error = explained(evidence.x.double().numpy(), residual, evidence.seed)
    cost = -0.5 * math.log1p(-min(max(share, 0.0), 0.999))
    collapsed = evidence.result.collapsed
    values = {"share": share, "error": error, "cost": cost, "collapsed": collapsed}
    sure = share > SIGMAS * error and cost > MATTERS
    if collapsed:
        return _of_a_collapse(evidence, residual, values, sure)
    if sure:
        return Check(
            "signal",
            "warning" if cost > SERIOUS else "note",
            f"A random forest still explains {100 * share:.0f} ± {100 * error:.0f} % of the residuals"
            f" ({cost:.2f} nats per observation): the network misses signal.",
            "More or other nodes or predictors: train longer, lower gate_rate, raise prior inclusion, a wider network.",
            values,
        )
    return Check(
        "signal",
        "ok",
        f"A random forest finds nothing in the residuals ({100 * share:.0f} ± {100 * error:.0f} % explained).",
        values=values,
    )


def _of_a_collapse(
    evidence: Evidence, residual: Array, values: dict[str, object], sure: bool
) -> Check:
    """What forest and single predictors say of a network that predicts a constant."""
    inputs = evidence.result.model.description.inputs
    p_value, column = strongest_column(evidence.x.double().numpy(), residual)
    name = np.repeat(inputs.names, inputs.widths or 1)[column]
    values = {**values, "p_value": p_value, "predictor": str(name)}
    start = f"No node of {', '.join(evidence.result.collapsed)} is active, so the network predicts a constant"
    if sure or p_value < _LEVEL:
        share = 100 * float(str(values["share"]))
        finder = (
            f"a random forest explains {share:.0f} % of what it leaves"
            if sure
            else f"{name} alone goes with what it leaves (p = {p_value:.2g}, as the best of all)"
        )
        return Check(
            "signal",
            "warning",
            f"{start}; {finder}: the fit collapsed.",
            "Lower gate_rate, lengthen kl_warmup, train longer, or raise the prior inclusion probability.",
            values,
        )
    return Check(
        "signal",
        "note",
        f"{start}. Neither a random forest nor any predictor alone finds signal ({name} comes nearest, p ="
        f" {p_value:.2g}, as the best of all).",
        "The empty network may be the answer; more data would tell.",
        values,
    )


def strongest_column(x: Array, residual: Array) -> tuple[float, int]:
    """Smallest p-value of the columns of x by themselves, times the number of tests, and its column.

    :param x: predictors ``[N, p]``.
    :param residual: ``[N, columns]``.
    """
    centred, left = x - x.mean(0), residual - residual.mean(0)
    spread = np.sqrt((centred**2).T @ left**2)
    z = np.abs(centred.T @ left) / np.where(spread > 0, spread, np.inf)
    column = int(z.max(1).argmax())
    return min(1.0, float(2 * norm.sf(z.max()) * z.size)), column


def residuals(evidence: Evidence) -> Array:
    """Residuals of the fit, ``[N, columns]``; see the module."""
    if evidence.draws.mean is None:
        raise ValueError("the evidence holds no predictions.")
    mean = evidence.draws.mean.double().numpy().mean(0)
    y = evidence.y.double().numpy()
    likelihood = evidence.result.model.likelihood
    if likelihood.predicts_classes and mean.ndim == 2:
        y = np.eye(mean.shape[1])[y.astype(int)]
    residual: Array = y - mean
    if not (likelihood.predicts_classes or isinstance(likelihood, GaussianLikelihood)):
        least = 0.5 / len(evidence.draws.mean)  # what so many draws tell from 0
        residual = norm.ppf(transformed(evidence).clip(least, 1 - least))
    return residual.reshape(len(residual), -1)


def explained(x: Array, residual: Array, seed: int) -> tuple[float, float]:
    """Share of the residuals' sum of squares that a forest explains on other folds, and its standard error.

    :param x: predictors ``[N, p]``.
    :param residual: ``[N, columns]``.
    """
    if len(x) < 2 * _FOLDS:
        return 0.0, math.inf
    forest = RandomForestRegressor(
        _TREES,
        min_samples_leaf=_LEAF,
        max_features=min(max(1, x.shape[1] // 3), _CANDIDATES),
        random_state=seed,
    )
    target = residual if residual.shape[1] > 1 else residual[:, 0]
    folds = KFold(_FOLDS, shuffle=True, random_state=seed)
    predicted = cross_val_predict(forest, x, target, cv=folds).reshape(residual.shape)
    gain = (residual**2 - (residual - predicted) ** 2).sum(1)
    total = float((residual**2).sum())
    if total == 0:
        return 0.0, 0.0
    return float(gain.sum() / total), float(gain.std(ddof=1) * math.sqrt(len(gain)) / total)
