r"""How much the selection hangs on the threshold, and on the temperature of the gates' relaxation.

**Threshold.** What is selected at 0.3, 0.4, ..., 0.7; costs nothing.

**Temperature.** A hard gate draws :math:`1[y > 1/2]`, an exact Bernoulli at every temperature: to *evaluate* a fit of
hard gates at another temperature changes nothing, and soft gates are always evaluated hard here. What the temperature
changes is the gradient that *trained* the gates. So the run is continued, from where it ended, over a share of its
epochs at other temperatures with rates that start anew and decay to a hundredth; a continuation at its own temperature
stands beside them as the control. Cost: that share of the run for each temperature and once more for the control.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pyro_ssbnn.analysis.diagnostics.report import Check
from pyro_ssbnn.analysis.scales import inclusion_probabilities
from pyro_ssbnn.errors import CollapseWarning, ConfigurationError
from pyro_ssbnn.inference import Fit, fit

__all__ = ["THRESHOLDS", "check_temperature", "check_threshold", "continued"]

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)


def check_threshold(result: Fit) -> Check:
    """Members whose selection changes for thresholds from 0.3 to 0.7."""
    guide = result.guide
    counts: dict[str, list[int]] = {}
    open_questions: list[str] = []
    total = 0
    for group in guide.description.gate_groups:
        gamma = inclusion_probabilities(guide, group.name)
        total += len(gamma)
        counts[group.name] = [int((gamma > at).sum()) for at in THRESHOLDS]
        between = (gamma > THRESHOLDS[0]) & (gamma <= THRESHOLDS[-1])
        names = guide.description.member_names(group.name)
        open_questions += [f"{names[j]} ({gamma[j]:.2f})" for j in np.flatnonzero(between)]
    values = {"thresholds": list(THRESHOLDS), "selected": counts, "undecided": open_questions}
    if not counts:
        return Check("threshold", "ok", "This network has no gates.")
    if not open_questions:
        return Check(
            "threshold", "ok", "Every threshold from 0.3 to 0.7 selects the same.", values=values
        )
    return Check(
        "threshold",
        "note",
        f"Selection depends on the threshold for {len(open_questions)} of {total}: {_few(open_questions)}.",
        "Report their inclusion probabilities, not only what is selected.",
        values,
    )


def continued(result: Fit, x: Tensor, y: Tensor, *, share: float, temperature: float) -> Fit:
    """A copy of a fit, trained on for a share of its epochs at one temperature; the fit itself stays as it was.

    :param share: of the run's epochs, positive; rates start as the run's did and decay by a cosine.
    :param temperature: of the gates' relaxation.
    :raises ConfigurationError: for a share or a temperature that is not positive, and where the augmentation of a fit
        from a file is not known.
    """
    if result.start.lost:
        raise ConfigurationError(
            f"diagnose: the run cannot be continued as it was: its file does not hold its augmentation,"
            f" {result.start.lost}. Leave temperatures empty."
        )
    if not share > 0 or not temperature > 0:
        raise ConfigurationError(
            f"diagnose: continuing a run needs a positive share and temperature; got {share} and {temperature}."
        )
    options = replace(
        result.options,
        epochs=max(1, math.ceil(share * result.options.num_epochs(result.num_data))),
        batch_size=result.options.batch_rows(result.num_data),
        kl_warmup=0.0,
        decay_after=0.0,
        milestones=(),
        patience=None,
        remove_below=None,
        temperature=(temperature, temperature),
        seed=result.options.seed + 1,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)  # the checks speak of collapse
        return fit(
            copy.deepcopy(result.model),
            x,
            y,
            options,
            guide=copy.deepcopy(result.guide),
            augment=result.start.augment,
            progress=False,
        )


def check_temperature(
    result: Fit, x: Tensor, y: Tensor, temperatures: Sequence[float], *, share: float = 0.25
) -> Check:
    """What continuations at other temperatures select that the control does not.

    :param temperatures: to continue at.
    :param share: of the run's epochs, for each and for the control.
    """
    own = result.options.temperature[1]
    control = continued(result, x, y, share=share, temperature=own).guide.inclusion()
    description = result.guide.description
    moved: dict[str, list[str]] = {}
    for temperature in temperatures:
        other = continued(result, x, y, share=share, temperature=temperature).guide.inclusion()
        moved[f"{temperature:g}"] = [
            f"{description.member_names(name)[j]} ({control[name][j]:.2f} -> {other[name][j]:.2f})"
            for name in control
            for j in torch.nonzero((control[name] > 0.5) != (other[name] > 0.5)).flatten().tolist()
        ]
    values = {"own": own, "share": share, "moved": moved}
    changed = {t: names for t, names in moved.items() if names}
    if not changed:
        return Check(
            "temperature",
            "ok",
            f"Continued at temperatures {', '.join(moved)} the run selects what it does at its own, {own:g}.",
            values=values,
        )
    told = "; ".join(f"at {t}: {_few(names)}" for t, names in changed.items())
    return Check(
        "temperature",
        "note",
        f"Continued at another temperature than {own:g} the run selects otherwise: {told}.",
        "These gates are not settled by the data: do not interpret them one by one.",
        values,
    )


def _few(names: list[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
