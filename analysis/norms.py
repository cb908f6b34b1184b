"""Sizes of mean weights: of nodes, of predictors, of linear terms, each given that it is in the network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyro_ssbnn.analysis.scales import inclusion_probabilities
from pyro_ssbnn.guides import MixtureGuide
from pyro_ssbnn.structure.axes import Axis
from pyro_ssbnn.structure.guide import Guide

__all__ = ["linear_effects", "predictor_norms", "slab_norms"]


def slab_norms(guide: Guide, name: str) -> NDArray[np.float64]:
    r"""Size of each node's posterior mean weights given that the node is in, its own included, ``[size]``.

    :math:`\lVert E[t u \mid z = 1]\rVert_2`. Where predictors are gated, weights of closed predictors are not in the
    network whatever their value, so a first-layer weight counts by its predictor's inclusion probability:
    :math:`\{\sum_i \gamma_i E[t u_i]^2\}^{1/2}`, the root of the expected squared norm over the predictors' gates.
    """
    squares = _mean_weights(guide, name) ** 2
    layer = guide.description.layer(name)
    if layer.column_gate is not None:
        inputs = guide.description.inputs
        gamma = inclusion_probabilities(guide, inputs.name)[inputs.columns.owners.numpy()]
        squares[:, : len(gamma)] *= gamma
    return np.sqrt(_of_members(squares.sum(1), layer.weight_rows))


def predictor_norms(guide: Guide | MixtureGuide) -> NDArray[np.float64]:
    r"""Size of each predictor's outgoing first-layer mean weights given that the predictor is in, ``[p]``.

    :math:`\{\sum_j \gamma_j E[t_j u_{ji}]^2\}^{1/2}`: each weight counts by its node's inclusion probability (1 in an
    ungated layer), the root of the expected squared norm over the nodes' gates. Weights of all columns of a predictor
    are its own. Of a mixture it is the root of the mean square.
    """
    if isinstance(guide, MixtureGuide):
        members = [weight * predictor_norms(member) ** 2 for _, member, weight in guide.members]
        return np.sqrt(np.sum(members, axis=0))
    first = guide.description.groups[0]
    squares = _mean_weights(guide, first.name)[:, : first.fan_in] ** 2
    if first.gated:
        squares *= inclusion_probabilities(guide, first.name)[:, None]
    return np.sqrt(_of_members(squares.sum(0), guide.description.inputs.columns))


def linear_effects(guide: Guide) -> NDArray[np.float64]:
    """Mean linear weight of each predictor given that it is in, of several outputs or columns the norm, ``[p]``."""
    linear = guide.description.layer("linear")
    weights = _mean_weights(guide, linear.name)
    single = weights.shape == (linear.size, 1)
    return weights[:, 0] if single else slab_norms(guide, linear.name)


def _of_members(values: NDArray[np.float64], axis: Axis) -> NDArray[np.float64]:
    """Sums of the entries of each member of an axis."""
    total = np.zeros(axis.size)
    np.add.at(total, axis.owners.numpy(), values)
    return total


def _mean_weights(guide: Guide, name: str) -> NDArray[np.float64]:
    return guide.mean_weights(name).double().cpu().numpy()
