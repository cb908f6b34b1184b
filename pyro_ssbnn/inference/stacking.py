r"""Weights of several fits: stacking of predictive densities, and the bounds' softmax.

**Stacking** (Yao, Vehtari, Simpson and Gelman 2018, Bayesian Analysis 13, 917-1007). With :math:`p_{ik}` the density
that fit k gives row i without having seen it,

.. math:: \hat w = \arg\max_w \sum_i \log \sum_k w_k\, p_{ik},\qquad w_k \ge 0,\ \sum_k w_k = 1.

The problem is concave; expectation-maximisation, :math:`w_k \leftarrow \frac1N\sum_i w_k p_{ik} / \sum_j w_j p_{ij}`,
rises at every step, and :math:`N \log\max_k \frac1N\sum_i p_{ik} / \sum_j w_j p_{ij}` bounds what is missing to the
optimum (the dual's value).

**Bounds.** Where the fits do not overlap, the bound of their mixture,
:math:`\sum_k w_k (L_k - \log w_k)`, is largest at :math:`w \propto e^{L_k}`. Bounds have errors; the weights are
averaged over them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference.evaluation import Bound
from pyro_ssbnn.inference.result import Fit
from pyro_ssbnn.posterior.draws import draw_posterior
from pyro_ssbnn.posterior.importance import leave_one_out_density

__all__ = ["bound_weights", "left_out_densities", "stacking_weights"]

Array = NDArray[np.float64]

_ROWS = 2000  # that weights are found from; of more so many are drawn
_NUMBERS = 2**25  # draws of predictions held at a time
_MISSING = 1e-6  # nats to the optimum
_MOST_STEPS = 100_000
_ERRORS = 4096  # draws of the bounds' errors


def stacking_weights(log_density: ArrayLike) -> Array:
    """Weights that stack predictive distributions best; see the module.

    :param log_density: log density of every row under each fit, the row left out, ``[N, K]``.
    :returns: weights ``[K]`` with sum 1, within 1e-6 nats of the optimum.
    :raises ConfigurationError: for anything but a matrix of finite numbers.

    >>> p = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]])
    >>> stacking_weights(np.log(p)).round(4)
    array([0.7083, 0.2917])
    """
    scores = np.asarray(log_density, dtype=np.float64)
    if scores.ndim != 2 or not scores.size or not np.isfinite(scores).all():
        raise ConfigurationError(
            f"stacking_weights: log_density must be [N, K] finite numbers; got shape {list(scores.shape)}."
        )
    density = np.exp(scores - scores.max(1, keepdims=True))
    rows, number = density.shape
    weights = np.full(number, 1 / number)
    for _ in range(_MOST_STEPS):
        gain = (density / (density @ weights)[:, None]).mean(0)
        if rows * np.log(gain.max()) < _MISSING:
            break
        weights = weights * gain
    return weights / weights.sum()


def bound_weights(bounds: Sequence[Bound]) -> Array:
    """Softmax of the bounds, averaged over their errors, ``[K]``.

    :param bounds: of each fit.

    >>> bound_weights([Bound(-10.0, 0.0, 0.0, 0.0, 1), Bound(-12.0, 0.0, 0.0, 0.0, 1)]).round(4)
    array([0.8808, 0.1192])
    """
    elbo = np.array([bound.elbo for bound in bounds])
    error = np.array([bound.error for bound in bounds])
    noise = np.random.default_rng(0).normal(size=(_ERRORS, len(bounds)))
    drawn = elbo + error * noise
    each = np.exp(drawn - drawn.max(1, keepdims=True))
    weights: Array = (each / each.sum(1, keepdims=True)).mean(0)
    return weights


def left_out_densities(
    fits: Sequence[Fit], x: Tensor, y: Tensor, *, num_draws: int, seed: int
) -> Array:
    """Log density of rows under each fit without them, by importance sampling, ``[N, K]``.

    :param x: predictors that were fitted to; of more than 2,000 rows so many are drawn.
    :param num_draws: of each fit.
    """
    if len(x) > _ROWS:
        chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:_ROWS]
        x, y = x[chosen.to(x.device)], y[chosen.to(y.device)]
    numbers = num_draws * (1 + 2 * fits[0].model.likelihood.mean_columns)  # of a row
    pieces = list(zip(*(v.split(max(1, _NUMBERS // numbers)) for v in (x, y)), strict=True))

    def density(one: Fit, rows: Tensor, targets: Tensor) -> Array:
        draws = draw_posterior(one.model, one.guide, num_draws, x=rows, y=targets, seed=seed)
        return leave_one_out_density(draws.log_likelihood.numpy())[0]  # type: ignore[union-attr]

    return np.stack([np.concatenate([density(one, *piece) for piece in pieces]) for one in fits], 1)
