r"""The joint law of the predictors of a fitted perceptron: a probability for every set that matters.

Under the guide of a network with hidden layers the gates of predictors are independent. Where predictors correlate, it
settles on one of several that say the same, and is as sure of it as of any other. Here sets of predictors are weighed
against each other,

.. math:: q(z) \propto p(z)\, p(y \mid z),

with the evidence of :mod:`pyro_ssbnn.analysis.laplace`, around the hidden nodes and slab scales that the fit has found.
A search (:mod:`pyro_ssbnn.analysis.set_search`) goes from the fit's own set to others.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_ssbnn.analysis.laplace import SetEvidence
from pyro_ssbnn.analysis.open_perceptron import OpenPerceptron
from pyro_ssbnn.analysis.set_search import SetSearch, beyond_precision
from pyro_ssbnn.checks import check_at_least_one, check_that
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference import Fit
from pyro_ssbnn.inference.guards import check_data
from pyro_ssbnn.inference.training_rows import require_in_memory
from pyro_ssbnn.isolation import isolated
from pyro_ssbnn.models import MLP
from pyro_ssbnn.selection.predictor_law import PredictorLaw
from pyro_ssbnn.structure.network import Network

__all__ = ["has_predictor_law", "in_reasonable_time", "predictor_law", "weighed"]

_CORRELATED = 0.5  # least absolute correlation of a predictor that is tried in the place of another
_MATTERS = 6.0  # nats below the best set, up to which neighbours are looked at
_HOPELESS = 20.0  # nats below it, from which a mode is not found exactly
_BETTER = (
    0.5  # nats, by which a neighbour is better than the best so far that is gone on from at once
)
_FEW = 8  # predictors that are tried in the place of another
_MOST, _ROWS = 600, 20_000
_NUMBERS = 2**26  # of the outputs' derivatives, held at a time
_WEIGHTS = 10_000  # of a set: several matrices of their square are held, 800 MB each
_WORK = 2**29  # multiplications of a step, a tenth of a second; a law takes some hundred steps


def predictor_law(
    fit: Fit, x: Tensor, y: Tensor, *, most: int = _MOST, max_rows: int = _ROWS, seed: int = 0
) -> PredictorLaw:
    """Weigh sets of predictors against each other around a fit; see the module.

    For an :class:`~pyro_ssbnn.models.MLP` with hidden layers and gated predictors, under any likelihood. Hidden nodes
    with inclusion above 1/2 are taken for open, all others for closed. Where none is open, predictors cannot act but
    by linear terms, and the inclusion of the others is their prior's. It takes a fraction of a second for small
    tables; each set costs a few products of rows and squared number of weights, minutes
    of 8,000 rows and 700 open weights, hours where a fit has left thousands open.

    :param fit: the fit; it stays as it is.
    :param x: predictors ``[N, columns]`` that were fitted to, scaled as they were.
    :param y: their targets, ``[N]`` (``[N, K]`` for several).
    :param most: sets whose mode is found.
    :param max_rows: of more rows so many are drawn, and each stands for its share of all.
    :param seed: of that draw; the caller's random state is left untouched.
    :raises ConfigurationError: for another network, predictors without gates, another number of rows, or a fit that has
        left more than 10,000 weights open.
    :raises DataError: for data that do not fit the network, or whose scales leave double precision.
    """
    check_that(
        "predictor_law",
        "fit",
        fit,
        isinstance(fit, Fit),
        "what fit returned (of several mixture.best)",
    )
    fit.require_match("predictor_law")
    check_at_least_one("predictor_law", most=most, max_rows=max_rows)
    require_in_memory("predictor_law", x)
    check_data("predictor_law", fit.model, x, y)
    if not fit.model.description.inputs.gated:
        raise ConfigurationError(
            "predictor_law: the predictors of this network carry no gates; give input_inclusion."
        )
    if len(x) != fit.num_data:
        raise ConfigurationError(
            f"predictor_law: the fit was to {fit.num_data:,} rows, x has {len(x):,}; give the rows that were fitted to."
        )
    return weighed(fit, x, y, most, max_rows, seed)


def has_predictor_law(model: Network) -> bool:
    """Whether a network is one that :func:`predictor_law` takes."""
    return isinstance(model, MLP) and bool(model.hidden) and model.description.inputs.gated


def in_reasonable_time(fit: Fit, num_rows: int) -> bool:
    """Whether sets are weighed in seconds, or a minute: not where a fit has many nodes and rows."""
    network = OpenPerceptron(fit)
    weights, rows = _open_weights(fit, network), _rows(fit, network, num_rows, _ROWS)
    work = rows * fit.model.description.num_outputs * weights**2 + weights**3
    return weights <= _WEIGHTS and work <= _WORK


def weighed(
    fit: Fit, x: Tensor, y: Tensor, most: int = _MOST, max_rows: int = _ROWS, seed: int = 0
) -> PredictorLaw:
    """The same for rows that are known to fit, all or a sample of those fitted to."""
    with isolated(seed, next(fit.guide.parameters())), torch.no_grad():
        network = OpenPerceptron(fit)
        weights = _open_weights(fit, network)
        if weights > _WEIGHTS:
            raise ConfigurationError(
                f"predictor_law: made for at most {_WEIGHTS:,} weights; with the predictors and nodes of inclusion"
                f" above 1/2 this fit has {weights:,}. Train it longer, until more gates have closed, or fit a smaller"
                " network."
            )
        rows = _rows(fit, network, len(x), max_rows)
        kept = torch.randperm(len(x))[:rows] if len(x) > rows else torch.arange(len(x))
        part = x[kept.to(x.device)].cpu().double(), y[kept.to(y.device)].cpu()
        evidence = SetEvidence(fit, network, *part, share=fit.num_data / len(kept))
        try:
            return SetSearch(fit, network, evidence).run(most)
        except torch.linalg.LinAlgError as error:
            raise beyond_precision() from error


def _open_weights(fit: Fit, network: OpenPerceptron) -> int:
    """Number of weights of the fit's own set."""
    description, inclusion = fit.model.description, fit.guide.inclusion()
    owners = description.inputs.columns.owners.cpu()
    none = torch.zeros(0, dtype=torch.bool)
    columns, linear = (
        (inclusion[group.name] > 0.5).cpu()[owners] if group else none
        for group in (description.inputs, description.linear)
    )
    return sum(int(mask.sum()) for mask in network.masks(columns, linear))


def _rows(fit: Fit, network: OpenPerceptron, num_rows: int, max_rows: int) -> int:
    """Rows whose derivatives by all weights fit into memory."""
    weights = sum(layer.numel() for layer in network.mean.layers)
    most = max(1, _NUMBERS // (weights * fit.model.description.num_outputs))
    return min(num_rows, max_rows, most)
