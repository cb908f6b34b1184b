"""What ``fit`` says unasked: data far from unit scale, gates without the time to close, counts that vary too much."""

from __future__ import annotations

import math
import warnings

from torch import Tensor

from pyro_ssbnn.display import plain
from pyro_ssbnn.errors import MisfitWarning, ShortRunWarning
from pyro_ssbnn.inference.options import TrainingOptions
from pyro_ssbnn.inference.result import Fit
from pyro_ssbnn.inference.schedule import Schedule
from pyro_ssbnn.inference.screening import mean_output
from pyro_ssbnn.likelihoods import PoissonLikelihood
from pyro_ssbnn.structure.network import Network

__all__ = ["warn_of_overdispersion", "warn_of_scale", "warn_of_short_run"]

_FAR = 30.0  # times the unit: priors and rates are made for 1
_ROWS = 2_000
_STEPS = 500
_OVERDISPERSED = 2.0  # times the variance of a Poisson variable


def warn_of_scale(model: Network, x: Tensor, y: Tensor) -> None:
    """Warn of predictors, and of real targets, that are far from mean 0 and standard deviation 1.

    :param x: predictors ``[N, p]``.
    :param y: targets as the likelihood scores them, ``[N]`` or ``[N, K]``.
    """
    far = _far_from_unit(x) & (x.std(0) > 0)
    if bool(far.any()):
        names = model.description.inputs.column_names
        which = [names[j] if names else str(j) for j in far.nonzero().flatten().tolist()]
        _warn(
            f"{len(which)} of {x.shape[1]} columns of x are far from unit scale ({', '.join(which[:3])}"
            f"{', ...' if len(which) > 3 else ''})"
        )
    if model.likelihood.unit_scale:
        target = y.unsqueeze(-1) if y.ndim == 1 else y
        scale = target.std(0)
        small = (scale > 0) & (scale < 1 / _FAR)
        if bool((_far_from_unit(target) | small).any()):
            _warn(
                f"y is far from unit scale (mean {plain(float(target.mean()), 3)}, standard deviation"
                f" {plain(float(target.std()), 3)})"
            )


def _far_from_unit(values: Tensor) -> Tensor:
    """Columns, ``[p]``, whose standard deviation is large, or whose mean is."""
    scale, mean = values.std(0), values.mean(0).abs()
    return (scale > _FAR) | (mean > _FAR * scale.clamp_min(1.0))


def _warn(what: str) -> None:
    warnings.warn(
        f"fit: {what}. Priors, starting values and rates are made for mean 0 and standard deviation 1, so the fit may"
        " be poor: standardise (ss.data.Preprocessing does), and bring predictions back.",
        MisfitWarning,
        stacklevel=3,
    )


def warn_of_short_run(model: Network, options: TrainingOptions, num_data: int) -> None:
    """Warn where no gate could close, however useless its member, in the steps after it is let go."""
    schedule = Schedule(options, num_data, model.description)
    travel = schedule.travel()
    start = options.start_inclusion
    needed = math.log(start / (1 - start))
    if model.description.gate_groups and travel < needed:
        warnings.warn(
            f"fit: {schedule.steps} steps are too few for gates to close. From inclusion {start:g} to 1/2 their"
            f" log-odds must move by {needed:.1f}; they can move by {travel:.1f} once the KL has its full weight and"
            f" they are let go. What remains included is not thereby selected: train for more epochs"
            f"{'' if options.ascends else ', or raise gate_rate'}.",
            ShortRunWarning,
            stacklevel=3,
        )


def warn_of_overdispersion(result: Fit, x: Tensor, y: Tensor) -> None:
    """Warn of counts that vary more around the fitted means than a Poisson variable does.

    By Pearson's statistic, the mean of :math:`(y - \\mu)^2 / \\mu`, which is 1 in expectation. A run of few steps
    has not found the means, and is not asked.

    :param y: targets as the likelihood scores them.
    """
    likelihood = result.model.likelihood
    steps = result.schedule.steps_of(len(result.history))[0]
    if not isinstance(likelihood, PoissonLikelihood) or steps < _STEPS:
        return
    x, y = x[:_ROWS], y[:_ROWS]
    f, latents = mean_output(result.model, result.guide, x)
    f, counts, _ = likelihood.unpacked(f, y)
    mean = likelihood.mean(f, latents)
    dispersion = float(((counts - mean).square() / mean).mean())
    if dispersion > _OVERDISPERSED:
        warnings.warn(
            f"fit: the counts vary {dispersion:.1f} times as much around the fitted means as Poisson counts do, so that"
            " inclusion probabilities and intervals are too sure. Use NegativeBinomialLikelihood.",
            MisfitWarning,
            stacklevel=3,
        )
