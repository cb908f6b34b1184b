r"""Has the run arrived? The ELBO's trend, the schedule, and how far the gates could move.

**Trend.** A run reads its bound five times, from draws of its own (``history.bounds``): what counts is the change from
the last but one to the last, with the errors of both. Where there are no readings, of the epochs at full KL weight the
last quarter of the run is regressed on the epoch, :math:`e_t = a + b t + \epsilon_t`; the rise is
:math:`r = b (T - 1)`, in nats per observation. Epoch ELBOs carry the noise of minibatches and draws, correlated where
the parameters wander, so the least-squares error of r is multiplied by :math:`\sqrt{(1 + \rho)/(1 - \rho)}`,
:math:`\rho` the residuals' lag-one autocorrelation (an AR(1) process).

**Schedule.** Rates that have decayed make any ELBO flat. A run that was cut off is seen by its schedule instead: rates
not yet down, a KL weight below one, a temperature on its way, or epochs missing.

**Travel.** Adam moves a gate logit by about its rate a step, so the sum of the rates at full KL weight bounds how far a
gate can have gone. A gate that starts at log-odds :math:`\ell_0` must be able to reach :math:`-\ell_0`. From the other
side, a gate that can cross to one half within ten steps, :math:`1/(1 - \beta_1)`, the memory of Adam's average
gradient, is decided by the noise of one minibatch, before any weight has learned.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pyro_ssbnn.analysis.diagnostics.report import MATTERS, SERIOUS, SIGMAS, Check
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference import Fit
from pyro_ssbnn.inference.history import Reading
from pyro_ssbnn.inference.schedule import rate_factor

__all__ = ["check_convergence", "check_gate_rate", "check_schedule", "trend"]

Array = NDArray[np.float64]

_WINDOW = 0.25  # of the run
_FEWEST = 8  # epochs: below, the lag-one autocorrelation means nothing
_ADAM_MEMORY = 10  # steps, 1 / (1 - beta_1)


def trend(values: Array) -> tuple[float, float]:
    """Rise of a noisy series over its length by least squares, and its standard error under AR(1) noise.

    :param values: ``[T]``, at least 3.
    """
    steps = np.arange(len(values)) - (len(values) - 1) / 2
    slope = float(steps @ values / (steps @ steps))
    residual = values - values.mean() - slope * steps
    variance = float(residual @ residual) / max(len(values) - 2, 1)
    rho = float(residual[1:] @ residual[:-1] / max(residual @ residual, 1e-300))
    rho = min(max(rho, 0.0), 0.95)
    error = math.sqrt(variance / (steps @ steps) * (1 + rho) / (1 - rho))
    return slope * (len(values) - 1), error * (len(values) - 1)


def check_convergence(result: Fit) -> Check:
    """Whether the ELBO still rises (or falls) at the end, in nats per observation.

    :raises ConfigurationError: for a fit without a history.
    """
    history = result.history
    if len(history) == 0:
        raise ConfigurationError("diagnose: the fit holds no history; fit the network first.")
    if len(history.bounds) >= 2:
        return _of_readings(history.bounds[-2:], result.num_data)
    full = np.asarray(history.kl_weight) >= 1.0
    elbo = history.elbo[full] / result.num_data
    window = min(len(elbo), max(_FEWEST, math.ceil(_WINDOW * len(history))))
    if window < _FEWEST:
        return Check(
            "convergence",
            "warning",
            f"Only {window} epochs were run at full KL weight: too few to see whether the ELBO has stopped rising.",
            "Train longer, or shorten kl_warmup.",
            {"epochs": window},
        )
    rise, error = trend(elbo[-window:])
    values = {"rise": rise, "error": error, "epochs": window, "elbo_per_row": float(elbo[-1])}
    said = f"Over the last {window} epochs the ELBO changed by {rise:+.3f} ± {error:.3f} nats per observation"
    return _of_a_rise(rise, error, said, values)


def _of_readings(readings: Sequence[Reading], num_data: int) -> Check:
    """Verdict on the last two readings of the bound."""
    before, last = readings
    rise = (last.elbo - before.elbo) / num_data
    error = math.hypot(last.error, before.error) / num_data
    values = {
        "rise": rise,
        "error": error,
        "epochs": last.epoch - before.epoch,
        "elbo_per_row": last.elbo / num_data,
    }
    said = (
        f"From epoch {before.epoch:g} to {last.epoch:g}, its last two readings, the bound changed by {rise:+.3f} ±"
        f" {error:.3f} nats per observation"
    )
    return _of_a_rise(rise, error, said, values)


def _of_a_rise(rise: float, error: float, said: str, values: dict[str, float]) -> Check:
    """Verdict on a change of the bound, in nats per observation."""
    if abs(rise) <= MATTERS:
        return Check("convergence", "ok", f"{said}: it has settled.", values=values)
    if abs(rise) <= SIGMAS * error:
        return Check("convergence", "ok", f"{said}: no trend beyond its noise.", values=values)
    beyond = abs(rise) > SERIOUS
    if rise > 0:
        todo = "Train longer: more epochs, the rest of the schedule in proportion."
        return Check(
            "convergence",
            "warning" if beyond else "note",
            f"{said}: it still rises.",
            todo,
            values,
        )
    return Check(
        "convergence",
        "warning" if beyond else "note",
        f"{said}: it falls.",
        "Gates leave that the bound would keep: lower gate_rate, lengthen kl_warmup, or set remove_below=None.",
        values,
    )


def check_schedule(result: Fit) -> Check:
    """Whether the run reached the end of its schedule, and whether the gates could travel."""
    options, history, schedule = result.options, result.history, result.schedule
    planned, done = schedule.epochs, history.epoch
    last = schedule.steps_of(len(history) - 1)[1] - 1
    factor, weight = schedule.rate_factor(last), schedule.kl_weight(last)
    values = {
        "epochs": done,
        "planned": planned,
        "rate_factor": factor,
        "kl_weight": weight,
        "temperature": schedule.temperature(last),
        "travel": schedule.travel(last + 1),
    }
    open_ends = []
    if weight < 1:
        open_ends.append(f"the KL weight had reached only {weight:.2f}")
    lowest = rate_factor(options, 1.0)
    if factor > 10 * lowest:
        open_ends.append(f"the rates were still at {100 * factor:.0f} % of their start")
    if abs(math.log(values["temperature"] / options.temperature[1])) > 0.1:
        open_ends.append(f"the temperature was still {values['temperature']:.2f}")
    if open_ends:
        return Check(
            "schedule",
            "warning",
            f"The run ended after {done:g} of {planned} epochs: {'; '.join(open_ends)}.",
            "Resume it to the end, fit(..., resume=...), or plan fewer epochs, so that the rates decay within them.",
            values,
        )
    needed = 2 * abs(_initial_logit(result))
    if result.model.description.gate_groups and values["travel"] < needed:
        return Check(
            "schedule",
            "warning",
            f"At full KL weight the gates could move by {values['travel']:.1f} log-odds in all; to close from inclusion"
            f" {_initial_inclusion(result):g} takes {needed:.1f}. The run is too short for them.",
            "Train longer."
            if options.ascends
            else "Train longer, raise gate_rate, or shorten kl_warmup.",
            values,
        )
    return Check("schedule", "ok", f"All {done:g} epochs of the schedule were run.", values=values)


def check_gate_rate(result: Fit) -> Check:
    """Whether gates are decided slowly enough to see their weights learn; none of it for a network without gates."""
    if not result.model.description.gate_groups:
        return Check("gate rate", "ok", "This network has no gates.")
    if result.options.ascends:
        return _check_ascent(result)
    rate = result.options.gate_step(result.num_data)
    steps = abs(_initial_logit(result)) / rate
    swings = _swings(result)
    worst = max(swings, key=lambda name: swings[name])
    values = {"rate": rate, "steps_to_half": steps, "swings": swings}
    if steps < _ADAM_MEMORY:
        return Check(
            "gate rate",
            "warning",
            f"At rate {rate:.3g} a gate goes from inclusion {_initial_inclusion(result):g} to 1/2 within"
            f" {steps:.1f} steps, less than the {_ADAM_MEMORY} that Adam averages gradients over: noise decides which"
            " nodes stay.",
            "Lower gate_rate (0.02 at 256 rows a step, less for smaller steps).",
            values,
        )
    if swings[worst] > 0:
        return Check(
            "gate rate",
            "note",
            f"{100 * swings[worst]:.0f} % of the gates of {worst} closed (below 0.1) and opened again (above 0.9).",
            "Lower gate_rate if restarts disagree on them.",
            values,
        )
    return Check(
        "gate rate",
        "ok",
        f"A gate needs at least {steps:.0f} steps to close, and none swung between closed and open.",
        values=values,
    )


def _initial_inclusion(result: Fit) -> float:
    """What the guide says of itself: one that was given to the run need not start where the options do."""
    initial: Mapping[str, float] = getattr(result.guide, "initial", {})
    return initial.get("initial_inclusion", result.options.start_inclusion)


def _initial_logit(result: Fit) -> float:
    p = _initial_inclusion(result)
    return math.log(p / (1 - p))


def _check_ascent(result: Fit) -> Check:
    """Gates that move by the evidence of both branches have no rate; whether they swung can be seen all the same."""
    swings = _swings(result)
    worst = max(swings, key=lambda name: swings[name])
    values = {"ascents": result.schedule.ascents, "swings": swings}
    if swings[worst] > 0:
        return Check(
            "gate rate",
            "note",
            f"{100 * swings[worst]:.0f} % of the gates of {worst} closed (below 0.1) and opened again (above 0.9).",
            "Train longer if restarts disagree on them.",
            values,
        )
    return Check(
        "gate rate",
        "ok",
        f"Gates moved {values['ascents']} times, by the evidence of both branches, and none swung between closed and"
        " open.",
        values=values,
    )


def _swings(result: Fit) -> dict[str, float]:
    """Share of each group's gates that went below 0.1 and later above 0.9."""
    found = {}
    for name, rows in result.history.inclusion.items():
        path = np.stack(rows)
        closed = np.maximum.accumulate(path < 0.1, axis=0)
        found[name] = float((closed & (path > 0.9)).any(0).mean())
    return found or {"gates": 0.0}
