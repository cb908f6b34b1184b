r"""How far each gate is from its optimum, and the evidence for each member: both branches of every gate, averaged.

Given everything else, the bound is largest in the log-odds :math:`\eta_i` of gate i at its *fixed point*

.. math:: \eta_i^* = \log\frac{\lambda}{1 - \lambda}
          + E_q\big[\log p(y | z_i = 1, \cdot) - \log p(y | z_i = 0, \cdot)\big] - \Delta_i,

where :math:`\Delta_i` is what opening the gate adds to the KL of the weights that it opens (under a Beta prior of the
inclusion probability the prior log-odds are those given the other gates, averaged over these). So
:math:`\eta_i - \eta_i^*` says how far training has left the gate from its family's optimum, and
:math:`\eta_i^* - \mathrm{logit}\,\lambda` is a log Bayes factor that does not saturate, as a logit does that learning
stops moving. The expectation is over draws of all else, in which only this gate is flipped, on common random numbers;
:math:`\Delta_i` has a closed form, the derivative of the KL by the inclusion probability, because the KL is linear in
each of them.

Source: coordinate ascent, and local expectations as in Titsias and Lázaro-Gredilla (2015, NeurIPS 28).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides import CLOSED_LOGIT
from pyro_ssbnn.inference.branches import gains_of_opening
from pyro_ssbnn.inference.elbo import AnalyticELBO
from pyro_ssbnn.inference.guards import check_data
from pyro_ssbnn.inference.training_rows import require_in_memory
from pyro_ssbnn.isolation import isolated
from pyro_ssbnn.posterior.draws import evaluating, site_values, trace_draws
from pyro_ssbnn.structure.gates import GateGroup
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.match import require_match
from pyro_ssbnn.structure.network import Network

__all__ = ["GateEvidence", "branch_evidence", "gate_evidence"]

_KL_DRAWS = 64
_FAR = 15.0  # log-odds


@dataclass(frozen=True)
class GateEvidence:
    """Evidence for the members of one group; tensors ``[size]``, float64 on the CPU.

    :param logits: the guide's log-odds of inclusion.
    :param fixed_point: log-odds that are best given everything else, see the module; NaN for removed members.
    :param error: standard error of the fixed point, from the draws; 0 where it has a closed form.
    :param prior_logit: prior log-odds of each, whatever the others.
    """

    logits: Tensor
    fixed_point: Tensor
    error: Tensor
    prior_logit: Tensor

    @property
    def log_bayes_factor(self) -> Tensor:
        """Fixed point less the prior log-odds, ``[size]``, with the same error.

        Posterior against prior odds: under a Beta prior also what the other members say of the inclusion probability.
        """
        return self.fixed_point - self.prior_logit

    @property
    def distance(self) -> Tensor:
        """How far the inclusion probabilities are above those of the fixed points, ``[size]``."""
        return self.logits.sigmoid() - self.fixed_point.sigmoid()


def gate_evidence(
    model: Network,
    guide: Guide,
    x: Tensor,
    y: Tensor,
    *,
    num_draws: int = 256,
    max_rows: int = 2_000,
    seed: int = 0,
) -> dict[str, GateEvidence]:
    """Evidence for every member of every gated group, from both branches of its gate.

    A draw costs a forward pass for each gate; in a network of dense layers only what comes after the gate. Groups with
    a joint law have their marginal log-odds as fixed points: of a settled guide they are at the optimum.

    :param x: predictors ``[N, columns]``.
    :param y: targets, ``[N]`` (``[N, K]`` for several).
    :param num_draws: draws of everything else, at least 8; the errors fall with their root.
    :param max_rows: of more rows so many are drawn, and scaled to all. The errors are those of the draws on these rows.
    :param seed: of draws and rows; the caller's random state is left untouched.
    :returns: by group.
    :raises ConfigurationError: for fewer than 8 draws, or a guide of another network.
    :raises DataError: for data that do not fit the model.
    """
    if num_draws < 8:
        raise ConfigurationError(
            f"gate_evidence: num_draws must be at least 8, to give errors; got {num_draws}."
        )
    require_match("gate_evidence", model, guide)
    require_in_memory("gate_evidence", x)
    check_data("gate_evidence", model, x, y)
    like = next(guide.parameters())
    joint = getattr(guide, "coupled", ())
    groups = guide.description.gate_groups
    with isolated(seed, like), evaluating(model, guide):
        rows = torch.randperm(len(x))[:max_rows] if len(x) > max_rows else torch.arange(len(x))
        part = (x[rows.to(x.device)].to(like), y[rows.to(y.device)])
        free = [group for group in groups if group.name not in joint]
        found = branch_evidence(model, guide, free, part, len(x), num_draws)
    for group in groups:
        if group.name in joint:
            logits = guide.inclusion_logits(group.name).double().cpu()
            zeros = torch.zeros_like(logits)
            found[group.name] = GateEvidence(logits, logits, zeros, group.prior_logit)
    return {group.name: found[group.name] for group in groups}


def branch_evidence(
    model: Network,
    guide: Guide,
    groups: Sequence[GateGroup],
    data: tuple[Tensor, Tensor],
    num_data: int,
    num_draws: int,
) -> dict[str, GateEvidence]:
    """Evidence for groups of independent gates, from the random state as it is; network and guide are evaluating.

    :param data: predictors, on the device of the guide, and targets: all rows, or a sample of them.
    :param num_data: observations of the whole data set.
    """
    if not groups:
        return {}
    added = _added_kl(model, guide, groups, data)
    values = _open_draws(guide, groups, num_draws)
    logits = {g.name: guide.inclusion_logits(g.name).double().cpu() for g in groups}
    live = {name: (eta > CLOSED_LOGIT).nonzero().flatten().tolist() for name, eta in logits.items()}
    gains = gains_of_opening(model, groups, values, live, data)
    found = {}
    for group in groups:
        gain = gains[group.name] * (num_data / len(data[0]))
        prior = group.expected_logit(guide.inclusion()[group.name].cpu())
        fixed_point = prior + gain.mean(0) - added[group.name]
        error = gain.std(0) / math.sqrt(num_draws)
        found[group.name] = GateEvidence(logits[group.name], fixed_point, error, group.prior_logit)
    return found


def _added_kl(
    model: Network, guide: Guide, groups: Sequence[GateGroup], data: tuple[Tensor, Tensor]
) -> dict[str, Tensor]:
    """What opening each gate adds to the KL of the weights, ``{group: [size]}``, float64.

    The KL of the weights is linear in each inclusion probability gamma; its derivative by the logit is gamma (1 -
    gamma) times the difference of the branches.
    """
    twin: Any = deepcopy(guide)
    twin.double()
    logits = [twin.gate_logits(group.name) for group in groups]
    with torch.no_grad():
        for eta in logits:  # further out gamma (1 - gamma) loses its digits
            eta.clamp_(-_FAR, _FAR)
    x, y = data[0][:1].double(), data[1][:1]
    weights = {group.weight_site for group in model.description.groups}
    with isolated(0, x, grad=True):
        terms = AnalyticELBO(_KL_DRAWS).terms(model, twin, x, model.likelihood.as_target(y, x))
        total = torch.stack([kl for site, kl in terms.kl.items() if site in weights]).sum()
        slopes = torch.autograd.grad(total, logits)
    return {
        group.name: (slope / (eta.sigmoid() * (-eta).sigmoid())).detach().cpu()
        for group, slope, eta in zip(groups, slopes, logits, strict=True)
    }


def _open_draws(guide: Guide, groups: Sequence[GateGroup], num_draws: int) -> dict[str, Tensor]:
    """Draws of all latents, weights those of open members, gates as the guide draws them; ``[S, ...]`` by site."""
    like = next(guide.parameters())
    opened = {g.gate_site: like.new_ones(num_draws, g.size) for g in groups}
    values = site_values(trace_draws(poutine.condition(guide, data=opened), num_draws))
    for group in groups:
        inclusion = guide.inclusion_logits(group.name).sigmoid()
        values[group.gate_site] = torch.bernoulli(inclusion.expand(num_draws, -1))
    return values
