r"""Which predictors act together: pairs ranked by how much of the mean depends on both at once.

For rows x and other rows z of the same data, with j and k taken from z where they are named,

.. math:: \Upsilon_{jk}^2 = \tfrac14 E\big[\{m(x) - m(z_j, x_{-j}) - m(z_k, x_{-k}) + m(z_j, z_k, x_{-jk})\}^2\big]

is the variance of all that depends on j and k together, alone or with others (Liu and Owen 2006, for independent
predictors); 0 where the mean is a sum of a part without j and a part without k. Every draw of the posterior has its
own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyro_ssbnn.analysis.effects.axis import Predictor, called, places
from pyro_ssbnn.analysis.effects.dependence import check_effect
from pyro_ssbnn.analysis.effects.means import mean_draws, some_rows
from pyro_ssbnn.data import Preprocessing
from pyro_ssbnn.data.own_units import own_units
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides import MixtureGuide
from pyro_ssbnn.posterior.ensemble import posterior_ensemble
from pyro_ssbnn.posterior.networks import MEMORY
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.network import Network

__all__ = ["interactions"]

NOTABLE = 0.01
"""Share of the mean's variance from which on an interaction counts as one."""


def interactions(
    model: Network,
    guide: Guide | MixtureGuide,
    x: Tensor,
    predictors: Sequence[Predictor] | None = None,
    *,
    most: int = 10,
    rows: int = 200,
    probability: float = 0.9,
    preprocessing: Preprocessing | None = None,
    to_target: Callable[[Tensor], Tensor] | None = None,
    num_draws: int = 200,
    seed: int = 0,
    memory: int = MEMORY,
) -> pd.DataFrame:
    """Rank pairs of predictors by their interaction in the mean of y.

    :param x: rows ``[N, p]``, scaled as they were fitted.
    :param predictors: by place or name, several that are one factor by a sequence of these; by default those whose
        inclusion is above 1/2, or all of a network without input gates.
    :param most: predictors at most: pairs grow with the square of their number.
    :param rows: of x, at most; of more, so many are drawn.
    :param probability: of the posterior interval.
    :param preprocessing: what x was made by: means are then in the target's own units.
    :param to_target: in its place, brings means to the target's own units.
    :param num_draws: S.
    :param seed: of draws and rows; the caller's random state is left untouched.
    :param memory: bytes to work in, beside S means of each row and predictor.
    :returns: a row a pair, the strongest first: ``first``, ``second``; posterior ``mean``, ``lower`` and ``upper`` of
        the standard deviation :math:`\\Upsilon`, in units of y; ``share`` of the variance of the mean; ``probability``,
        share of the draws in which that is above 0.01. Classes are taken together.
    :raises ConfigurationError: for unknown, fewer than two or too many predictors, or a guide of another network.
    :raises DataError: for x of the wrong shape or with missing values.
    """
    check_effect("interactions", model, guide, x, num_draws=num_draws, most=most, rows=rows)
    if not 0 < probability < 1:
        raise ConfigurationError(
            f"interactions: probability lies strictly between 0 and 1; got {probability!r}."
        )
    chosen = _chosen(model, guide, predictors, most)
    x = some_rows(x, rows, seed)
    shift = 1 + seed % max(1, len(x) - 1)
    other = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)).roll(shift)]
    pairs = list(combinations(range(len(chosen)), 2))

    def blocks() -> Iterator[Tensor]:
        yield x
        for member in chosen:
            yield _mixed(x, other, member)
        for j, k in pairs:
            yield _mixed(x, other, chosen[j] + chosen[k])

    ensemble = posterior_ensemble(model, guide, num_draws, seed=seed, rows=len(x), memory=memory)
    if preprocessing is not None and to_target is None:
        ensemble = own_units(ensemble, preprocessing.target)
    means = mean_draws(ensemble, blocks(), to_target)
    base, *single = (next(means) for _ in range(1 + len(chosen)))
    total = _over_rows((base - base.mean(1, keepdim=True)).square())
    records = []
    names = [called(model, member) for member in chosen]
    for (j, k), both in zip(pairs, means, strict=True):
        square = 0.25 * _over_rows((base - single[j] - single[k] + both).square())
        size, share = square.sqrt().numpy(), square / total.clamp_min(torch.finfo(total.dtype).tiny)
        low, high = np.quantile(size, [(1 - probability) / 2, (1 + probability) / 2])
        notable = float((share > NOTABLE).double().mean())
        records.append((names[j], names[k], size.mean(), low, high, float(share.mean()), notable))
    columns = ["first", "second", "mean", "lower", "upper", "share", "probability"]
    table = pd.DataFrame(records, columns=columns)
    return table.sort_values("mean", ascending=False, kind="stable", ignore_index=True)


def _chosen(
    model: Network, guide: Guide | MixtureGuide, predictors: Sequence[Predictor] | None, most: int
) -> list[list[int]]:
    """Places of the columns of each predictor."""
    inputs = model.description.inputs
    if predictors is not None:
        chosen = [places("interactions", model, predictor) for predictor in predictors]
    elif inputs.gated:
        open_ones = (guide.inclusion()[inputs.name] > 0.5).nonzero()
        chosen = [places("interactions", model, int(j)) for j in open_ones]
    else:
        chosen = [places("interactions", model, j) for j in range(inputs.size)]
    columns = [column for member in chosen for column in member]
    if len(set(columns)) < len(columns):
        raise ConfigurationError("interactions: a column is named twice among the predictors.")
    if not 2 <= len(chosen) <= most:
        raise ConfigurationError(
            f"interactions: between 2 and most={most} predictors make pairs; there are {len(chosen)}. Name them with"
            " `predictors`."
        )
    return chosen


def _mixed(x: Tensor, other: Tensor, columns: list[int]) -> Tensor:
    """Rows with some columns of other rows."""
    x = x.clone()
    x[:, columns] = other[:, columns]
    return x


def _over_rows(squares: Tensor) -> Tensor:
    """Mean over the rows, sum over classes, of each draw, ``[S]``."""
    return squares.mean(1).flatten(1).sum(1) if squares.ndim == 3 else squares.mean(1)
