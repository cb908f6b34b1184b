r"""Could another predictor stand in for one that was selected?

Where gates are independent under the guide, it settles on one of several predictors that say the same, and is as sure
of it as of any other. Of a perceptron with hidden layers the joint law of the predictors
(:func:`~pyro_ssbnn.predictor_law`) says how sure the data are.

Of other networks, and of one that has left too many weights open, both branches of a swap are looked at. For a
predictor j that is in and a rival k that is not, x_j is put in terms of x_k by least squares, which is to give k the
weights of j,

.. math:: \Delta_{jk} = E_q[\log p(y \mid x_j \to \hat x_j(x_k))] - E_q[\log p(y \mid x)].

With equal prior odds :math:`\Delta` bounds the log-odds of k in place of j from below, but for the prior of the
weights' scale: the rival's weights are not adapted to it. Above :math:`-\log 19` it is told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_ssbnn.analysis.diagnostics.report import Check
from pyro_ssbnn.analysis.predictor_law import has_predictor_law, in_reasonable_time, weighed
from pyro_ssbnn.analysis.scales import predictor_inclusion
from pyro_ssbnn.errors import DataError
from pyro_ssbnn.inference import Fit
from pyro_ssbnn.inference.correlated_blocks import correlations
from pyro_ssbnn.isolation import isolated
from pyro_ssbnn.posterior.draws import evaluating, site_values, trace_draws
from pyro_ssbnn.posterior.networks import log_likelihood, outputs

__all__ = ["check_rivals"]

_DRAWS, _ROWS = 64, 2_000
_CORRELATED = 0.5  # least absolute correlation of a rival
_EACH, _MOST = 5, 60  # rivals of one predictor, and pairs in all
_TOLD = -math.log(19)
_SHOWN = 4
_CHANGE = 0.2  # of an inclusion probability


def check_rivals(result: Fit, x: Tensor, y: Tensor, *, seed: int = 0) -> Check:
    """Warns of predictors in whose place another would do as well; not where the guide's gates have a joint law."""
    name = "rival predictors"
    inputs = result.model.description.inputs
    if not inputs.gated or inputs.name in getattr(result.guide, "coupled", ()):
        return Check(name, "ok", "No predictor was chosen on its own among others.")
    if has_predictor_law(result.model) and in_reasonable_time(result, len(x)):
        return _weighed(name, result, x, y, seed)
    pairs = _pairs(result, x)
    if not pairs:
        return Check(name, "ok", "No predictor that is in correlates with one that is not.")
    odds = _log_odds(result, x, y, pairs, seed)
    told = sorted((-found, pair) for pair, found in odds.items() if found > _TOLD)
    values = {
        "pairs": [
            {"in": inputs.names[j], "rival": inputs.names[k], "log_odds": found}
            for (j, k), found in odds.items()
        ]
    }
    if not told:
        finding = f"None of {len(pairs)} rivals could stand in for a predictor that is in."
        return Check(name, "ok", finding, values=values)
    words = [
        f"{inputs.names[k]} for {inputs.names[j]} (log-odds {-cost:+.1f})"
        for cost, (j, k) in told[:_SHOWN]
    ]
    more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return Check(
        name,
        "warning",
        f"The data would be as likely with another predictor: {', '.join(words)}{more}. Gates are independent under"
        " this guide, so that the inclusion of each alone is the fit's choice.",
        "Quote such predictors together (pyro_ssbnn.set_inclusion), or the exact answer (pyro_ssbnn.certify).",
        values,
    )


def _weighed(name: str, result: Fit, x: Tensor, y: Tensor, seed: int) -> Check:
    """The check by the joint law of a perceptron's predictors."""
    try:
        law = weighed(result, x, y, seed=seed)
    except DataError as error:
        return Check(name, "warning", str(error), "Standardise predictors and targets.")
    table = law.summary()
    change = table["inclusion"] - table["fitted"]
    values = {"joint": table["inclusion"].to_dict(), "guide": table["fitted"].to_dict()}
    order = change.abs().sort_values(ascending=False, kind="stable").index
    told = [one for one in order if abs(change[one]) > _CHANGE]
    if not told:
        finding = (
            f"Weighed jointly, no predictor's inclusion is more than {_CHANGE:g} from the guide's."
        )
        return Check(name, "ok", finding, values=values)
    words = [
        f"{one} {table.loc[one, 'fitted']:.2f} -> {table.loc[one, 'inclusion']:.2f}"
        for one in told[:_SHOWN]
    ]
    more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
    return Check(
        name,
        "warning",
        f"Weighed jointly, predictors are in with other probabilities than under the guide, whose gates are"
        f" independent: {', '.join(words)}{more}.",
        "Quote the joint law (pyro_ssbnn.predictor_law), and its credible sets where several could stand in for each"
        " other.",
        values,
    )


def _pairs(result: Fit, x: Tensor) -> list[tuple[int, int]]:
    """Predictors that are in, each with its strongest rivals that are not."""
    gamma = torch.from_numpy(predictor_inclusion(result.guide))
    correlation = correlations(x.cpu(), result.model.description.inputs.columns)
    correlation[:, gamma > 0.5] = 0.0
    found = []
    for j in (gamma > 0.5).nonzero().flatten().tolist():
        strongest = correlation[j].topk(min(_EACH, len(gamma)))
        rivals = zip(strongest.values.tolist(), strongest.indices.tolist(), strict=True)
        found += [(r, j, k) for r, k in rivals if r >= _CORRELATED]
    return [(j, k) for _, j, k in sorted(found, reverse=True)[:_MOST]]


def _log_odds(
    result: Fit, x: Tensor, y: Tensor, pairs: list[tuple[int, int]], seed: int
) -> dict[tuple[int, int], float]:
    """What a swap adds to the expected log-likelihood of all rows, by pair."""
    model, guide = result.model, result.guide
    like = next(guide.parameters())
    owners = model.description.inputs.columns.owners
    found = {}
    with isolated(seed, like), torch.no_grad(), evaluating(model, guide):
        rows = torch.randperm(len(x))[:_ROWS]
        part, targets = x[rows.to(x.device)].to(like), y[rows.to(y.device)]
        values = site_values(trace_draws(guide, _DRAWS))
        as_it_is = _expected(result, values, part, targets)
        for j, k in pairs:
            swapped, places = part.clone(), (owners == j).nonzero().flatten().to(part.device)
            rival = part[:, (owners == k).to(part.device)]
            design = torch.cat([rival, torch.ones_like(rival[:, :1])], 1).double().cpu()
            target = part[:, places].double().cpu()
            explained = design @ torch.linalg.lstsq(design, target).solution
            swapped[:, places] = explained.to(part)
            change = _expected(result, values, swapped, targets) - as_it_is
            found[j, k] = change * result.num_data / len(rows)
    return found


def _expected(result: Fit, values: Mapping[str, Tensor], x: Tensor, y: Tensor) -> float:
    """Log-likelihood of these rows, averaged over draws."""
    f = outputs(result.model, values, x)
    return float(log_likelihood(result.model, values, f, y).mean())
