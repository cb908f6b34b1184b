"""``diagnose``: every check of a fit in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from pyro_ssbnn.analysis.diagnostics.evidence import Evidence, gather
from pyro_ssbnn.analysis.diagnostics.exact import check_certificate
from pyro_ssbnn.analysis.diagnostics.importance import check_importance, check_leave_one_out
from pyro_ssbnn.analysis.diagnostics.predictive import (
    check_calibration,
    check_prior_predictive,
    check_replicates,
)
from pyro_ssbnn.analysis.diagnostics.prior import check_power_scaling, check_prior_odds
from pyro_ssbnn.analysis.diagnostics.report import Check, Report
from pyro_ssbnn.analysis.diagnostics.restarts import (
    check_node_agreement,
    check_prediction_agreement,
    check_predictor_agreement,
)
from pyro_ssbnn.analysis.diagnostics.rivals import check_rivals
from pyro_ssbnn.analysis.diagnostics.selection import check_temperature, check_threshold
from pyro_ssbnn.analysis.diagnostics.signal import check_signal
from pyro_ssbnn.analysis.diagnostics.training import (
    check_convergence,
    check_gate_rate,
    check_schedule,
)
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference import Fit, Mixture, TrainingOptions, fit
from pyro_ssbnn.inference.mixture import require_alike
from pyro_ssbnn.inference.several import refitted
from pyro_ssbnn.inference.training_rows import Rows, training_rows
from pyro_ssbnn.structure.network import Network

__all__ = ["diagnose"]

_CHAIN = 400  # draws of each restart, at most
_FEWEST_DRAWS = 100  # for the Pareto tail of PSIS: the largest fifth


def diagnose(
    fitted: Fit | Mixture | Sequence[Fit] | Callable[[], Network],
    x: Tensor | Rows,
    y: Tensor | None = None,
    *,
    held_out: tuple[Any, Any] | Rows | None = None,
    restarts: int = 1,
    options: TrainingOptions | None = None,
    temperatures: Sequence[float] = (),
    certify: float | None = None,
    num_draws: int = 1000,
    seed: int = 0,
    progress: bool = False,
    n_jobs: int | None = None,
) -> Report:
    """Check a fit: has it arrived, does it predict data like the data, do restarts agree, what does it hang on?

    By default nothing is fitted: the cost is that of ``num_draws`` posterior draws at 2,000 rows at most, and of a
    random forest. See ``docs/diagnostics.md`` for what each check says.

    :param fitted: a fit; several fits of one network to the same data, the first of which is checked and the rest
        taken as its restarts; a mixture of fits, whose predictions are judged together, its fits compared as restarts,
        and training and gates checked of its best; or a function that makes the network, which is then fitted with
        ``options``.
    :param x: predictors ``[N, p]`` that were fitted to, scaled as they were; or the rows that are read in pieces, of
        which the checks look at a sample.
    :param y: their targets, ``[N]`` (``[N, K]`` for several); None with rows that bring their own.
    :param held_out: predictors and targets, or rows that are read in pieces, kept from the fit, for coverage,
        calibration, replicates and signal; without them the training rows serve, with leave-one-out weights where that
        matters.
    :param restarts: fits in all, of seeds that follow the fit's own; 1 makes none. Each costs what the fit cost.
    :param options: of the fits, where ``fitted`` is a function.
    :param temperatures: of the gates' relaxation to continue at, over a quarter of the epochs each and once more at the
        run's own; empty for none.
    :param certify: seconds to spend on the exact answer (:func:`pyro_ssbnn.certify`); None does without.
    :param num_draws: S, posterior draws.
    :param seed: of draws, forest and folds; the caller's random state is left untouched.
    :param progress: show progress bars of fits.
    :param n_jobs: restarts at a time, see :func:`pyro_ssbnn.parallel.run_jobs`.
    :raises ConfigurationError: for arguments that contradict each other or lie outside their domain.
    :raises DataError: for data that do not fit the network.

    >>> import torch
    >>> from pyro_ssbnn import MLP, SSIG, GaussianLikelihood
    >>> x = torch.randn(80, 3)
    >>> net = MLP(3, [4], prior=SSIG(inclusion=0.3), likelihood=GaussianLikelihood())
    >>> result = fit(net, x, x[:, 0], TrainingOptions(epochs=12, batch_size=40), progress=False)
    >>> report = diagnose(result, x, x[:, 0], num_draws=100)
    >>> report.trustworthy, report["convergence"].verdict  # twelve epochs are too few
    (False, 'warning')
    """
    if num_draws < _FEWEST_DRAWS:
        raise ConfigurationError(
            f"diagnose: num_draws must be at least {_FEWEST_DRAWS}, for k-hat; got {num_draws}."
        )
    if restarts < 1:
        raise ConfigurationError(f"diagnose: restarts counts all fits, at least 1; got {restarts}.")
    fits = _fits(fitted, x, y, options, progress)
    mixture = fitted if isinstance(fitted, Mixture) else None
    result = fits[0] if mixture is None else mixture.best
    rows = training_rows("diagnose", result.model, x, y)
    if rows.num_data != result.num_data:
        raise ConfigurationError(
            f"diagnose: the fit was to {result.num_data} rows, x has {rows.num_data}; give the rows that were fitted"
            " to, and others as held_out."
        )
    if rows.source is not None and (temperatures or certify is not None):
        raise ConfigurationError(
            "diagnose: temperatures and certify need all rows in memory, and these are read in pieces. Leave them out,"
            " or give a fit to a sample of the rows, and that sample."
        )
    if restarts > 1 and len(fits) > 1:
        raise ConfigurationError("diagnose: give several fits or a number of restarts, not both.")
    fits += refitted(result, rows, restarts - 1, progress=progress, n_jobs=n_jobs)

    x, y = rows.x, rows.y
    answer = mixture or result
    own = gather(answer, x, y, num_draws=num_draws, held_out=False, seed=seed)
    judged = own
    if held_out is not None:
        new = held_out if isinstance(held_out, tuple) else (held_out, None)
        kept = training_rows("diagnose", result.model, *new)
        judged = gather(answer, kept.x, kept.y, num_draws=num_draws, held_out=True, seed=seed)
    checks: list[Check] = [
        check_convergence(result),
        check_schedule(result),
        check_gate_rate(result),
        check_signal(judged),
        check_calibration(judged),
        check_replicates(judged),
        check_prior_predictive(result, own.x, own.y, seed=seed),
        check_leave_one_out(judged),
        check_importance(own),
        check_threshold(result),
        check_rivals(result, x, y, seed=seed),
        check_prior_odds(result),
        check_power_scaling(result, own.x, num_draws=num_draws, seed=seed),
    ]
    if temperatures:
        checks.append(check_temperature(result, x, y, temperatures))
    if certify is not None:
        checks.append(check_certificate(result, x, y, budget=certify, seed=seed, progress=progress))
    if len(fits) > 1:
        checks += _restart_checks(fits, own, num_draws, averaged=mixture is not None)
    return Report(tuple(checks))


def _fits(
    fitted: Fit | Mixture | Sequence[Fit] | Callable[[], Network],
    x: Tensor | Rows,
    y: Tensor | None,
    options: TrainingOptions | None,
    progress: bool,
) -> list[Fit]:
    if isinstance(fitted, Fit | Mixture | Sequence):
        given = fitted.fits if isinstance(fitted, Mixture) else fitted
        fits = [given] if isinstance(given, Fit) else list(given)
        if options is not None:
            raise ConfigurationError(
                "diagnose: options are for fits to be made; a fit brings its own."
            )
        require_alike("diagnose", fits)
        return fits
    if isinstance(fitted, nn.Module):
        raise ConfigurationError(
            "diagnose: a network is given; give a fit of it, or a function that makes a new one."
        )
    return [fit(fitted(), x, y, options, progress=progress)]


def _restart_checks(
    fits: Sequence[Fit], own: Evidence, num_draws: int, averaged: bool
) -> list[Check]:
    draws = max(_FEWEST_DRAWS, min(num_draws, _CHAIN))
    parts = [
        # other seeds, or equal noise would make chains look alike
        gather(f, own.x, own.y, num_draws=draws, held_out=False, seed=own.seed + 1 + i)
        for i, f in enumerate(fits)
    ]
    checks = [check_prediction_agreement(fits, parts, averaged)]
    if fits[0].model.description.inputs.gated:
        checks.append(check_predictor_agreement(fits))
    if fits[0].model.description.gated_layers:
        checks.append(check_node_agreement(fits, parts))
    return checks
