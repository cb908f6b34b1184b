r"""Coordinate ascent of gates on the evidence of both branches, in place of a gradient.

Let :math:`\gamma_j = q(z_j = 1)`. The bound depends on it through

.. math:: \frac{\partial L}{\partial \gamma_j} = \Delta_j - \mathrm{logit}\,\gamma_j + \mathrm{logit}\,\lambda_j,\qquad
          \Delta_j = E_q[\ell \mid z_j = 1] - E_q[\ell \mid z_j = 0] - (K_{j1} - K_{j0}),

with the log-likelihood :math:`\ell` and the KLs K of what depends on the gate. So its optimum, all else fixed, is at
:math:`\mathrm{logit}\,\gamma_j = \mathrm{logit}\,\lambda_j + \Delta_j`: the evidence :math:`\Delta_j` is a log Bayes
factor within the guide's family (:mod:`pyro_ssbnn.inference.gate_evidence` computes it). The straight-through
gradient has but the slope at one branch: under a function that oscillates, such as a sine, it may have the wrong sign.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides import CLOSED_LOGIT
from pyro_ssbnn.inference.gate_evidence import added_kl, gains, open_draws
from pyro_ssbnn.inference.options import TrainingOptions
from pyro_ssbnn.posterior.draws import evaluating
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.network import Network

__all__ = ["Evidence", "ascend", "branch_evidence", "with_gate_method"]

_MOST = 12.0  # log-odds within which gates stay: they can come back, and float32 tells q from 1


class Evidence(NamedTuple):
    """What speaks for the gates of a group, ``[size]`` each, float64 on the CPU; zero for those closed for good.

    :param log_bayes_factor: Delta, in nats.
    :param error: its standard error.
    """

    log_bayes_factor: Tensor
    error: Tensor


def with_gate_method(
    asked: TrainingOptions, settled: TrainingOptions, guide: Guide
) -> TrainingOptions:
    """Settled options for a guide: gates that depend on each other, or are soft, follow the gradient from the start.

    :param asked: what the user gave.
    :raises ConfigurationError: where the user asked for ascent.
    """
    if not settled.ascends or (guide.hard and has_own_gates(guide)):
        return settled
    if asked.ascends:
        kind = "soft gates" if not guide.hard else f"the gates of a {type(guide).__name__}"
        raise ConfigurationError(
            f"gate_method='ascent' asks for hard gates that do not depend on each other; {kind} are none. Take"
            " gate_method='gradient'."
        )
    return replace(settled, gate_method="gradient", gate_hold=asked.gate_hold or (0.0, 0.0))


def has_own_gates(guide: Guide) -> bool:
    """Whether each gate of a guide has log-odds of its own that may be moved."""
    return not getattr(guide, "coupled", ())


def branch_evidence(
    model: Network, guide: Guide, x: Tensor, y: Tensor, *, num_data: int, num_draws: int
) -> dict[str, Evidence]:
    """Evidence for every gate, ``{group: Evidence}``, from the random state as it is.

    :param x: predictors ``[N, p]``, on the device of the guide: all rows, or a sample of them.
    :param y: targets, as the likelihood scores them.
    :param num_data: observations of the whole data set.
    """
    groups, found = list(guide.description.gate_groups), {}
    with torch.no_grad(), evaluating(model, guide):
        added = added_kl(model, guide, groups, (x, y))
        values = open_draws(guide, groups, num_draws)
        for group in groups:
            logits = guide.inclusion_logits(group.name).double().cpu()
            gained = gains(model, group, values, logits, (x, y)) * (num_data / len(x))
            factor = torch.where(logits > CLOSED_LOGIT, gained.mean(0) - added[group.name], 0.0)
            found[group.name] = Evidence(factor, gained.std(0) / math.sqrt(num_draws))
    return found


@torch.no_grad()
def ascend(
    guide: Guide,
    evidence: dict[str, Evidence],
    names: set[str],
    most: float,
    factor: float = 1.0,
) -> None:
    """Move the gates of some groups to the optimum that the evidence asks for.

    :param most: log-odds by which a gate moves at most, so that the weights can follow.
    :param factor: share of the way that it goes; small ones average the noise of the evidence.
    """
    for name in names:
        group = guide.description[name]
        logits = guide.gate_logits(name)
        target = group.prior_logit + evidence[name].log_bayes_factor.to(logits)
        step = factor * (target - logits).clamp(-most, most)
        moved = (logits + step).clamp(-_MOST, _MOST)
        logits.copy_(torch.where(logits > CLOSED_LOGIT, moved, logits))
