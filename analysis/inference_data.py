r"""From a fitted guide to ArviZ: draws, exact inclusion probabilities, predictions, all named by layer and node.

========================= ============================================ =================================================
group                     variables                                    dimensions
========================= ============================================ =================================================
``posterior``             ``{layer}.gate`` (0 or 1) and its scale      (chain, draw, ``{layer}_node``), with names
                          latents; ``{layer}.slab_scale`` (t, a        ``hidden1[0]``, ...; predictors: ``predictor``
                          standard deviation) where t is not 1         with theirs
                          ``{layer}.weight`` (w = z t u) on request    (chain, draw, ``{layer}_node``,
                                                                       ``{layer}_incoming``), the last one ``bias``, or
                                                                       the last two ``scale`` and ``shift``
                          ``linear.gate``, ...: linear terms           (chain, draw, ``predictor``)
                          ``linear.weight`` on request                 (chain, draw, ``linear_column``,
                                                                       ``output_node``)
                          network-wide scales, ``noise.variance``      (chain, draw[, ``target``])
                          ``{layer}.inclusion_rate``, where members    (chain, draw)
                          share their inclusion probability
``constant_data``         ``{layer}.inclusion``: q(z = 1), exact;      (``{layer}_node``) or (``predictor``)
                          ``{layer}.inclusion_logit``
                          ``{layer}.credible_set``, where gates are    (``{layer}_node``) or (``predictor``)
                          dependent: number, from 1, of the set of
                          95 % that a member is in, 0 for none
                          ``{layer}.prior_inclusion``                  (), or a number for each predictor
``sample_stats``          ``log_prior`` and ``log_q`` of all latents;  (chain, draw)
                          ``lp``: ``log_prior``, plus the
                          log-likelihood of all rows when y is given
``posterior_predictive``  ``obs``, with x                              (chain, draw, ``obs_id``[, ``target``])
``log_likelihood``        ``obs``, with y                              (chain, draw, ``obs_id``)
``observed_data``         ``obs``, with y                              (``obs_id``[, ``target``])
========================= ============================================ =================================================

The draws of a mixture of fits are laid out as one chain too, each fit's share of them by its weight, so that what ArviZ
makes of them is the mixture's; ``member`` in ``sample_stats`` says whose each is. Nodes of different fits do not
correspond: variables of single nodes are draws of the mixture's law, and nothing to interpret. ``constant_data`` then
has the averaged inclusion of predictors, and ``weight`` of each member.

The draws are independent, so they are laid out as one chain; R-hat and effective sample sizes of them say nothing about
the fit. What does: the ELBO's history, agreement across restarts, and ``lp - log_q`` (importance ratios, PSIS k-hat).
Exact inclusion probabilities stand in ``constant_data``, a group that every ArviZ knows and every netCDF file keeps,
not beside the draws, because they are no draws: they are numbers of the fitted guide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from pyro_ssbnn._version import __version__
from pyro_ssbnn.analysis.arrays import array, dataset, prediction_groups, prior_array
from pyro_ssbnn.analysis.coordinates import coordinates, node_dim, owner, weight_dims
from pyro_ssbnn.analysis.inclusion import predictor_names
from pyro_ssbnn.analysis.netcdf import ArviZData, assemble
from pyro_ssbnn.analysis.scales import gate_logits, inclusion_probabilities
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.guides import MixtureGuide, named_groups
from pyro_ssbnn.posterior.draws import MOST_BYTES, PosteriorDraws, draw_posterior
from pyro_ssbnn.priors import BetaInclusion
from pyro_ssbnn.selection.joint import credible_sets
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.gates import GateGroup
from pyro_ssbnn.structure.groups import NodeGroup
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.match import require_match
from pyro_ssbnn.structure.network import Network

__all__ = ["to_arviz"]

ATTRIBUTES = {
    "inference_library": "pyro_ssbnn",
    "inference_library_version": __version__,
    "creation_library": "pyro_ssbnn",
    "inference": "mean-field variational",
    "note": (
        "Independent draws from a variational guide, laid out as one chain: R-hat and effective sample size of them"
        " mean nothing. Inclusion probabilities are exact in constant_data; the gates in posterior are draws from them."
    ),
}


def to_arviz(
    model: Network,
    guide: Guide | MixtureGuide,
    draws: PosteriorDraws | None = None,
    *,
    num_draws: int = 200,
    x: Tensor | None = None,
    y: Tensor | None = None,
    weights: bool = False,
    seed: int = 0,
    feature_names: Sequence[str] | None = None,
    most_bytes: int = MOST_BYTES,
) -> ArviZData:
    """Turn a fitted network into ArviZ's container (see the module for its groups).

    ArviZ keeps every draw at every row: S N numbers in each of ``posterior_predictive`` and ``log_likelihood`` (while
    they are made, as many again for each output of the network). What would take more than ``most_bytes`` is refused;
    2,000 random rows serve most checks of a model, and :func:`~pyro_ssbnn.predict` scores all rows.

    :param model: the network, ``result.model`` of a fit.
    :param guide: its guide, ``result.guide``; of a :class:`~pyro_ssbnn.Mixture`, too.
    :param draws: draws already made by :func:`~pyro_ssbnn.draw_posterior`; by default they are made here.
    :param num_draws: S, number of draws to make.
    :param x: predictors ``[N, p]`` to predict at.
    :param y: targets ``[N]`` (``[N, K]``) observed there; with ``draws``, those that their log-likelihood belongs to.
    :param weights: keep the effective weights, S times the size of the network.
    :param seed: of the draws; the caller's random state is left untouched.
    :param feature_names: one name per predictor in place of the network's own.
    :param most_bytes: bytes that the draws may take, 2 GiB by default.
    :returns: ``InferenceData`` with ArviZ 0.x, ``DataTree`` with ArviZ 1.x.
    :raises ConfigurationError: when ``draws`` come with x, or without the weights asked for; for miscounted names; for
        a guide or draws of another network; for more draws at more rows than ``most_bytes`` holds.
    :raises DataError: for y without x, or y that does not match the draws.

    >>> from pyro_ssbnn import MLP, SSIG, GaussianLikelihood, StructuredGuide
    >>> net = MLP(3, [4], prior=SSIG(inclusion=0.3), likelihood=GaussianLikelihood())
    >>> data = to_arviz(net, StructuredGuide(net), x=torch.randn(20, 3))  # a fit's guide, as a rule
    >>> data["posterior"]["hidden1.gate"].sizes
    Frozen({'chain': 1, 'draw': 200, 'hidden1_node': 4})
    >>> inclusion = data["constant_data"]["hidden1.inclusion"].sel(hidden1_node="hidden1[3]")
    >>> round(float(inclusion), 3)  # where gates start
    0.95
    """
    require_match("to_arviz", model, guide)
    names = predictor_names(guide, feature_names)
    if draws is None:
        if y is not None and x is None:
            raise DataError(
                "to_arviz: y is given without x; give the predictors it was observed at."
            )
        options: dict[str, Any] = {"weights": weights, "seed": seed, "most_bytes": most_bytes}
        draws = draw_posterior(model, guide, num_draws, x=x, y=y, **options)
    else:
        _check_draws(draws, model.description, x, y, weights)
        _check_sites(draws, draw_posterior(model, guide, 1))
    if y is not None:
        y = model.likelihood.observed(y, next(guide.parameters()))
    coords = coordinates(model.description, names)
    groups = {
        "posterior": _posterior(model.description, draws, coords, seed),
        "sample_stats": _sample_stats(draws),
        "constant_data": _exact_inclusion(guide, coords),
    }
    groups |= prediction_groups(_one_chain(draws.predictive), _one_chain(draws.log_likelihood), y)
    groups["posterior"].attrs |= ATTRIBUTES
    return assemble({k: v for k, v in groups.items() if v.data_vars}, ATTRIBUTES)


def _check_draws(
    draws: PosteriorDraws,
    description: NetworkDescription,
    x: Tensor | None,
    y: Tensor | None,
    weights: bool,
) -> None:
    for group in description.gate_groups:
        gates = draws.latents.get(group.gate_site)
        if gates is None or gates.shape[-1] != group.size:
            number = 0 if gates is None else gates.shape[-1]
            raise ConfigurationError(
                f"to_arviz: the draws are of another network: it has {group.size} gates in {group.name}, they hold"
                f" {number}. Make them with draw_posterior(model, guide, ...)."
            )
    if x is not None:
        raise ConfigurationError("to_arviz: give draws or x; draws bring their own predictions.")
    if weights and not draws.weights:
        raise ConfigurationError(
            "to_arviz: these draws hold no weights; make them with draw_posterior(..., weights=True)."
        )
    if y is None:
        return
    if draws.log_likelihood is None or draws.log_likelihood.shape[1] != len(y):
        held = None if draws.log_likelihood is None else draws.log_likelihood.shape[1]
        raise DataError(
            f"to_arviz: y has {len(y)} rows, the draws hold the log-likelihood of {held or 'none'}."
            " Make the draws with the same x and y."
        )


def _check_sites(draws: PosteriorDraws, own: PosteriorDraws) -> None:
    """Draws of another network differ from one of this one's in a site's name or in its shape."""
    for name in sorted({*draws.latents, *own.latents}):
        held, expected = (
            f"of shape {list(of.latents[name].shape[1:])}" if name in of.latents else "absent"
            for of in (draws, own)
        )
        if held != expected:
            raise ConfigurationError(
                f"to_arviz: the draws are of another network: site {name!r} is {expected} in it, and {held} in them."
                " Make them with draw_posterior(model, guide, ...)."
            )


def _posterior(
    description: NetworkDescription, draws: PosteriorDraws, coords: dict[str, list[str]], seed: int
) -> xr.Dataset:
    variables: dict[str, Tensor] = dict(draws.latents)
    for layer in description.groups:
        slab_scale = _slab_scale(layer, draws.latents)
        if slab_scale is not None:
            variables[f"{layer.path}.slab_scale"] = slab_scale
    arrays = {}
    for name, value in variables.items():
        of = owner(description, name)
        shared = (
            ["target"] if value.ndim == 2 else []
        )  # a likelihood's latent may have one a target
        dims = shared if of is None else [node_dim(description, of)]
        arrays[name] = array(value[None], dims, gate=name.endswith(".gate"))
    for group in description.gate_groups:
        if isinstance(group.inclusion, BetaInclusion):
            rate = _inclusion_rate(group, draws.latents[group.gate_site], seed)
            arrays[f"{group.path}.inclusion_rate"] = array(rate[None], [])
    for name, value in draws.weights.items():
        layer = description.layer(name)
        arrays[layer.weight_site] = array(value[None], weight_dims(description, layer))
    return dataset(arrays, coords)


def _inclusion_rate(group: GateGroup, gates: Tensor, seed: int) -> Tensor:
    """Draws of the probability that the members share given their gates ``[S, size]``, ``[S]``."""
    prior: Any = group.inclusion
    count = gates.double().sum(-1).cpu().numpy()
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.beta(prior.a + count, prior.b + group.size - count))


def _slab_scale(group: NodeGroup, latents: dict[str, Tensor]) -> Tensor | None:
    def of(prefix: str, shape: list[int]) -> dict[str, Tensor]:
        split = {name: name.rpartition(".") for name in latents}
        return {key: latents[n].reshape(shape) for n, (p, _, key) in split.items() if p == prefix}

    return group.prior.slab_scale(of(group.path, [-1, group.size]), of(group.scope_path, [-1, 1]))


def _sample_stats(draws: PosteriorDraws) -> xr.Dataset:
    lp = draws.log_prior.double()
    if draws.log_likelihood is not None:
        lp = lp + draws.log_likelihood.double().sum(1)
    stats = {"lp": lp, "log_prior": draws.log_prior, "log_q": draws.log_q}
    if draws.member is not None:
        stats["member"] = draws.member
    return dataset({name: array(value[None], []) for name, value in stats.items()}, {})


def _exact_inclusion(guide: Guide | MixtureGuide, coords: dict[str, list[str]]) -> xr.Dataset:
    arrays = {}
    mixture = isinstance(guide, MixtureGuide)
    for group in named_groups(guide.description) if mixture else guide.description.gate_groups:
        dims = [node_dim(guide.description, group)]
        exact = {"long_name": "posterior inclusion probability q(z = 1), exact"}
        probabilities = inclusion_probabilities(guide, group.name)
        logits = gate_logits(guide, group.name)
        arrays[f"{group.path}.inclusion"] = xr.DataArray(probabilities, dims=dims, attrs=exact)
        arrays[f"{group.path}.inclusion_logit"] = xr.DataArray(
            logits, dims=dims, attrs={"long_name": "posterior log-odds of inclusion, exact"}
        )
        arrays[f"{group.path}.prior_inclusion"] = prior_array(group, dims)
        if group.name in getattr(guide, "coupled", ()):
            numbers = np.zeros(group.size, dtype=np.int64)
            for number, one in enumerate(credible_sets(guide, group=group.name), start=1):
                numbers[list(one.members)] = number
            said = {"long_name": "number of the credible set of 95 % that it is in, 0 for none"}
            arrays[f"{group.path}.credible_set"] = xr.DataArray(numbers, dims=dims, attrs=said)
    if isinstance(guide, MixtureGuide):
        arrays["weight"] = xr.DataArray(
            np.array(guide.weights), dims=["member"], attrs={"long_name": "weight of each fit"}
        )
    return dataset(arrays, coords)


def _one_chain(value: Tensor | None) -> Tensor | None:
    return None if value is None else value[None]
