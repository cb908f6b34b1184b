r"""How fast the theory says a fit learns: layer-wise complexities, and the scale of the contraction rate.

Layer l = 0..L maps width k_l to k_{l+1} (k_0 the inputs, L hidden layers, n observations), u_l and :math:`\vartheta_l`
as in :mod:`pyro_ssbnn.priors.inclusion`. With s_l the number of nodes of layer l that the best sparse approximation
needs, and :math:`\xi` its squared approximation error,

.. math:: r_l = \frac{s_l\,(k_l + 1)\,\vartheta_l}{n},\qquad
          \epsilon_n = \sqrt{\Big(\sum_l r_l + \xi\Big) \sum_l u_l},

and the theory asks that :math:`s_l (k_l + 1)\vartheta_l = o(n)`, hence that every r_l tends to 0.

.. warning:: This form is *recalled* from Jantre, Bhattacharya and Maiti (arXiv 2108.11000), not quoted from it, and its
   constants are unknown. Compare networks, sample sizes and fits by it; the number itself is no error bound, and on
   data of everyday size it often exceeds 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pyro_ssbnn.description import NetworkDescription
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.priors.inclusion import layer_theta, layer_u
from pyro_ssbnn.selection import Selection

__all__ = [
    "contraction_rate",
    "effective_sparsity",
    "layer_theta",
    "layer_u",
    "sparsity_ratios",
]


def effective_sparsity(description: NetworkDescription, selection: Selection) -> list[int]:
    """s_l of a fit: nodes that a selection keeps in each hidden layer; an ungated layer counts whole.

    :param selection: of the fit's inclusion probabilities, by :func:`~pyro_ssbnn.select` for example.
    :returns: L numbers, first hidden layer first.
    """
    counts = selection.counts
    return [counts.get(group.name, group.size) for group in description.groups[:-1]]


def sparsity_ratios(widths: Sequence[int], sparsity: Sequence[int], num_data: int) -> list[float]:
    r"""r_l = s_l (k_l + 1) theta_l / n of every layer: the theory asks that each tends to 0 as n grows.

    A scale recalled from arXiv 2108.11000, not a quotation. The output layer carries no gates and counts with all its
    nodes.

    :param widths: ``[inputs, hidden_1, ..., hidden_L, outputs]``.
    :param sparsity: s_l of the L hidden layers, between 0 and the layer's width.
    :param num_data: n, number of observations.
    :returns: L + 1 ratios, the output layer last; well below 1 where n suffices.
    :raises ConfigurationError: for another number of sparsities than hidden layers, or more nodes than there are.
    """
    theta = layer_theta(widths, num_data)
    hidden = list(widths[1:-1])
    if len(sparsity) != len(hidden) or any(
        not 0 <= s <= k for s, k in zip(sparsity, hidden, strict=True)
    ):
        raise ConfigurationError(
            f"sparsity_ratios: sparsity must give one number between 0 and its width for each hidden layer {hidden};"
            f" got {list(sparsity)}."
        )
    counts = [*sparsity, widths[-1]]
    return [
        s * (k + 1) * each / num_data for s, k, each in zip(counts, widths[:-1], theta, strict=True)
    ]


def contraction_rate(
    widths: Sequence[int],
    sparsity: Sequence[int],
    num_data: int,
    approximation_error: float = 0.0,
) -> float:
    r"""Scale :math:`\epsilon_n` of the posterior's contraction, see the module.

    A scale recalled from arXiv 2108.11000, not a quotation: its constants are unknown, so compare such scales only.

    :param widths: ``[inputs, hidden_1, ..., hidden_L, outputs]``.
    :param sparsity: s_l of the L hidden layers.
    :param num_data: n, number of observations.
    :param approximation_error: :math:`\xi`, squared error of the best approximation with s_l nodes; 0 when the truth is
        such a network.
    :raises ConfigurationError: as :func:`sparsity_ratios`, and for a negative approximation error.

    >>> wide = contraction_rate([10, 50, 1], [50], 10_000)
    >>> contraction_rate([10, 50, 1], [5], 10_000) < wide
    True
    """
    if not approximation_error >= 0:
        raise ConfigurationError(
            f"contraction_rate: approximation_error is a squared error, at least 0; got {approximation_error}."
        )
    complexity = sum(sparsity_ratios(widths, sparsity, num_data)) + approximation_error
    return math.sqrt(complexity * sum(layer_u(widths, num_data)))
