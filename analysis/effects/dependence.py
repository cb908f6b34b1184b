r"""What a predictor does to the target: partial dependence, individual curves and accumulated local effects.

Let :math:`m_s(x) = E[y | x, w_s]` be the mean under draw s of the posterior, on the target's scale, and x be split into
the predictor of interest, :math:`x_j`, and the others, :math:`x_{-j}`. The **partial dependence** (Friedman 2001) and
the **accumulated local effect** (Apley and Zhu 2020) of draw s are

.. math:: P_s(v) = \frac1N\sum_i m_s(v, x_{i,-j}),\qquad
          A_s(v) = \sum_{b: v_b \le v}\ \frac1{n_b}\sum_{i \in b}\{m_s(v_b, x_{i,-j}) - m_s(v_{b-1}, x_{i,-j})\} - c_s,

rows i in bin b having :math:`v_{b-1} < x_{ij} \le v_b`, and :math:`c_s` such that the effect averages to 0 over the
rows. The first puts every row at every value, also where predictors that go together make that absurd; the second moves
a row only to the ends of its own bin. The spread of both over s is the posterior's: bands are of the mean, not of y.

A factor is a set of columns that belong together; its values are the rows' different settings of them, its *levels*.
For accumulated effects the levels follow each other by how alike the rows with them are otherwise: by the first
principal component of the levels' means of the other predictors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pyro_ssbnn.analysis.effects.axis import Predictor, axis_of, ordered, steps
from pyro_ssbnn.analysis.effects.effect import Effect
from pyro_ssbnn.analysis.effects.means import mean_draws, some_rows
from pyro_ssbnn.checks import check_at_least_one, check_rows
from pyro_ssbnn.data import Preprocessing
from pyro_ssbnn.data.own_units import own_units
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides import MixtureGuide
from pyro_ssbnn.posterior.ensemble import posterior_ensemble
from pyro_ssbnn.posterior.networks import MEMORY
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.match import require_match
from pyro_ssbnn.structure.network import Network

__all__ = ["accumulated_effects", "check_effect", "partial_dependence"]


def partial_dependence(
    model: Network,
    guide: Guide | MixtureGuide,
    x: Tensor,
    predictor: Predictor,
    *,
    at: Sequence[float] | Tensor | None = None,
    num_points: int = 20,
    rows: int = 200,
    curves: bool = False,
    preprocessing: Preprocessing | None = None,
    to_target: Callable[[Tensor], Tensor] | None = None,
    num_draws: int = 200,
    seed: int = 0,
    memory: int = MEMORY,
) -> Effect:
    """Partial dependence of the mean of y on one predictor, with its posterior, and the rows' own curves on request.

    :param x: rows whose other predictors are averaged over, ``[N, p]``, scaled as they were fitted.
    :param predictor: a predictor's place or name, or a sequence of them: a factor.
    :param at: values of a number, in the units of x, with ``preprocessing`` in own units; by default quantiles from 0
        to 1, each once.
    :param num_points: number of these quantiles.
    :param rows: of x, at most; of more, so many are drawn.
    :param curves: keep each row's own curve (individual conditional expectation; Goldstein et al. 2015).
    :param preprocessing: what x was made by: values and means are then in own units, and levels carry their names.
    :param to_target: in its place, brings means to the target's own units.
    :param num_draws: S.
    :param seed: of draws and rows; the caller's random state is left untouched.
    :param memory: bytes to work in.
    :raises ConfigurationError: for an unknown predictor, values of a factor, a guide of another network.
    :raises DataError: for x of the wrong shape or with missing values, a constant predictor, too many levels.

    >>> from pyro_ssbnn import MLP, SSIG, GaussianLikelihood, StructuredGuide
    >>> net = MLP(3, [4], prior=SSIG(inclusion=0.3), likelihood=GaussianLikelihood())
    >>> effect = partial_dependence(net, StructuredGuide(net), torch.randn(50, 3), "x2", num_points=5)
    >>> effect.draws.shape, list(effect.table().columns)
    ((200, 5), ['value', 'mean', 'lower', 'upper'])
    """
    check_effect(
        "partial_dependence", model, guide, x, num_draws=num_draws, num_points=num_points, rows=rows
    )
    x = some_rows(x, rows, seed)
    axis = axis_of("partial_dependence", model, x, predictor, at, num_points, preprocessing)
    ensemble = posterior_ensemble(model, guide, num_draws, seed=seed, rows=len(x), memory=memory)
    if preprocessing is not None and to_target is None:
        ensemble = own_units(ensemble, preprocessing.target)
    blocks = (axis.moved(x, point) for point in range(len(axis.points)))
    draws, kept = [], []
    for means in mean_draws(ensemble, blocks, to_target):
        draws.append(means.mean(1))
        if curves:
            kept.append(means.mean(0))
    individual = torch.stack(kept, 1) if curves else None
    return axis.of(torch.stack(draws, 1), "partial dependence", individual, preprocessing)


def accumulated_effects(
    model: Network,
    guide: Guide | MixtureGuide,
    x: Tensor,
    predictor: Predictor,
    *,
    num_points: int = 20,
    rows: int = 2000,
    preprocessing: Preprocessing | None = None,
    to_target: Callable[[Tensor], Tensor] | None = None,
    num_draws: int = 200,
    seed: int = 0,
    memory: int = MEMORY,
) -> Effect:
    """Accumulated local effects of one predictor on the mean of y, with their posterior.

    They average to 0 over the rows. Parameters as for :func:`partial_dependence`.

    :param num_points: ends of bins of equally many rows.
    :param rows: of x, at most; each is evaluated twice.
    """
    owner = "accumulated_effects"
    check_effect(owner, model, guide, x, num_draws=num_draws, num_points=num_points, rows=rows)
    x = some_rows(x, rows, seed)
    axis = ordered(x, axis_of(owner, model, x, predictor, None, num_points, preprocessing))
    moves, share = steps(x, axis)
    ensemble = posterior_ensemble(model, guide, num_draws, seed=seed, rows=len(x), memory=memory)
    if preprocessing is not None and to_target is None:
        ensemble = own_units(ensemble, preprocessing.target)
    blocks = (
        axis.moved(x[members], point)
        for step, members in enumerate(moves)
        for point in (step, step + 1)
    )
    means = mean_draws(ensemble, blocks, to_target)
    changes = torch.stack([(next(means) - before).mean(1) for before in means], 1)
    draws = torch.cat([torch.zeros_like(changes[:, :1]), changes], 1).cumsum(1)
    centre = torch.einsum("sg...,g->s...", draws, share)
    return axis.of(draws - centre.unsqueeze(1), "accumulated local effects", None, preprocessing)


def check_effect(
    owner: str, model: Network, guide: Guide | MixtureGuide, x: Tensor, **numbers: int
) -> None:
    """Refuse what no effect can be computed of."""
    require_match(owner, model, guide)
    check_rows(owner, x, None, model.description.inputs.column_names)
    check_at_least_one(owner, **numbers)
    if numbers.get("num_points", 2) < 2:
        raise ConfigurationError(f"{owner}: num_points must be at least 2; got 1.")
