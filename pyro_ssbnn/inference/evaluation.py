r"""The evidence lower bound of a fit as a number with its error.

.. math:: L = E_q[\log p(y \mid x, w)] - \sum_s KL(q_s || p_s)

The KLs have closed forms; the expectation is over draws, and a draw in which a gate that the network needs happens to
be closed can lie thousands of nats below the others. So the gates are *stratified* by how many of them differ from
their likelier value. With :math:`\rho_j = \min(\gamma_j, 1 - \gamma_j)` the probability of gate j's rarer value and
:math:`o_j = \rho_j/(1 - \rho_j)`,

.. math:: P(\text{none}) = \prod_j (1 - \rho_j),\qquad P(\text{only } j) = P(\text{none})\, o_j,\qquad
          P(\text{two or more}) = 1 - P(\text{none})(1 + \textstyle\sum_j o_j).

Each stratum has draws of its own, each single difference too where there are draws enough; gates that differ at two or
more places are drawn from their exact conditional law, one after another, with
:math:`R_j(c) = P(\text{at least } c \text{ of the gates } j, j+1, \ldots \text{ differ})`. The estimate is
unbiased, and its error is that of stratified sampling.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from pyro import poutine
from torch import Tensor

from pyro_ssbnn.checks import check_draws
from pyro_ssbnn.guides import CLOSED_LOGIT
from pyro_ssbnn.inference.elbo import AnalyticELBO
from pyro_ssbnn.inference.shrinking import PresentScales
from pyro_ssbnn.inference.training_rows import Rows, TrainingRows, training_rows
from pyro_ssbnn.isolation import isolated
from pyro_ssbnn.posterior.draws import evaluating, site_values, trace_draws
from pyro_ssbnn.posterior.networks import MEMORY, log_likelihood, outputs, roomy
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.match import require_match
from pyro_ssbnn.structure.network import Network

__all__ = ["Bound", "bound_of", "evaluate_bound", "strata"]

_NUMBERS = 2**25  # weights and activations held at a time; 128 MB in float32
_KL_DRAWS = 16
_NEGLIGIBLE = (
    1e-9  # probability of a stratum that is left out; 1e-9 times a million nats is nothing
)


@dataclass(frozen=True)
class Bound:
    """A bound on the log evidence, in nats.

    :param elbo: the estimate.
    :param error: its standard error.
    :param log_likelihood: expected log-likelihood of all observations.
    :param kl: KL of all latents from their priors.
    :param num_draws: draws it was made of.
    """

    elbo: float
    error: float
    log_likelihood: float
    kl: float
    num_draws: int

    def __str__(self) -> str:
        return f"{self.elbo:.1f} ± {self.error:.1f}"


def evaluate_bound(
    model: Network,
    guide: Guide,
    x: Tensor | ArrayLike | Rows,
    y: Tensor | ArrayLike | None = None,
    *,
    num_draws: int = 512,
    max_rows: int = 20_000,
    seed: int = 0,
) -> Bound:
    """Evaluate the bound of a fit on its data, with hard gates and draws of the weights.

    :param x: predictors ``[N, p]``, on any device; or rows that are read in pieces, as :func:`~pyro_ssbnn.fit` takes
        them.
    :param y: targets, ``[N]`` (``[N, K]`` for several); None with rows that bring their own.
    :param num_draws: draws of the latents, at least 8; the error falls with their root.
    :param max_rows: of more rows so many are drawn, and scaled to all. The error is that of the draws on these rows.
    :param seed: of the draws and rows: two states of one network are compared best under one seed. The caller's random
        state is left untouched.
    :raises ConfigurationError: for fewer than 8 draws, or a guide of another network.
    :raises DataError: for data that do not fit the model.
    """
    check_draws("evaluate_bound", num_draws, least=8)  # fewer give no error
    require_match("evaluate_bound", model, guide)
    rows = training_rows("evaluate_bound", model, x, y, max_rows)
    return bound_of(model, guide, rows, num_draws=num_draws, max_rows=max_rows, seed=seed)


def bound_of(
    model: Network,
    guide: Guide,
    data: TrainingRows,
    *,
    num_draws: int,
    max_rows: int,
    seed: int,
) -> Bound:
    """As :func:`evaluate_bound`, of rows that are known to fit the model."""
    x, y, like = data.x, data.y, next(guide.parameters())
    with isolated(seed, like), evaluating(model, guide):
        rows = torch.randperm(len(x))[:max_rows] if len(x) > max_rows else None
        part = (x, y) if rows is None else (x[rows.to(x.device)], y[rows.to(y.device)])
        used = _Data(part[0].to(like), part[1])
        logits = _gate_logits(guide)
        parts = strata(torch.cat([*logits.values(), like.new_zeros(0)]), num_draws)
        gates = torch.cat([each for _, each in parts]).to(like)
        scores = _log_likelihoods(model, guide, _by_site(gates, logits), len(gates), used)
        mean, variance = 0.0, 0.0
        of_parts = scores.split([len(each) for _, each in parts])
        for (probability, _), values in zip(parts, of_parts, strict=True):
            mean += probability * float(values.mean())
            variance += probability**2 * float(values.var()) / len(values)
        kl, kl_variance = _kl(model, guide, used)
    factor = data.num_data / len(used.x)
    error = math.sqrt(factor**2 * variance + kl_variance)
    return Bound(factor * mean - kl, error, factor * mean, kl, len(gates))


class _Data(NamedTuple):
    x: Tensor
    y: Tensor


def strata(logits: Tensor, num_draws: int) -> list[tuple[float, Tensor]]:
    """Parts of the law of independent gates: the probability of each, and draws of the gates given it.

    :param logits: log-odds of inclusion, ``[G]``.
    :param num_draws: draws of all parts together, about: each has two at least, more go to the likelier ones.
    :returns: pairs of a probability and gates ``[S, G]``, float64; parts less likely than 1e-9 are left out.
    """
    logits = logits.double()
    likelier = (logits > 0).double()
    odds = (-logits.abs()).exp()  # of the rarer value
    none = float((-odds.log1p()).sum().exp())
    single = none * odds
    several = 1 - none - float(single.sum())
    differs = torch.eye(len(logits), dtype=torch.float64, device=logits.device)
    parts = [(none, likelier.new_zeros(1, len(logits)))]
    seen = (single > _NEGLIGIBLE).nonzero().flatten()
    if 4 * len(seen) <= num_draws:
        parts += [(float(single[j]), differs[j : j + 1]) for j in seen]
    else:
        drawn = torch.multinomial(odds, num_draws, replacement=True)
        parts.append((float(single.sum()), differs[drawn]))
    if several > _NEGLIGIBLE:
        parts.append((several, _several(odds / (1 + odds), num_draws)))
    unit = num_draws / sum(math.sqrt(probability) for probability, _ in parts)
    found = []
    for probability, rows in parts:
        count = max(2, round(unit * math.sqrt(probability)))
        rows = rows.expand(count, -1) if len(rows) == 1 else rows[:count]
        found.append((probability, (likelier - rows).abs()))
    return found


def _several(rare: Tensor, count: int) -> Tensor:
    """Which gates differ, given that two or more do, ``[count, G]``; exact, gate after gate.

    :param rare: probability of each gate's rarer value, ``[G]``.
    """
    # at_least[j, c]: probability that c or more of the gates from j on differ
    at_least = rare.new_zeros(len(rare) + 1, 3)
    at_least[:, 0] = 1.0
    for j in range(len(rare) - 1, -1, -1):
        at_least[j, 1:] = rare[j] * at_least[j + 1, :2] + (1 - rare[j]) * at_least[j + 1, 1:]
    wanted = torch.full((count,), 2, device=rare.device)
    columns = []
    for j, uniform in enumerate(torch.rand(len(rare), count, dtype=rare.dtype, device=rare.device)):
        left = (wanted - 1).clamp_min(0)
        differs = uniform * at_least[j, wanted] < rare[j] * at_least[j + 1, left]
        wanted = torch.where(differs, left, wanted)
        columns.append(differs)
    return torch.stack(columns, -1).to(rare)


def _gate_logits(guide: Guide) -> dict[str, Tensor]:
    """Log-odds of the independent gates, by group; a guide's coupled groups are drawn with all the rest."""
    joint = getattr(guide, "coupled", ())
    groups = [group for group in guide.description.gate_groups if group.name not in joint]
    return {group.gate_site: guide.inclusion_logits(group.name) for group in groups}


