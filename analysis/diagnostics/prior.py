r"""How much the answer hangs on the prior: the odds of inclusion, and the scale of the rest.

**Inclusion.** Multiply the prior odds of one gate by c: under the exact posterior its posterior odds are multiplied by
c, no more and no less, since :math:`\mathrm{logit}\,P(z_j = 1|y) = \log BF_j + \mathrm{logit}\,\lambda_j`. If all
gates' odds are multiplied at once, the draws' weights are :math:`c^{\sum_j z_j}`, and under a guide of independent
gates the answer is the same: every logit moves by log c. It is exact for the guide's own coordinate update with the
rest of the guide held fixed; what a new fit would change in weights and other gates is left out. No importance
sampling is needed.

**The rest** (slabs, scales, noise) is scaled by powers, :math:`p(\theta)^\alpha`, by ArviZ (see
:func:`~pyro_ssbnn.analysis.diagnostics.arviz_functions.power_scaling`). For :math:`u \sim N(0, \sigma_0^2)` the
normalised power is :math:`N(0, \sigma_0^2/\alpha)`, so that weights enter by

.. math:: \left.\frac{d}{d\alpha} \log \frac{N(u; 0, \sigma_0^2/\alpha)}{N(u; 0, \sigma_0^2)}\right|_{\alpha=1}
          = \frac12 - \frac{u^2}{2\sigma_0^2}

and a *closed* weight, which follows the prior, by the mean of that, zero: it adds nothing but noise and is left out.
The draws are the guide's, taken for the posterior's: what is measured is the sensitivity of the variational answer's
own density, to first order, not that of a new fit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from pyro_ssbnn.analysis.diagnostics.arviz_functions import power_scaling
from pyro_ssbnn.analysis.diagnostics.report import Check
from pyro_ssbnn.analysis.scales import gate_logits
from pyro_ssbnn.display import plain
from pyro_ssbnn.guides import CLOSED_LOGIT
from pyro_ssbnn.inference import Fit
from pyro_ssbnn.posterior.draws import draw_traces, site_values
from pyro_ssbnn.posterior.networks import outputs

__all__ = ["check_power_scaling", "check_prior_odds", "power_scaled_draws"]

Array = NDArray[np.float64]

_INFORMATIVE = 0.05  # Kallioinen et al. 2024
_FACTOR = 2.0
_ROWS = 50


def check_prior_odds(result: Fit) -> Check:
    """Selections that change when all prior odds of inclusion are halved or doubled, and the first that would."""
    flips, nearest = [], (math.inf, "")
    for group in result.guide.description.gate_groups:
        logits = gate_logits(result.guide, group.name)
        names = result.guide.description.member_names(group.name)
        for name, logit in zip(names, logits, strict=True):
            if logit == CLOSED_LOGIT:
                continue  # removed during training: the guide excludes it
            factor = math.exp(min(abs(logit), 50.0))
            nearest = min(nearest, (factor, name))
            if factor < _FACTOR:
                flips.append(f"{name} ({1 / (1 + math.exp(-logit)):.2f})")
    values = {
        "factor": _FACTOR,
        "changed": flips,
        "nearest": nearest[1],
        "nearest_factor": nearest[0],
    }
    if not nearest[1]:
        return Check("prior odds", "ok", "This network has no gates that could change.")
    if flips:
        return Check(
            "prior odds",
            "note",
            f"Prior odds of inclusion twice or half as large select otherwise for {', '.join(flips[:5])}"
            f"{f' and {len(flips) - 5} more' if len(flips) > 5 else ''}.",
            "Their inclusion rests on the prior as much as on the data: say which prior was used.",
            values,
        )
    return Check(
        "prior odds",
        "ok",
        f"No selection changes when the prior odds are halved or doubled; the first, {nearest[1]}, would at a factor of"
        f" {plain(nearest[0], 3)}.",
        values=values,
    )


def power_scaled_draws(
    result: Fit, x: Tensor, *, num_draws: int, seed: int
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Draws of identifiable quantities, and the log prior densities whose powers are taken.

    :param x: predictors of the rows to predict at, ``[N, p]``.
    :returns: quantities ``[S]``: ``mean[i]`` at the rows, ``{layer}.open``, the number of open gates, network-wide
        latents and the noise; and log priors ``[S]``: ``gates``, ``weights``, ``scales``, ``noise`` (those there are).
    """
    with torch.no_grad():
        traces = draw_traces(result.model, result.guide, num_draws, seed)
        parts = [_chunk(result, x, *pair) for pair in traces]
    quantities, priors = (
        {name: np.concatenate([part[i][name] for part in parts]) for name in parts[0][i]}
        for i in range(2)
    )
    return quantities, priors


