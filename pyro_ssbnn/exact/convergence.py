r"""Effective sample sizes, Monte-Carlo errors and R-hat of chains of draws, by ArviZ.

All take draws ``[chains, draws, ...]`` and return one number for each entry of the trailing dimensions. Rank-normalised
R-hat and bulk and tail sizes are those of Vehtari et al. (2021); the error of a mean is sd / sqrt(ESS of the mean).
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from pyro_ssbnn.isolation import python_random_kept

__all__ = ["effective_size", "r_hat", "standard_error"]

Draws = Tensor | NDArray[Any]


def effective_size(
    draws: Draws, method: Literal["mean", "bulk", "tail"] = "bulk"
) -> NDArray[np.float64]:
    """Effective number of draws; the number of draws itself where all are equal.

    :param method: for the ``mean``, for the ``bulk`` (of ranks), or the smaller of the two 5 % ``tail`` quantiles'.
    """
    array = _columns(draws)
    sizes = np.full(array.shape[-1], float(array.shape[0] * array.shape[1]))
    varies = _varies(array)
    if varies.any():
        sizes[varies] = _of_dataset("ess", array[..., varies], method=method)
    return sizes.reshape(draws.shape[2:])


def r_hat(draws: Draws) -> NDArray[np.float64]:
    """Rank-normalised split R-hat; NaN for a single chain, and where all draws are equal."""
    array = _columns(draws)
    values = np.full(array.shape[-1], np.nan)
    varies = _varies(array)
    if len(array) > 1 and varies.any():
        values[varies] = _of_dataset("rhat", array[..., varies], method="rank")
    return values.reshape(draws.shape[2:])


def standard_error(draws: Draws) -> NDArray[np.float64]:
    """Monte-Carlo standard error of the draws' mean; 0 where all draws are equal."""
    array = _columns(draws)
    spread = array.reshape(-1, array.shape[-1]).std(0, ddof=1).reshape(draws.shape[2:])
    error: NDArray[np.float64] = spread / np.sqrt(effective_size(draws, "mean"))
    return error


def _columns(draws: Draws) -> NDArray[np.float64]:
    """Draws as ``[chains, draws, entries]`` in double precision."""
    array = draws.detach().cpu().numpy() if isinstance(draws, Tensor) else draws
    return np.asarray(array, dtype=np.float64).reshape(*array.shape[:2], -1)


def _varies(array: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Columns that hold more than one value, rounding apart."""
    flat = array.reshape(-1, array.shape[-1])
    size = np.abs(flat).max(0)
    varies: NDArray[np.bool_] = np.ptp(flat, 0) > 1e-14 * np.maximum(size, 1e-300)
    return varies


def _of_dataset(function: str, array: NDArray[np.float64], **options: Any) -> NDArray[np.float64]:
    # A data set with named dimensions is the one form that ArviZ 0.x and 1.x both take.
    data = xr.Dataset({"value": (("chain", "draw", "entry"), array)})
    with (
        python_random_kept(),
        warnings.catch_warnings(),
    ):  # ArviZ 0.x announces ArviZ 1 once a day, on import
        warnings.filterwarnings("ignore", r"\s*ArviZ is undergoing", FutureWarning)
        import arviz
    module: Any = arviz
    result: NDArray[np.float64] = np.asarray(getattr(module, function)(data, **options)["value"])
    return result
