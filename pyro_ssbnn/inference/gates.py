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

from collections.abc import Mapping

import torch

from pyro_ssbnn.inference.gate_evidence import GateEvidence
from pyro_ssbnn.structure.guide import Guide

__all__ = ["ascend"]

_MOST = 12.0  # log-odds within which gates stay: they can come back, and float32 tells q from 1


@torch.no_grad()
def ascend(
    guide: Guide,
    evidence: Mapping[str, GateEvidence],
    names: set[str],
    most: float,
    factor: float = 1.0,
) -> None:
    """Move the gates of some groups to the optimum that the evidence asks for.

    :param most: log-odds by which a gate moves at most, so that the weights can follow.
    :param factor: share of the way that it goes; small ones average the noise of the evidence.
    """
    for name in names:
        logits = guide.gate_logits(name)
        step = factor * (evidence[name].fixed_point.to(logits) - logits).clamp(-most, most)
        moved = (logits + step).clamp(-_MOST, _MOST)
        logits.copy_(torch.where(moved.isnan(), logits, moved))  # gates closed for good stay
