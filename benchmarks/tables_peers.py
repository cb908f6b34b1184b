"""What people would use instead, at defaults: predictive mean and log density of test rows, and predictors selected."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm, poisson
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import LassoCV, LogisticRegressionCV
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tables_problems import Table

import pyro_ssbnn as ss

Array = NDArray[np.float64]


class Answer(NamedTuple):
    """Predictions of the test rows.

    :param mean: E[y], ``[N]``.
    :param log_density: log p(y) of each, ``[N]``; None where a method has no density.
    :param selected: predictors called relevant; None where a method calls none.
    :param interval: lower and upper ends of 90 % intervals, ``[2, N]``; None where they are not asked for.
    """

    mean: Array
    log_density: Array | None
    selected: set[int] | None = None
    interval: Array | None = None


class Data(NamedTuple):
    """Predictors and targets of some rows, as a network takes them."""

    x: torch.Tensor
    y: torch.Tensor


def network_and_data(
    table: Table, prior: str = "ss-ig"
) -> tuple[ss.MLP, Data, Data, tuple[float, float]]:
    """A network of the package at its defaults, [32], predictors' prior inclusion 1/p, with training and test rows.

    :returns: beside them mean and standard deviation that the targets were standardised by.
    """
    p = table.x.shape[1]
    center, spread = table.x.mean(0), table.x.std(0)
    shift, scale = (table.y.mean(), table.y.std()) if table.kind == "real" else (0.0, 1.0)

    def data(x: Array, y: Array) -> Data:
        scaled = (x - center) / spread, (y - shift) / scale
        return Data(*(torch.tensor(values).float() for values in scaled))

    likelihood = {
        "real": ss.GaussianLikelihood,
        "binary": ss.BernoulliLikelihood,
        "counts": ss.PoissonLikelihood,
    }[table.kind]()
    priors = {"ss-ig": ss.SSIG, "ss-gl": ss.SSGL, "ss-ghs": ss.SSGHS}
    net = ss.MLP(p, [32], prior=priors[prior](), likelihood=likelihood, input_inclusion=1 / p)
    return net, data(table.x, table.y), data(table.x_test, table.y_test), (shift, scale)


def estimator(table: Table, seed: int) -> Answer:
    """The package's estimators at their defaults: two hidden layers, linear terms, raw columns."""
    from pyro_ssbnn.sklearn import SparseBNNClassifier, SparseBNNRegressor

    binary = table.kind == "binary"
    kind = SparseBNNClassifier if binary else SparseBNNRegressor
    given = {"likelihood": "poisson"} if table.kind == "counts" else {}
    model = kind(random_state=seed, **given).fit(table.x, table.y)
    interval = None
    if binary:
        mean = model.predict_proba(table.x_test)[:, 1]
    else:
        mean, interval = model.predict(table.x_test, quantiles=(0.05, 0.95))
    density = model.log_density(table.x_test, table.y_test)
    return Answer(mean, density, set(np.flatnonzero(model.get_support()).tolist()), interval)


def ours(table: Table, seed: int, prior: str = "ss-ig") -> Answer:
    """A single fit at the package's defaults."""
    net, train, test, (shift, scale) = network_and_data(table, prior)
    fitted = ss.fit(net, *train, ss.TrainingOptions(seed=seed), progress=False)
    predicted = ss.predict(fitted.model, fitted.guide, *test, num_draws=400)
    inclusion = fitted.guide.inclusion()["input"]
    return Answer(
        shift + scale * predicted.mean.numpy(),
        predicted.log_density.numpy() - np.log(scale),
        set((inclusion > 0.5).nonzero().flatten().tolist()),
    )


def bart(table: Table, seed: int) -> Answer:
    """Bayesian additive regression trees with a sparse prior on predictors (bartz); probit for classes.

    A predictor is selected that more than half of the draws split on.
    """
    from bartz.BART import gbart

    binary = table.kind == "binary"
    y = table.y if not binary else table.y.astype(bool)
    kind = {"type": "pbart"} if binary else {}
    fitted = gbart(
        table.x.astype(np.float32),
        y if binary else y.astype(np.float32),
        x_test=table.x_test.astype(np.float32),
        sparse=True,
        seed=seed,
        printevery=None,
        **kind,
    )
    selected = set(np.flatnonzero((np.asarray(fitted.varcount) > 0).mean(0) > 0.5).tolist())
    if binary:
        p = np.asarray(fitted.prob_test).mean(0).clip(1e-6, 1 - 1e-6)
        return Answer(p, bernoulli(p, table.y_test), selected)
    draws = np.asarray(fitted.yhat_test, dtype=float)
    if table.kind == "counts":  # by the Gaussian draws, as users of BART do
        return Answer(draws.mean(0), _rounded(draws, _sigma(fitted), table.y_test), selected)
    density = norm.logpdf(table.y_test, draws, _sigma(fitted))
    return Answer(draws.mean(0), log_mean_exp(density), selected)


