"""What the checks look at: draws from a fit, with their predictions at the rows that were fitted or held out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_ssbnn.errors import DataError
from pyro_ssbnn.inference import Fit, Mixture
from pyro_ssbnn.posterior.draws import PosteriorDraws, draw_posterior
from pyro_ssbnn.posterior.importance import good_k, smoothed_weights

__all__ = ["MOST_ROWS", "Evidence", "gather"]

Array = NDArray[np.float64]

MOST_ROWS = 2000
"""Rows that are looked at; of larger data a random part."""


@dataclass(frozen=True)
class Evidence:
    """A fit, or a mixture of fits, and its draws.

    :param result: the fit or the mixture.
    :param x: predictors of the rows looked at, ``[N, p]``.
    :param y: their targets, as the distribution scores them.
    :param draws: draws with predictions there.
    :param held_out: whether the rows were kept from the fit.
    :param whole: whether they are all the rows fitted to, so that log p(y | draw) is that of the data.
    :param seed: for whatever else is drawn.
    """

    result: Fit | Mixture
    x: Tensor
    y: Tensor
    draws: PosteriorDraws
    held_out: bool
    whole: bool
    seed: int

    @property
    def rows(self) -> str:
        """What the rows are, in words."""
        return f"{len(self.y)} {'held-out' if self.held_out else 'training'} rows"

    @property
    def log_likelihood(self) -> Array:
        """Log p(y_i | draw), ``[S, N]``."""
        if self.draws.log_likelihood is None:
            raise DataError("diagnose: these draws were made without y; make them with x and y.")
        return self.draws.log_likelihood.double().numpy()

    @cached_property
    def row_weights(self) -> Array:
        """Weights of the draws at each row, ``[N, S]``, summing to 1 over the draws.

        Equal for held-out rows. For training rows those of PSIS leave-one-out, proportional to 1 / p(y_i | draw), which
        take back that the row itself was fitted: without them a posterior looks too wide on its own data. Equal again
        where the row's k-hat says that these weights are noise, as it often does: draws of a guide whose gates are
        independent hold networks that fit a row badly, and 1 / p would count them most.
        """
        scores = self.log_likelihood.T
        equal = np.full(scores.shape, 1 / scores.shape[1])
        if self.held_out:
            return equal
        weights, k = smoothed_weights(-scores)
        return np.where(k[:, None] <= good_k(scores.shape[1]), np.exp(weights), equal)


def gather(
    result: Fit | Mixture, x: Tensor, y: Tensor, *, num_draws: int, held_out: bool, seed: int
) -> Evidence:
    """Draw from a fit at (at most ``MOST_ROWS`` random) rows.

    :param x: predictors ``[N, p]``.
    :param y: targets.
    """
    whole = len(x) <= MOST_ROWS and not held_out
    if len(x) > MOST_ROWS:
        chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:MOST_ROWS]
        x, y = x[chosen], y[chosen]
    x, y = x.cpu(), y.cpu()
    draws = draw_posterior(result.model, result.guide, num_draws, x=x, y=y, seed=seed)
    y = result.model.likelihood.observed(y, torch.zeros((), dtype=torch.float64))
    return Evidence(result, x, y, draws, held_out, whole, seed)