def _chunk(
    result: Fit, x: Tensor, drawn: Trace, replayed: Trace
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Quantities and log priors of the draws of two traces, of the guide and of the model."""
    model, guide = result.model, result.guide
    values = site_values(drawn)
    num_draws = len(next(iter(values.values())))
    noise = [model.description.site(name) for name in model.likelihood.latent_names]
    model_sites: dict[str, Any] = {**replayed.nodes}
    guide_sites: dict[str, Any] = {**drawn.nodes}
    priors: dict[str, Array] = {}
    for name in values:
        site = model_sites[name]
        part = name.rpartition(".")[2]
        if part == "weight":
            open_weights = guide_sites[name]["fn"].open
            scaled = values[name] / site["fn"].scale.unsqueeze(-1)
            score = (0.5 - scaled.square() / 2) * open_weights
        else:
            score = site["fn"].log_prob(values[name])
        kind = {"gate": "gates", "weight": "weights"}.get(part, "scales")
        kind = "noise" if name in noise else kind
        total = score.double().reshape(num_draws, -1).sum(-1).cpu().numpy()
        priors[kind] = priors.get(kind, 0.0) + total
    f = outputs(model, values, x)
    latents = model.likelihood.latents_of(values, model.description.prefix)
    latents = {name: value.cpu() for name, value in latents.items()}
    mean = model.likelihood.mean(f, latents).double().reshape(num_draws, -1).numpy()
    quantities = {f"mean[{i}]": column for i, column in enumerate(mean.T)}
    groups = guide.description.paths
    for name, value in values.items():
        flat = value.double().cpu().reshape(num_draws, -1).numpy()
        if name.endswith(".gate"):
            quantities[f"{name.removesuffix('.gate')}.open"] = flat.sum(1)
        elif name.rpartition(".")[0] not in groups and flat.shape[1] == 1:
            quantities[name] = flat[:, 0]
    return quantities, priors


def check_power_scaling(result: Fit, x: Tensor, *, num_draws: int = 1000, seed: int = 0) -> Check:
    """Sensitivity of predictions, sizes and shared latents to powers of the prior of weights, scales and noise.

    :param x: predictors ``[N, p]``; the first 50 rows are predicted.
    """
    quantities, priors = power_scaled_draws(result, x[:_ROWS], num_draws=num_draws, seed=seed)
    rows = [name for name in quantities if name.startswith("mean[")]
    told, values = [], {}
    for kind, log_prior in priors.items():
        if kind == "gates":
            continue  # prior odds have an exact answer
        found = power_scaling(quantities, log_prior)
        largest = {"predictive mean (median row)": float(np.median([found[r] for r in rows]))}
        largest |= {name: s for name, s in found.items() if name not in rows}
        values[kind] = largest
        told += [
            f"{name} to that of the {kind} ({s:.2f})"
            for name, s in largest.items()
            if s > _INFORMATIVE
        ]
    if not told:
        return Check(
            "prior power",
            "ok",
            f"Powers of the prior move nothing by more than {_INFORMATIVE:g}.",
            values=values,
        )
    return Check(
        "prior power",
        "note",
        f"Sensitive to the prior (above {_INFORMATIVE:g}): {', '.join(told[:4])}"
        f"{f' and {len(told) - 4} more' if len(told) > 4 else ''}.",
        "State the prior; fit again with another scale where the conclusion rests on these.",
        values,
    )
