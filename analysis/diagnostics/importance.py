r"""How far the guide is from the posterior: Pareto k-hat of the importance ratios, and leave-one-out.

The ratios are :math:`r_s = p(y, \theta_s) / q(\theta_s)` over all latents, k-hat the shape of the Pareto distribution
fitted to their largest values (Yao et al. 2018; Vehtari et al. 2024). With hundreds of weights even a guide that is a
little too narrow in each of them has ratios of very heavy tails: the log ratio's spread grows with the root of the
number of latents. A k-hat above 0.7 is therefore what every mean-field guide of a neural network shows, good or bad. It
says that importance weights cannot repair these draws, not that the predictions are wrong; the checks of predictions
say that. It is information, never a warning.

Leave-one-out has a k-hat a row, of the ratios :math:`1/p(y_i | \theta_s)`. A mean-field guide opens and closes its
gates independently, so that some draws hold half a function and fit some rows badly; the ratios of these rows are
heavy-tailed, in good fits too (``benchmarks/diagnostics.py`` shows shares of 16 to 97 %). So the share of high k-hats
tells whether LOO can be read, not whether the fit is good: a note.
"""

from __future__ import annotations

import numpy as np

from pyro_ssbnn.analysis.diagnostics.arviz_functions import leave_one_out
from pyro_ssbnn.analysis.diagnostics.evidence import Evidence
from pyro_ssbnn.analysis.diagnostics.report import Check
from pyro_ssbnn.posterior.importance import good_k, smoothed_weights

__all__ = ["check_importance", "check_leave_one_out"]


def check_importance(evidence: Evidence) -> Check:
    """PSIS k-hat of log p(y, latents) - log q(latents), for draws that score all rows fitted to."""
    if not evidence.whole:
        return Check(
            "importance ratios",
            "ok",
            "Not computed: the draws were scored on a part of the rows only.",
        )
    ratios = _log_ratios(evidence)
    k = float(smoothed_weights(ratios)[1])
    limit = good_k(len(ratios))
    values = {"k_hat": k, "good_k": limit, "sd_log_ratio": float(ratios.std(ddof=1))}
    if k <= limit:
        return Check(
            "importance ratios",
            "ok",
            f"k-hat is {k:.2f}, below {limit:.2f}: importance weights can correct the guide's draws.",
            values=values,
        )
    return Check(
        "importance ratios",
        "note",
        f"k-hat is {k:.2f}, above {limit:.2f}: importance weights cannot correct the guide's draws. That is the rule"
        " for mean-field guides of networks and no sign of a bad fit.",
        "Do not reweight these draws; judge the fit by its predictions and by restarts.",
        values,
    )


def check_leave_one_out(evidence: Evidence) -> Check:
    """Expected log predictive density by leave-one-out, and the share of rows for which it cannot be had."""
    if evidence.held_out:
        score = np.logaddexp.reduce(evidence.log_likelihood, axis=0)
        per_row = float((score - np.log(len(evidence.log_likelihood))).mean())
        return Check(
            "leave-one-out",
            "ok",
            f"Not needed: held-out rows were given; their log predictive density is {per_row:.3f} nats per row.",
            values={"elpd_per_row": per_row},
        )
    log_p = log_q = None
    limit = good_k(len(evidence.log_likelihood))
    if evidence.whole:
        ratios = _log_ratios(evidence)
        if float(smoothed_weights(ratios)[1]) <= limit:  # else the correction is noise
            log_q = evidence.draws.log_q.numpy()
            log_p = ratios + log_q
    found = leave_one_out(evidence.log_likelihood, log_p, log_q)
    rows = len(found.pareto_k)
    share = float((found.pareto_k > limit).mean())
    values = {
        "elpd_per_row": found.elpd / rows,
        "error_per_row": found.error / rows,
        "p_loo": found.p_loo,
        "share_above": share,
        "good_k": limit,
        "largest_k": float(found.pareto_k.max()),
        "corrected_to_posterior": found.corrected,
    }
    whose = "the posterior" if found.corrected else "the variational posterior, as it is"
    said = (
        f"LOO of {whose}: {values['elpd_per_row']:.3f} ± {values['error_per_row']:.3f} nats per row, {found.p_loo:.0f}"
        f" effective parameters; k-hat exceeds {limit:.2f} at {100 * share:.1f} % of {rows} rows"
    )
    if share == 0:
        return Check("leave-one-out", "ok", f"{said}.", values=values)
    return Check(
        "leave-one-out",
        "note",
        f"{said}: there the estimate is unreliable, as a rule too bad.",
        "Compare models on held-out rows instead.",
        values,
    )


def _log_ratios(evidence: Evidence) -> np.ndarray:
    draws = evidence.draws
    log_prior, log_q = draws.log_prior.double().numpy(), draws.log_q.double().numpy()
    ratios: np.ndarray = log_prior + evidence.log_likelihood.sum(1) - log_q
    return ratios
