"""The two functions of ArviZ that only the diagnostics lean on, under both of its major versions.

========================= ================================ ==========================
here                      ArviZ 0.x                        ArviZ 1.x
========================= ================================ ==========================
:func:`leave_one_out`     ``loo``                          ``loo``, ``loo_approximate_posterior``
:func:`power_scaling`     ``psens``                        ``psense``
========================= ================================ ==========================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pyro_ssbnn.analysis.netcdf import assemble
from pyro_ssbnn.posterior.importance import ARVIZ_MAJOR, quiet_arviz, smoothed_weights

__all__ = ["LeaveOneOut", "leave_one_out", "power_scaling"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LeaveOneOut:
    """PSIS leave-one-out cross-validation.

    :param elpd: expected log predictive density of new rows, summed over the rows, nats.
    :param error: its standard error.
    :param p_loo: effective number of parameters.
    :param pareto_k: k-hat of each row, ``[N]``.
    :param corrected: whether the draws were also reweighted from the guide to the posterior.
    """

    elpd: float
    error: float
    p_loo: float
    pareto_k: Array
    corrected: bool


def leave_one_out(
    log_likelihood: Array, log_p: Array | None = None, log_q: Array | None = None
) -> LeaveOneOut:
    """Leave-one-out cross-validation of draws, by ArviZ.

    :param log_likelihood: ``[S, N]``.
    :param log_p: log joint density of the draws, ``[S]``; with ``log_q`` and ArviZ 1.x the draws are also reweighted
        from the guide to the posterior (Magnusson et al. 2019). ArviZ 0.x cannot, and leaves the draws as they are.
    :param log_q: their log density under the guide.
    """
    draws, rows = log_likelihood.shape
    values = xr.DataArray(log_likelihood[None].astype(np.float64), dims=["chain", "draw", "obs_id"])
    placeholder = xr.DataArray(np.zeros((1, draws)), dims=["chain", "draw"])
    data = assemble(
        {
            "posterior": _indexed(xr.Dataset({"draw_index": placeholder})),
            "log_likelihood": _indexed(xr.Dataset({"obs": values})),
        },
        {},
    )
    corrected = ARVIZ_MAJOR >= 1 and log_p is not None and log_q is not None
    with quiet_arviz() as arviz:
        if corrected:
            found = arviz.loo_approximate_posterior(data, log_p, log_q, pointwise=True)
        elif ARVIZ_MAJOR >= 1:
            weights, k = smoothed_weights(-log_likelihood.T)
            found = arviz.loo(
                data,
                pointwise=True,
                log_weights=values.copy(data=weights.T[None]),
                pareto_k=values[0, 0].copy(data=k),
            )
        else:
            found = arviz.loo(data, pointwise=True, reff=1.0, scale="log")
    if ARVIZ_MAJOR >= 1:
        total, p_loo = found.elpd, found.p
    else:
        total, p_loo = found.elpd_loo, found.p_loo
    k = np.asarray(found.pareto_k, dtype=np.float64).reshape(rows)
    return LeaveOneOut(float(total), float(found.se), float(p_loo), k, corrected)


def power_scaling(quantities: Mapping[str, Array], log_prior: Array) -> dict[str, float]:
    r"""Sensitivity of quantities to powers of the prior (Kallioinen et al. 2024), by ArviZ.

    The derivative of the distance between the distributions under :math:`p(\theta)^\alpha` and :math:`p(\theta)` by
    :math:`\log_2\alpha` at :math:`\alpha = 1`; the distance is the root of the normalised cumulative Jensen-Shannon
    divergence. Above 0.05 the authors call a prior informative.

    :param quantities: draws ``[S]`` of each quantity.
    :param log_prior: log prior density of the same draws, ``[S]``.
    :returns: one number a quantity; 0 for one that does not vary.
    """
    varying = {k: np.asarray(v, np.float64) for k, v in quantities.items() if np.ptp(v) > 0}
    found = dict.fromkeys(quantities, 0.0)
    if not varying or np.ptp(log_prior) == 0:
        return found
    as_draws = {k: (("chain", "draw"), v[None]) for k, v in varying.items()}
    prior = {"log_prior": (("chain", "draw"), np.asarray(log_prior, np.float64)[None])}
    data = assemble(
        {"posterior": _indexed(xr.Dataset(as_draws)), "log_prior": _indexed(xr.Dataset(prior))}, {}
    )
    with quiet_arviz() as arviz:
        result = arviz.psense(data) if ARVIZ_MAJOR >= 1 else arviz.psens(data, component="prior")
    return found | {name: float(result[name]) for name in varying}


def _indexed(data: xr.Dataset) -> xr.Dataset:
    return data.assign_coords({str(d): np.arange(n) for d, n in data.sizes.items()})
