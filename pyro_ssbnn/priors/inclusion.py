r"""Prior inclusion probabilities from the theory of structured sparsity.

Source: Jantre, Bhattacharya and Maiti (arXiv 2308.09104; IEEE TNNLS 36(6), 2025). Layer l = 0..L-1 maps width k_l to
k_{l+1} (k_0 the inputs, L hidden layers, n observations):

.. math::
    -\log\lambda_l &= \log k_{l+1} + C (k_l + 1)\,\vartheta_l \\
    \vartheta_l &= (k_l + 1)^2 + \sum_{m \ne l}\log(k_m + 1) + L + \log k_{l+1} + \log(k_l + 1) + \log n
                   + \log\textstyle\sum_m u_m \\
    u_l &= (L + 1)^2 \{\log n + \log(L + 1) + \log(k_l + 1) + \log k_{l+1}\}
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pyro_ssbnn.checks import check_that, is_whole
from pyro_ssbnn.errors import ConfigurationError

__all__ = ["TheoryInclusion", "each_of_two", "layer_theta", "layer_u", "theory_inclusion"]


@dataclass(frozen=True)
class TheoryInclusion:
    """Ask a network for the theory's layer-wise inclusion probabilities.

    :param num_data: n, the number of observations the network will be fitted to.
    :param constant: C of the formula; 1e-9 in the published runs.
    """

    num_data: int
    constant: float = 1e-9

    def __post_init__(self) -> None:
        check_that("TheoryInclusion", "num_data", self.num_data, is_whole(self.num_data), "whole")
        if self.num_data < 1:
            raise ConfigurationError(
                f"TheoryInclusion: num_data is the number of observations, at least 1; got {self.num_data}."
            )
        if not self.constant > 0:
            raise ConfigurationError(
                f"TheoryInclusion: constant must be positive (1e-9 in the published runs); got {self.constant}."
            )


def layer_u(widths: Sequence[int], num_data: int) -> list[float]:
    """:math:`u_l` of every layer, the output layer last, L + 1 numbers.

    :param widths: ``[inputs, hidden_1, ..., hidden_L, outputs]``.
    :param num_data: n, number of observations.
    :raises ConfigurationError: when there is no hidden layer, or a width or n is not positive.
    """
    _check_widths(widths, num_data)
    depth = len(widths) - 2  # L
    return [
        (depth + 1) ** 2
        * (math.log(num_data) + math.log(depth + 1) + math.log(k + 1) + math.log(k_next))
        for k, k_next in itertools.pairwise(widths)
    ]


def layer_theta(widths: Sequence[int], num_data: int) -> list[float]:
    r""":math:`\vartheta_l` of every layer, the output layer last, L + 1 numbers; parameters as for :func:`layer_u`."""
    u = layer_u(widths, num_data)
    depth = len(widths) - 2
    logs = [math.log(k + 1) for k in widths[:-1]]
    return [
        (k + 1) ** 2
        + sum(logs)
        - logs[layer]
        + depth
        + math.log(k_next)
        + math.log(k + 1)
        + math.log(num_data)
        + math.log(sum(u))
        for layer, (k, k_next) in enumerate(itertools.pairwise(widths))
    ]


def _check_widths(widths: Sequence[int], num_data: int) -> None:
    if len(widths) < 3 or min(widths) < 1:
        raise ConfigurationError(
            "theory_inclusion: widths must be [inputs, hidden..., outputs] with at least one hidden layer and every"
            f" width positive; got {list(widths)}."
        )
    if num_data < 1:
        raise ConfigurationError(
            f"theory_inclusion: num_data is the number of observations, at least 1; got {num_data}."
        )


def theory_inclusion(widths: Sequence[int], num_data: int, constant: float = 1e-9) -> list[float]:
    """Prior inclusion probability of each hidden layer.

    :param widths: ``[inputs, hidden_1, ..., hidden_L, outputs]``.
    :param num_data: n, number of observations.
    :param constant: C of the formula.
    :returns: L probabilities, first hidden layer first.
    :raises ConfigurationError: when there is no hidden layer, or a probability underflows to zero.

    >>> [f"{p:.1e}" for p in theory_inclusion([784, 400, 400, 10], 60_000)]
    ['1.5e-03', '2.3e-03']
    """
    probabilities = []
    thetas = layer_theta(widths, num_data)[:-1]
    for layer, (k, k_next, theta) in enumerate(zip(widths, widths[1:], thetas, strict=False)):
        probability = math.exp(-math.log(k_next) - constant * (k + 1) * theta)
        if probability == 0.0:
            raise ConfigurationError(
                f"theory_inclusion: the probability of hidden layer {layer + 1} (fan-in {k}) underflows to zero;"
                f" take a constant below {constant:g} or give the inclusion probability as a number."
            )
        probabilities.append(probability)
    return probabilities


def each_of_two(inclusion: float) -> float:
    """Inclusion probability of each of two independent gates, either of which lets a member in, with this probability.

    >>> round(each_of_two(0.19), 12)
    0.1
    """
    return 1 - math.sqrt(1 - inclusion)
