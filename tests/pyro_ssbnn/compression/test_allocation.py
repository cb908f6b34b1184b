"""Which layers give up nodes for a limit: known answers of separable problems."""

import itertools
import math

import pytest

from pyro_ssbnn.compression.allocation import allocated
from pyro_ssbnn.errors import ConfigurationError

SIZES = {"a": 30, "b": 20}
PRICES = {"a": 1.0, "b": 4.0}
WORTH = {"a": 1.0, "b": 6.0}


def cost(counts):
    return 7.0 + sum(PRICES[name] * n for name, n in counts.items())


def score(counts):
    return sum(WORTH[name] * math.sqrt(n) for name, n in counts.items())


@pytest.mark.parametrize("most", [100.0, 60.0, 25.0])
def test_the_best_there_is_but_for_a_step(most):
    """A sum of concave losses at linear costs: greedy cuts are the best, up to the size of a step."""
    found = allocated(cost, score, SIZES, most, "cost")
    pairs = itertools.product(*(range(1, size + 1) for size in SIZES.values()))
    every = [dict(zip(SIZES, pair, strict=True)) for pair in pairs]
    best = max(score(counts) for counts in every if cost(counts) <= most)
    assert cost(found) <= most
    # one step of (cost(SIZES) - most) / 40, or one node, at the price of the last nodes of either layer
    step = max((cost(SIZES) - most) / 40, *PRICES.values())
    dearest = max(
        (score(found) - score({**found, name: n - 1})) / PRICES[name]
        for name, n in found.items()
        if n > 1
    )
    assert score(found) >= best - step * dearest


def test_what_costs_little_stays():
    """A layer that saves next to nothing keeps its nodes, whatever they are worth."""
    found = allocated(
        lambda c: 1e-3 * c["a"] + c["b"], lambda c: c["a"] + c["b"], SIZES, 10.0, "cost"
    )
    assert found == {"a": 30, "b": 9}


def test_all_within_the_limit_stays():
    assert allocated(cost, score, SIZES, cost(SIZES), "cost") == SIZES


def test_the_least_there_is():
    assert allocated(cost, score, SIZES, 12.0, "cost") == {"a": 1, "b": 1}


def test_out_of_reach():
    with pytest.raises(ConfigurationError, match=r"cost of 11\.9 cannot be reached.* it is 12"):
        allocated(cost, score, SIZES, 11.9, "cost")
