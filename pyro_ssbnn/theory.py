r"""How fast the theory says a fit learns: layer-wise complexities, and the scale of the contraction rate.

Layer l = 0..L maps width k_l to k_{l+1} (k_0 the inputs, L hidden layers, n observations), u_l and :math:`\vartheta_l`
as in :mod:`pyro_ssbnn.priors.inclusion`. With s_l the number of nodes of layer l that the best sparse approximation
needs, and :math:`\xi` its squared approximation error,

.. math:: r_l = \frac{s_l\,(k_l + 1)\,\vartheta_l}{n},\qquad
          \epsilon_n = \sqrt{\Big(\sum_l r_l + \xi\Big) \sum_l u_l},

and the theory asks that :math:`s_l (k_l + 1)\vartheta_l = o(n)`, hence that every r_l tends to 0. With fixed widths it
always does, like log(n)/n; what a single data set can tell is whether n is large enough for the r_l to be small
(:func:`sparsity_ratios`), or how large it would have to be (:func:`observations_needed`). Of a fit::

    widths = layer_widths(model.description)
    sparsity = effective_sparsity(model.description, select(guide.inclusion()))
    sparsity_ratios(widths, sparsity, num_data)

.. warning:: This form is *recalled* from Jantre, Bhattacharya and Maiti (arXiv 2108.11000), not quoted from it, and its
   constants are unknown. Compare networks, sample sizes and fits by it; the number itself is no error bound, and on
   data of everyday size it often exceeds 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.priors.inclusion import layer_theta, layer_u
from pyro_ssbnn.selection.rules import Selection
from pyro_ssbnn.structure.description import NetworkDescription

__all__ = [
    "contraction_rate",
    "effective_sparsity",
    "layer_theta",
    "layer_u",
    "layer_widths",
    "observations_needed",
    "sparsity_ratios",
]


def layer_widths(description: NetworkDescription) -> list[int]:
    """``[inputs, hidden_1, ..., hidden_L, outputs]`` of a network, the widths k_0, ..., k_{L+1} of the formulas.

    :raises ConfigurationError: for networks that convolve: the theory is of perceptrons.
    """
    if any(group.geometry is not None for group in description.groups):
        raise ConfigurationError(
            "layer_widths: the theory's quantities are those of perceptrons, and this network convolves; give widths of"
            " your own to see how they scale."
        )
    return [description.inputs.num_columns, *(group.size for group in description.layers)]


def effective_sparsity(description: NetworkDescription, selection: Selection) -> list[int]:
    """s_l of a fit: nodes that a selection keeps in each hidden layer; an ungated layer counts whole.

    :param selection: of the fit's inclusion probabilities, by :func:`~pyro_ssbnn.select` for example.
    :returns: L numbers, first hidden layer first.
    """
    counts = selection.counts
    return [counts.get(group.name, group.size) for group in description.layers[:-1]]


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


def observations_needed(widths: Sequence[int], sparsity: Sequence[int], bound: float = 1.0) -> int:
    r"""Smallest n at which :math:`s_l (k_l + 1)\vartheta_l \le \mathrm{bound} \cdot n` in every layer.

    Every ratio falls as n grows, because :math:`\vartheta_l \ge 4` while its derivative in log n stays below 2. A scale
    like all of this module: other constants would give another number.

    :param widths: ``[inputs, hidden_1, ..., hidden_L, outputs]``.
    :param sparsity: s_l of the L hidden layers.
    :param bound: on every ratio, positive.
    :raises ConfigurationError: as :func:`sparsity_ratios`, and for a bound that is not positive.

    Nodes beyond the output layer's own count only where they ask for more than it does:

    >>> observations_needed([10, 50, 50, 1], [5, 5]) < observations_needed([10, 50, 50, 1], [50, 50])
    True
    >>> observations_needed([10, 50, 1], [5]) == observations_needed([10, 50, 1], [50])
    True
    """
    if not bound > 0:
        raise ConfigurationError(f"observations_needed: bound must be positive; got {bound}.")

    def holds(num_data: int) -> bool:
        return max(sparsity_ratios(widths, sparsity, num_data)) <= bound

    enough = 1
    while not holds(enough):
        enough *= 2
    short = enough // 2  # bisection: short does not hold, or is 0; enough holds
    while enough - short > 1:
        middle = (enough + short) // 2
        short, enough = (short, middle) if holds(middle) else (middle, enough)
    return enough


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
