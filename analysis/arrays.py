"""Tensors as the arrays and data sets of ArviZ's groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from pyro_ssbnn.priors import BetaInclusion
from pyro_ssbnn.structure.gates import GateGroup

__all__ = ["array", "dataset", "prediction_groups", "prior_array"]


def prior_array(group: GateGroup, dims: list[str]) -> xr.DataArray:
    """Prior inclusion probability: one number, or one for each member where they differ."""
    attributes = {"long_name": "prior inclusion probability"}
    values = group.prior_inclusion.numpy()
    if isinstance(group.inclusion, tuple):
        return xr.DataArray(values, dims=dims, attrs=attributes)
    if isinstance(group.inclusion, BetaInclusion):
        attributes["note"] = f"mean of the {group.inclusion} prior that the members share"
    return xr.DataArray(values[0], attrs=attributes)


def prediction_groups(
    predictive: Tensor | None, log_likelihood: Tensor | None, y: Tensor | None
) -> dict[str, xr.Dataset]:
    """Groups of predictions ``[C, S, N]`` or ``[C, S, N, K]``, log-likelihood ``[C, S, N]``, and what was observed."""
    groups = {}
    if predictive is not None:
        groups["posterior_predictive"] = {"obs": array(predictive, ["obs_id", "target"])}
    if log_likelihood is not None:
        groups["log_likelihood"] = {"obs": array(log_likelihood, ["obs_id"])}
    if y is not None:
        dims = ["obs_id", "target"][: y.ndim]
        groups["observed_data"] = {"obs": xr.DataArray(_numpy(y), dims=dims)}
    return {name: dataset(arrays, {}) for name, arrays in groups.items()}


def array(value: Tensor, dims: list[str], gate: bool = False) -> xr.DataArray:
    """Chains of draws, ``[C, S, ...]``; gates become whole numbers, which ArviZ plots as such."""
    draws = _numpy(value)
    names = ["chain", "draw", *dims][: value.ndim]
    return xr.DataArray(draws.astype(np.int8) if gate else draws, dims=names)


def dataset(arrays: dict[str, xr.DataArray], coords: dict[str, list[str]]) -> xr.Dataset:
    """Data set with coordinates for all its dimensions: names where there are any, otherwise 0, 1, ..."""
    data = xr.Dataset(arrays)
    named = {
        str(dim): np.asarray(coords[dim]) if dim in coords else np.arange(size)
        for dim, size in data.sizes.items()
    }
    return data.assign_coords(named)


def _numpy(value: Tensor) -> NDArray[Any]:
    return torch.as_tensor(value).detach().cpu().numpy()
