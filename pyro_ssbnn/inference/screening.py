"""Which predictors a run begins with, and which come in later: a ranking by boosted trees.

Gates of useless predictors cost most where there are many of them: while they are open, their weights learn noise. So
a run begins with the predictors that may matter. What they are is asked of a model that sees effects of any shape, and
interactions, at the cost of seconds: trees of depth five, boosted on what the network does not yet explain. That is the
*score*, the derivative of the log-likelihood by the network's output,

.. math:: r_i = \\partial \\log p(y_i \\mid f_i) / \\partial f_i,

for a Gaussian the residual over the noise variance, for classes the indicator minus the probability. It is the same
for every likelihood, at a network that predicts nothing (f = 0) and at one half trained.

Shuffled copies of the predictors tell what can be learned of noise. Predictors stay that reduce the squared error by
more than the copies' mean and three of their standard deviations, and the five best in any case. Later, when the
network explains what it can, others come in that do so by five standard deviations. Of thousands of copies, dozens are
above that: their gains are no normal numbers. So predictors must also be above all copies but one.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_ssbnn.inference.options import TrainingOptions
from pyro_ssbnn.posterior.draws import evaluating, site_values, trace_draws
from pyro_ssbnn.posterior.networks import outputs
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.groups import InputGroup
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.network import Network

__all__ = ["mean_output", "scores", "screens", "useful"]

_FEW = 10  # predictors of which none is left out
_AT_LEAST = 5
_COPIES = 40  # at least, that their spread be known
_ROWS = 2_000  # more tell the trees little that is new
_DRAWS = 32
_SPLITS = 60  # predictors tried at a split, at most: the cost of the trees does not grow with their number


def screens(description: NetworkDescription, options: TrainingOptions) -> bool:
    """Whether a run begins without some predictors."""
    inputs = description.inputs
    return options.screen and options.holds and inputs.gated and inputs.size > _FEW


def scores(
    model: Network, guide: Guide, x: Tensor, y: Tensor, *, explained: bool
) -> NDArray[np.float64]:
    """Derivative of the log-likelihood of each row by the network's outputs, ``[N, num_outputs]``.

    The likelihood's latents are at their medians under the guide.

    :param x: predictors ``[N, p]``, on the device of the run.
    :param y: targets, as the likelihood scores them.
    :param explained: at the guide's mean output; otherwise at f = 0, as if the network predicted nothing.
    """
    if explained:
        f, latents = mean_output(model, guide, x)
    else:
        f = x.new_zeros(len(x), model.likelihood.num_outputs)
        latents = mean_output(model, guide, x[:1])[1]
    with torch.enable_grad():
        f.requires_grad_()
        at, target, weight = model.likelihood.unpacked(f, y)
        log_density = model.likelihood.distribution(at, latents).log_prob(target)
        if weight is not None:
            log_density = log_density * weight
        (score,) = torch.autograd.grad(log_density.sum(), f)
    return score.double().cpu().numpy()


@torch.no_grad()
def mean_output(model: Network, guide: Guide, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Posterior mean output at N rows, ``[N, num_outputs]``, and medians of the likelihood's latents.

    :param x: predictors ``[N, p]``, on the device of the guide.
    """
    with evaluating(model, guide):
        values = site_values(trace_draws(guide, _DRAWS))
        f = outputs(model, values, x).mean(0).to(x)
    own = model.likelihood.latents_of(values, model.description.prefix)
    return f, {name: value.median(0).values.to(x) for name, value in own.items()}


def useful(
    inputs: InputGroup, x: Tensor, score: NDArray[np.float64], seed: int, *, first: bool
) -> list[int]:
    """Predictors in which the trees find a use, ascending.

    :param inputs: the predictors; of several columns, the best counts.
    :param x: ``[N, p]``.
    :param score: ``[N, outputs]``; of several, each is learned, and counts by its variance.
    :param seed: of rows, copies and trees.
    :param first: to begin with, when the best stay in any case; otherwise those that may come in.
    """
    from sklearn.ensemble import GradientBoostingRegressor  # half a second of imports

    random = np.random.default_rng(seed % 2**64)
    rows = np.sort(random.permutation(len(x))[:_ROWS])
    columns = x[torch.as_tensor(rows, device=x.device)].float().cpu().numpy()
    copies = [random.permuted(columns, axis=0) for _ in range(-(-_COPIES // columns.shape[1]))]
    both, score = np.concatenate([columns, *copies], axis=1), score[rows]
    gain = np.zeros(both.shape[1])
    for column in score.T:
        trees = GradientBoostingRegressor(
            n_estimators=200,
            max_depth=5,
            learning_rate=0.05,
            subsample=0.5,
            max_features=min(both.shape[1], max(_SPLITS, both.shape[1] // 8)),
            min_samples_leaf=5,
            random_state=int(random.integers(2**31)),
        )
        gain += column.var() * trees.fit(both, column).feature_importances_
    own, shuffled = np.split(gain, [columns.shape[1]])
    starts = np.cumsum([0, *inputs.widths[:-1]]) if inputs.widths else np.arange(inputs.size)
    best = np.maximum.reduceat(own, starts)
    noise = shuffled.mean() + (3.0 if first else 5.0) * shuffled.std()
    stands_out = best > max(noise, np.sort(shuffled)[-2])
    rank = np.argsort(np.argsort(-best, kind="stable"))
    return np.flatnonzero(stands_out | (first & (rank < _AT_LEAST))).tolist()
