"""``fit_several``: fits of several seeds, side by side, as one answer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

from numpy.typing import ArrayLike
from torch import Tensor

from pyro_ssbnn.checks import check_at_least_one, check_draws, check_that
from pyro_ssbnn.errors import CollapseWarning, ConfigurationError
from pyro_ssbnn.guides.mixture import check_weights
from pyro_ssbnn.inference.evaluation import bound_of
from pyro_ssbnn.inference.guards import require_network
from pyro_ssbnn.inference.loop import fit
from pyro_ssbnn.inference.mixture import Mixture, require_alike
from pyro_ssbnn.inference.options import TrainingOptions, chosen_options
from pyro_ssbnn.inference.preparation import Augmentation, forget_statistics
from pyro_ssbnn.inference.result import Fit
from pyro_ssbnn.inference.stacking import bound_weights, left_out_densities, stacking_weights
from pyro_ssbnn.inference.start import GuideMaker, is_guide
from pyro_ssbnn.inference.training_rows import SAMPLE, Rows, TrainingRows, training_rows
from pyro_ssbnn.parallel import run_jobs
from pyro_ssbnn.structure.network import Network

__all__ = ["combine_fits", "fit_several", "refitted"]

_RULES = ("stacking", "bounds", "equal")
_LEAST_DRAWS = 100  # for the Pareto tail


def fit_several(
    model: Network,
    x: Tensor | ArrayLike | Rows,
    y: Tensor | ArrayLike | None = None,
    options: TrainingOptions | None = None,
    *,
    fits: int = 4,
    weights: str | Sequence[float] = "stacking",
    guide: GuideMaker | None = None,
    augment: Augmentation | None = None,
    progress: bool = True,
    n_jobs: int | None = None,
) -> Mixture:
    """Fit a network from several seeds, and weigh the fits: one posterior, that of their mixture.

    The first fit is what ``fit`` gives on one CPU thread, each costs what it costs, and their numbers are the same for
    any ``n_jobs``. What is made of the answer takes ``mixture.model`` and ``mixture.guide``.

    :param model: the network, which stays as it is.
    :param x: predictors ``[N, p]``, or rows that are read in pieces, as in ``fit``.
    :param y: targets, ``[N]`` (``[N, K]`` for several); None with rows that bring their own.
    :param options: of each fit; the seeds follow the one given.
    :param fits: K, how many.
    :param weights: see :func:`combine_fits`.
    :param guide: makes each fit's guide, by default as ``fit`` does.
    :param augment: see ``fit``.
    :param progress: show the fits' progress bars, where they run one after another.
    :param n_jobs: processes at a time, see :func:`pyro_ssbnn.parallel.run_jobs`.
    :raises ConfigurationError: for a guide instead of what makes one, unknown weights, and what ``fit`` refuses.
    :raises DataError: for data that do not fit the model.
    :raises NonFiniteLossError: and whatever else ends a fit; the message names its seed.
    :warns: of what the fits warn, with their seeds.

    >>> import torch
    >>> from pyro_ssbnn import MLP, SSIG, GaussianLikelihood, predict
    >>> x = torch.randn(60, 3)
    >>> net = MLP(3, [4], prior=SSIG(inclusion=0.5), likelihood=GaussianLikelihood())
    >>> short = TrainingOptions(epochs=2, remove_below=None)
    >>> mixture = fit_several(net, x, x[:, 0], short, fits=2, weights="equal", progress=False)
    >>> predict(mixture.model, mixture.guide, x[:5]).mean.shape
    torch.Size([5])
    """
    options = chosen_options("fit_several", options)
    check_at_least_one("fit_several", fits=fits)
    _check_rule("fit_several", weights, fits)
    require_network("fit_several", model)
    rows = training_rows("fit_several", model, x, y)
    maker = guide is None or (callable(guide) and not is_guide(guide))
    check_that("fit_several", "guide", guide, maker, "what makes a guide, such as its class")
    seeds = range(options.seed, options.seed + fits)
    found = _fitted(model, rows, options, seeds, guide, augment, progress, n_jobs)
    return combined("fit_several", found, rows, weights=weights)


def combine_fits(
    fits: Sequence[Fit],
    x: Tensor | ArrayLike | Rows,
    y: Tensor | ArrayLike | None = None,
    *,
    weights: str | Sequence[float] = "stacking",
    num_draws: int = 1000,
    seed: int = 0,
) -> Mixture:
    """Weigh fits of one network to the same rows: one posterior, that of their mixture.

    :param fits: K of them.
    :param x: predictors ``[N, p]`` that they were fitted to, or the rows that are read in pieces.
    :param y: their targets; None with rows that bring their own.
    :param weights: "stacking" of leave-one-out predictive densities, best for prediction; "bounds", the softmax of the
        evidence lower bounds, which with a few nats between them is nearly all for the best; "equal"; or K numbers
        with sum 1. (:mod:`pyro_ssbnn.inference.stacking` has the formulas.)
    :param num_draws: of each fit, for leave-one-out or its bound.
    :param seed: of these draws; the caller's random state is left untouched.
    :raises ConfigurationError: for fits of different networks or numbers of rows, and for unknown weights.
    :raises DataError: for data that do not fit the network.
    """
    require_alike("combine_fits", fits)
    _check_rule("combine_fits", weights, len(fits))
    check_draws("combine_fits", num_draws, least=_LEAST_DRAWS)
    rows = training_rows("combine_fits", fits[0].model, x, y)
    return combined("combine_fits", fits, rows, weights=weights, num_draws=num_draws, seed=seed)


def combined(
    owner: str,
    fits: Sequence[Fit],
    rows: TrainingRows,
    *,
    weights: str | Sequence[float],
    num_draws: int = 1000,
    seed: int = 0,
) -> Mixture:
    """As :func:`combine_fits`, of rows that are known to fit the network."""
    if rows.num_data != fits[0].num_data:
        raise ConfigurationError(
            f"{owner}: the fits are to {fits[0].num_data} rows, x has {rows.num_data}; give the rows that were fitted"
            " to."
        )
    members, number = tuple(fits), len(fits)
    if not isinstance(weights, str):
        return Mixture(members, tuple(float(w) for w in weights))
    if weights == "equal" or number == 1:
        return Mixture(members, (1 / number,) * number, "equal" if number > 1 else weights)
    if weights == "bounds":
        bounds = [
            bound_of(one.model, one.guide, rows, num_draws=num_draws, max_rows=SAMPLE, seed=seed)
            for one in fits
        ]
        found, scores = bound_weights(bounds), [bound.elbo for bound in bounds]
    else:
        densities = left_out_densities(fits, rows.x, rows.y, num_draws=num_draws, seed=seed)
        found, scores = stacking_weights(densities), densities.mean(0).tolist()
    return Mixture(members, tuple(found.tolist()), weights, tuple(scores))


def refitted(
    result: Fit,
    rows: TrainingRows,
    number: int,
    *,
    progress: bool = False,
    n_jobs: int | None = None,
) -> list[Fit]:
    """Fit again with the seeds after the run's own, as the run began; the fit itself stays as it was.

    The guide is of the same class and options, at new starting values or at the same deterministic weights, and
    minibatches are augmented in the same way. Collapsed layers are not warned of.

    :param number: of new fits; each costs what the fit cost.
    :raises ConfigurationError: for a fit that cannot begin again; the message says why.
    """
    if number and result.start.obstacle:
        raise ConfigurationError(
            f"diagnose: this fit cannot be run again from another seed: {result.start.obstacle}. Run it with other"
            " seeds yourself and give all the fits: diagnose([first, second, ...], x, y)."
        )
    model = deepcopy(result.model)
    forget_statistics(model)
    seeds = range(result.options.seed + 1, result.options.seed + 1 + number)
    maker, augment = result.guide.restarted, result.start.augment
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        return _fitted(model, rows, result.options, seeds, maker, augment, progress, n_jobs)


def _fitted(
    model: Network,
    rows: TrainingRows,
    options: TrainingOptions,
    seeds: Sequence[int],
    guide: GuideMaker | None,
    augment: Augmentation | None,
    progress: bool,
    n_jobs: int | None,
) -> list[Fit]:
    """A fit of each seed."""
    shown = progress and n_jobs in (None, 1)
    x, y = (rows.x, rows.y) if rows.source is None else (rows.source, None)
    jobs = {
        f"the fit of seed {seed}": (model, x, y, replace(options, seed=seed), guide, augment, shown)
        for seed in seeds
    }
    return run_jobs(_fit, jobs, n_jobs=n_jobs)


def _fit(
    model: Network,
    x: Tensor | Rows,
    y: Tensor | None,
    options: TrainingOptions,
    guide: GuideMaker | None,
    augment: Augmentation | None,
    progress: bool,
) -> Fit:
    return fit(model, x, y, options, guide=guide, augment=augment, progress=progress)


def _check_rule(owner: str, weights: str | Sequence[float], number: int) -> None:
    """Refuse unknown weights before the fits are made."""
    if isinstance(weights, str):
        expected = f"one of {', '.join(_RULES)}, or a number for each fit"
        check_that(owner, "weights", weights, weights in _RULES, expected)
    else:
        check_weights(owner, weights, number)