def _by_site(gates: Tensor, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    sizes = [len(each) for each in logits.values()]
    return dict(zip(logits, gates.split(sizes, -1), strict=True))


def _log_likelihoods(
    model: Network, guide: Guide, gates: Mapping[str, Tensor], num_draws: int, data: _Data
) -> Tensor:
    """Log p(y | draw), all rows together, for draws of everything else given the gates, ``[S]``, float64."""
    numbers = _NUMBERS * (roomy(data.x.device) // MEMORY)
    block = max(1, numbers // max(model.description.num_weights, len(data.x)))
    scores = []
    for at in range(0, num_draws, block):
        part = {site: each[at : at + block] for site, each in gates.items()}
        size = min(block, num_draws - at)
        values = site_values(trace_draws(poutine.condition(guide, data=part), size))
        scores.append(log_likelihood(model, values, outputs(model, values, data.x), data.y))
    return torch.cat(scores)


def _kl(model: Network, guide: Guide, data: _Data) -> tuple[float, float]:
    """KL of all latents, and the variance of its estimate: it follows draws of the latents that others depend on."""
    elbo = AnalyticELBO()
    y = model.likelihood.as_target(data.y[:1].to(data.x.device), data.x)
    description = model.description
    gated = {group.name for group in description.groups if group.gated}
    leaders = {group: description.leader_of(group.name) for group in description.groups}
    layers = {group: leader for group, leader in leaders.items() if leader in gated}
    # The scales of nodes that are closed for good may follow their prior: nobody asks what they are.
    present = {
        group.path: (guide.inclusion_logits(leader) > CLOSED_LOGIT).to(data.x)
        for group, leader in layers.items()
    }
    other = {site for g in layers for site in (g.gate_site, g.weight_site)}
    with PresentScales(present, other):
        each = [sum(elbo.terms(model, guide, data.x[:1], y).kl.values()) for _ in range(_KL_DRAWS)]
    values = torch.stack(each).double()  # type: ignore[arg-type]
    return float(values.mean()), float(values.var()) / _KL_DRAWS
