"""Exact draws for ArviZ, with real chains, and a table of how well they mixed.

Unlike draws from a guide these are Markov chains: R-hat and effective sample sizes mean what they say. They are given
for what the posterior identifies: nodes of one layer may be relabelled at will, so that the inclusion probability or
the weights of a single hidden node mix badly where everything else mixes well.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from torch import Tensor

from pyro_ssbnn._version import __version__
from pyro_ssbnn.analysis.arrays import array, dataset, prediction_groups, prior_array
from pyro_ssbnn.analysis.coordinates import coordinates, node_dim, owner, weight_dims
from pyro_ssbnn.analysis.netcdf import ArviZData, assemble
from pyro_ssbnn.errors import DataError
from pyro_ssbnn.exact import ExactPosterior, effective_size, r_hat, standard_error
from pyro_ssbnn.posterior.weights import effective_weights

__all__ = ["exact_summary", "exact_to_arviz"]

ATTRIBUTES = {
    "inference_library": "pyro_ssbnn",
    "inference_library_version": __version__,
    "creation_library": "pyro_ssbnn",
    "inference": "exact: gates enumerated, tempered Hamiltonian Monte Carlo",
    "note": "Nodes of one layer are exchangeable: look at their number, not at single ones.",
}


def exact_summary(posterior: ExactPosterior) -> pd.DataFrame:
    """One row for each identifiable quantity of an exact posterior.

    Rows: ``log_joint`` and ``log_likelihood``; ``{group}.size``, the number of open gates; each gated predictor's
    inclusion, by its name; network-wide latents; ``mean``, the predictive mean at the row of x where it mixes worst.
    Columns: ``mean``, ``sd``, ``error`` (Monte-Carlo standard error of the mean), ``ess_bulk``, ``ess_tail``,
    ``r_hat``. Gates enter by their probabilities given the draw, which vary less than sampled gates.
    """
    quantities: dict[str, Tensor] = {
        "log_joint": posterior.log_joint,
        "log_likelihood": posterior.log_likelihood,
    }
    description = posterior.model.description
    for group in posterior.structures.groups:
        open_gates = posterior.gate_probability(group.name)
        quantities[f"{group.name}.size"] = open_gates.sum(-1)
        if group is description.inputs:
            quantities |= dict(zip(description.inputs.names, open_gates.unbind(-1), strict=True))
    for name, value in posterior.latents.items():
        if owner(description, name) is None:
            entries = value.unsqueeze(-1) if value.ndim == 2 else value
            labels = [name] if value.ndim == 2 else [f"{name}[{k}]" for k in range(value.shape[2])]
            quantities |= dict(zip(labels, entries.unbind(-1), strict=True))
    fitted = posterior.predict(posterior.x).mean.flatten(2)
    quantities["mean"] = fitted[..., int(np.nan_to_num(r_hat(fitted)).argmax())]
    rows = {name: _row(draws) for name, draws in quantities.items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def _row(draws: Tensor) -> dict[str, float]:
    return {
        "mean": float(draws.double().mean()),
        "sd": float(draws.double().std()),
        "error": float(standard_error(draws)),
        "ess_bulk": float(effective_size(draws, "bulk")),
        "ess_tail": float(effective_size(draws, "tail")),
        "r_hat": float(r_hat(draws)),
    }


def exact_to_arviz(
    posterior: ExactPosterior,
    *,
    x: Tensor | None = None,
    y: Tensor | None = None,
    weights: bool = False,
    seed: int = 0,
) -> ArviZData:
    """Turn an exact posterior into ArviZ's container, with dimensions (chain, draw).

    Groups and names are those of :func:`~pyro_ssbnn.analysis.to_arviz`, and ``{group}.gate_probability``, the
    probability of an open gate given the draw, beside the sampled ``{group}.gate``.

    :param x: predictors ``[N, p]`` to predict at.
    :param y: targets observed there.
    :param weights: keep the effective weights w = z t u.
    :param seed: of the predictive draws.
    :returns: ``InferenceData`` with ArviZ 0.x, ``DataTree`` with ArviZ 1.x.
    :raises DataError: for y without x.
    """
    if y is not None and x is None:
        raise DataError("exact_to_arviz: y is given without x; give the predictors it belongs to.")
    description = posterior.model.description
    coords = coordinates(description, list(description.inputs.names))
    stats = {"lp": posterior.log_joint, "log_likelihood": posterior.log_likelihood}
    groups = {
        "posterior": dataset(_posterior(posterior, weights), coords),
        "sample_stats": dataset({name: array(value, []) for name, value in stats.items()}, {}),
        "constant_data": dataset(_inclusion(posterior), coords),
    }
    if x is not None:
        predictions = posterior.predict(x, y, seed=seed)
        groups |= prediction_groups(predictions.predictive, predictions.log_likelihood, y)
    groups["posterior"].attrs |= ATTRIBUTES
    return assemble({k: v for k, v in groups.items() if v.data_vars}, ATTRIBUTES)


def _posterior(posterior: ExactPosterior, weights: bool) -> dict[str, xr.DataArray]:
    description = posterior.model.description
    bulky = {layer.weight_site for layer in description.groups}
    arrays = {}
    for name, value in {**posterior.latents, **posterior.gates}.items():
        if name in bulky:
            continue
        group = owner(description, name)
        trailing = ["target"] if value.ndim > 2 else []
        dims = trailing if group is None else [node_dim(description, group)]
        arrays[name] = array(value, dims, gate=name.endswith(".gate"))
    for group in posterior.structures.groups:
        probability = posterior.gate_probability(group.name)
        arrays[f"{group.path}.gate_probability"] = array(
            probability, [node_dim(description, group)]
        )
    if weights:
        nodes = description.paths
        values = {
            k: v if k.rpartition(".")[0] in nodes or v.ndim > 2 else v.unsqueeze(-1)
            for k, v in {**posterior.latents, **posterior.gates}.items()
        }
        for name, value in effective_weights(description, values).items():
            layer = description.layer(name)
            arrays[layer.weight_site] = array(value, weight_dims(description, layer))
    return arrays


def _inclusion(posterior: ExactPosterior) -> dict[str, xr.DataArray]:
    arrays = {}
    errors = posterior.inclusion_error()
    for group in posterior.structures.groups:
        dims = [node_dim(posterior.model.description, group)]
        inclusion = posterior.inclusion()[group.name].numpy()
        arrays[f"{group.path}.inclusion"] = xr.DataArray(inclusion, dims=dims)
        arrays[f"{group.path}.inclusion_error"] = xr.DataArray(
            errors[group.name].numpy(), dims=dims
        )
        arrays[f"{group.path}.prior_inclusion"] = prior_array(group, dims)
    return arrays
