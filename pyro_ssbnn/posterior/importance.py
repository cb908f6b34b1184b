"""Pareto-smoothed importance sampling by ArviZ, and what it says of rows left out.

========================= ================================ ==========================
here                      ArviZ 0.x                        ArviZ 1.x
========================= ================================ ==========================
:func:`smoothed_weights`  ``psislw``                       ``DataArray.azstats.psislw``
========================= ================================ ==========================
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_ssbnn.isolation import python_random_kept

__all__ = ["ARVIZ_MAJOR", "good_k", "leave_one_out_density", "quiet_arviz", "smoothed_weights"]

Array = NDArray[np.float64]

ARVIZ_MAJOR = int(version("arviz").split(".")[0])


def good_k(num_draws: int) -> float:
    """Largest k-hat at which S draws give reliable estimates, ``min(1 - 1 / log10(S), 0.7)`` (Vehtari et al. 2024)."""
    return min(1 - 1 / np.log10(num_draws), 0.7)


def smoothed_weights(log_ratios: Array) -> tuple[Array, Array]:
    """Pareto-smoothed importance weights (Vehtari et al. 2024).

    :param log_ratios: ``[..., S]``, up to a constant.
    :returns: normalised log weights ``[..., S]`` and k-hat ``[...]``. Where the largest ratios are all equal there is
        no tail to smooth: the weights are left as they are, and k-hat is 0.
    """
    ratios = np.asarray(log_ratios, dtype=np.float64)
    flat = ratios.reshape(-1, ratios.shape[-1])
    tail = math.ceil(min(flat.shape[1] / 5, 3 * math.sqrt(flat.shape[1])))
    varies = np.ptp(np.sort(flat, axis=1)[:, -tail:], axis=1) > 0
    weights, k = flat.copy(), np.zeros(len(flat))
    if varies.any():
        with quiet_arviz() as arviz:
            if ARVIZ_MAJOR >= 1:
                import xarray as xr

                # azstats.psislw takes the log-likelihood, the negative of leave-one-out's log ratios
                array = xr.DataArray(-flat[varies], dims=["row", "sample"])
                found = array.azstats.psislw(dim="sample")
                weights[varies], k[varies] = found[0].transpose("row", "sample"), found[1]
            else:
                weights[varies], k[varies] = arviz.psislw(flat[varies])
    weights -= np.logaddexp.reduce(weights, axis=1, keepdims=True)
    return weights.reshape(ratios.shape), k.reshape(ratios.shape[:-1])


def leave_one_out_density(log_likelihood: Array) -> tuple[Array, Array]:
    r"""Log density of each row under draws fitted without it (Vehtari, Gelman and Gabry 2017).

    .. math:: \log p(y_i \mid y_{-i}) \approx \log\textstyle\sum_s v_{is}\, p(y_i \mid \theta_s),\qquad
              v_{is} \propto 1 / p(y_i \mid \theta_s)\ \text{smoothed}

    :param log_likelihood: ``[S, N]``.
    :returns: log densities ``[N]``, and k-hat of each row.
    """
    scores = np.asarray(log_likelihood, dtype=np.float64).T
    weights, k = smoothed_weights(-scores)
    return np.logaddexp.reduce(weights + scores, axis=1), k


@contextmanager
def quiet_arviz() -> Iterator[Any]:
    """The module, with its remarks on high k-hats silenced: they are what the checks report."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*ArviZ is undergoing", FutureWarning)
        warnings.filterwarnings("ignore", "Estimated shape parameter", UserWarning)
        with python_random_kept():
            import arviz

        yield arviz