def _sigma(fitted: object) -> Array:
    return np.asarray(fitted.sigma_, dtype=float).reshape(-1, 1)  # type: ignore[attr-defined]


def _rounded(draws: Array, sigma: Array, y: Array) -> Array:
    """Log probability of the whole numbers next to which a Gaussian falls."""
    low = np.where(y == 0, -np.inf, y - 0.5)
    chance = norm.cdf(y + 0.5, draws, sigma) - norm.cdf(low, draws, sigma)
    return np.log(chance.mean(0).clip(1e-12))


def boosting(table: Table, seed: int) -> Answer:
    """Scikit-learn's histogram boosting; residual variance, or counts' rate, by cross-validation."""
    if table.kind == "binary":
        model = HistGradientBoostingClassifier(random_state=seed)
    else:
        loss = "poisson" if table.kind == "counts" else "squared_error"
        model = HistGradientBoostingRegressor(loss=loss, random_state=seed)
    return _point(model, table)


def forest(table: Table, seed: int) -> Answer:
    """A random forest."""
    kind = RandomForestClassifier if table.kind == "binary" else RandomForestRegressor
    return _point(kind(random_state=seed), table)


def lasso(table: Table, seed: int) -> Answer:
    """The lasso, or logistic regression with its penalty, by cross-validation."""
    if table.kind == "binary":
        options = {"penalty": "l1", "solver": "liblinear", "scoring": "neg_log_loss"}
        model = LogisticRegressionCV(Cs=10, cv=5, random_state=seed, **options)
    else:
        model = LassoCV(cv=5, random_state=seed)
    pipe = make_pipeline(StandardScaler(), model)
    answer = _point(pipe, table)
    selected = set(np.flatnonzero(np.ravel(pipe[-1].coef_)).tolist())
    return answer._replace(selected=selected)


def gaussian_process(table: Table, seed: int) -> Answer:
    """A Gaussian process with one length scale a predictor (one for all beyond 60 predictors)."""
    p = table.x.shape[1]
    kernel = ConstantKernel(1.0) * RBF(np.full(p if p <= 60 else 1, np.sqrt(p)))
    if table.kind == "binary":
        shared = ConstantKernel(1.0) * RBF(np.sqrt(p))
        model = GaussianProcessClassifier(shared, random_state=seed)
        return _point(make_pipeline(StandardScaler(), model), table)
    scaler = StandardScaler().fit(table.x)
    process = GaussianProcessRegressor(
        kernel + WhiteKernel(0.1), normalize_y=True, random_state=seed
    )
    process.fit(scaler.transform(table.x), table.y)
    mean, spread = process.predict(scaler.transform(table.x_test), return_std=True)
    return Answer(mean, norm.logpdf(table.y_test, mean, spread))


def _point(model: object, table: Table) -> Answer:
    """A method that gives a mean: its density has the variance of its errors in cross-validation."""
    model.fit(table.x, table.y)  # type: ignore[attr-defined]
    if table.kind == "binary":
        p = model.predict_proba(table.x_test)[:, 1].clip(1e-3, 1 - 1e-3)  # type: ignore[attr-defined]
        return Answer(p, bernoulli(p, table.y_test))
    mean = model.predict(table.x_test)  # type: ignore[attr-defined]
    if table.kind == "counts":
        return Answer(mean, poisson.logpmf(table.y_test, mean.clip(1e-3)))
    held_out = cross_val_predict(model, table.x, table.y, cv=5)
    spread = float(np.sqrt(np.mean((held_out - table.y) ** 2)))
    return Answer(mean, norm.logpdf(table.y_test, mean, spread))


def bernoulli(p: Array, y: Array) -> Array:
    """Log probability of labels of which each is 1 with probability p."""
    return np.log(np.where(y > 0.5, p, 1 - p))


def log_mean_exp(values: Array) -> Array:
    """Log of the mean of densities over the first axis."""
    largest = values.max(0)
    return np.log(np.exp(values - largest).mean(0)) + largest
