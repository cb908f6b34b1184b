r"""The evidence for each gate, by opening and closing it, and the coordinate ascent that follows it.

Let :math:`\gamma_j = q(z_j = 1)`. The bound depends on it through

.. math:: \frac{\partial L}{\partial \gamma_j} = \Delta_j - \mathrm{logit}\,\gamma_j + \mathrm{logit}\,\lambda_j,\qquad
          \Delta_j = E_q[\ell \mid z_j = 1] - E_q[\ell \mid z_j = 0] - (K_{j1} - K_{j0}),

with the log-likelihood :math:`\ell` and the KLs K of what depends on the gate. So its optimum, all else fixed, is at
:math:`\mathrm{logit}\,\gamma_j = \mathrm{logit}\,\lambda_j + \Delta_j`: the evidence :math:`\Delta_j` is a log Bayes
factor within the guide's family. Both branches are computed, under the same draws of all else. The straight-through
gradient has but the slope at one branch: under a function that oscillates, such as a sine, it may have the wrong sign.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference.elbo import AnalyticELBO
from pyro_ssbnn.inference.options import TrainingOptions
from pyro_ssbnn.isolation import without_parameters
from pyro_ssbnn.posterior.draws import evaluating, site_values
from pyro_ssbnn.posterior.networks import outputs
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.network import Network

__all__ = ["Evidence", "ascend", "branch_evidence", "with_gate_method"]

_NUMBERS = 2**23  # weights and outputs held at a time
_CLOSED = -39.0  # log-odds of gates closed for good lie below
_MOST = 12.0  # log-odds within which gates stay: they can come back, and float32 tells q from 1


class Evidence(NamedTuple):
    """What speaks for the gates of a group, ``[size]`` each; zero for those closed for good.

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
    groups = [g.name for g in guide.description.gate_groups]
    kl = _kl_slopes(model, guide, x, y, num_draws)
    with torch.no_grad(), evaluating(model, guide), without_parameters():
        with pyro.plate("draws", num_draws, dim=-2):  # open nodes' weights, also of closed ones
            values = site_values(poutine.trace(guide).get_trace())
        times = num_data / len(x)
        base = times * _log_likelihoods(model, values, x, y)
        found = {}
        for name in groups:
            site = guide.description[name].gate_site
            live = (guide.inclusion_logits(name) > _CLOSED).nonzero().flatten().tolist()
            gain = x.new_zeros(guide.description[name].size, num_draws)
            block = max(1, _NUMBERS // (num_draws * max(model.description.num_weights, len(x))))
            for at in range(0, len(live), block):
                members = live[at : at + block]
                flipped = times * _log_likelihoods(model, _flipped(values, site, members), x, y)
                sign = (
                    2 * values[site][:, members].T.to(x) - 1
                )  # + where the other branch is closed
                gain[members] = sign * (base - flipped.reshape(len(members), num_draws)).to(x)
            delta = gain.mean(1) - kl[name]
            found[name] = Evidence(delta, gain.std(1) / math.sqrt(num_draws))
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
        target = group.prior_logit + evidence[name].log_bayes_factor
        step = factor * (target - logits).clamp(-most, most)
        moved = (logits + step).clamp(-_MOST, _MOST)
        logits.copy_(torch.where(logits > _CLOSED, moved, logits))


def _flipped(values: dict[str, Tensor], site: str, members: list[int]) -> dict[str, Tensor]:
    """Draws with one gate after the other at its other value, ``[members * S, ...]``."""
    copies = len(members)
    repeated = {
        name: value.expand(copies, *value.shape).flatten(0, 1) for name, value in values.items()
    }
    gates = values[site].repeat(copies, 1, 1)
    for copy, member in enumerate(members):
        gates[copy, :, member] = 1 - gates[copy, :, member]
    return {**repeated, site: gates.flatten(0, 1)}


def _log_likelihoods(model: Network, values: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    """Log p(y | draw), all rows together, ``[S]``."""
    f = outputs(model, values, x)
    likelihood = model.likelihood
    own = likelihood.latents_of(values, model.description.prefix)
    latents = {name: value.to(f) for name, value in own.items()}
    f, target, weight = likelihood.unpacked(f, y.to(f.device))
    score = likelihood.distribution(f, latents).log_prob(target)
    return (score if weight is None else score * weight).flatten(1).sum(1)


def _kl_slopes(
    model: Network, guide: Guide, x: Tensor, y: Tensor, num_draws: int
) -> dict[str, Tensor]:
    """What opening each gate adds to the KL of all else, ``{group: [size]}``: the closed form's slope."""
    groups = {g.name: guide.gate_logits(g.name) for g in guide.description.gate_groups}
    elbo = AnalyticELBO(num_draws)
    with torch.enable_grad():
        terms = elbo.terms(model, guide, x[:1], y[:1])
        total = torch.stack([*terms.kl.values()]).sum()
        slopes = torch.autograd.grad(total, list(groups.values()))
    found = {}
    for (name, logits), slope in zip(groups.items(), slopes, strict=True):
        q = logits.detach().sigmoid()
        own = logits.detach() - guide.description[name].prior_logit  # of the gate's own KL
        at = logits.detach().clamp(-_MOST, _MOST).sigmoid()
        found[name] = slope / (at * (1 - at)) - own
        found[name] = torch.where((q > 0) & (logits.detach() > _CLOSED), found[name], 0.0)
    return found
