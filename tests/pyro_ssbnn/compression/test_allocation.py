"""Which layers give up nodes for a limit: known answers of separable problems."""

import itertools
import math

import pytest

import pyro_ssbnn as ss
from pyro_ssbnn.compression.allocation import allocated, joined_layers
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


class TestLayersThatAreAddedUp:
    def network(self, **options):
        return ss.ResNet(
            (3, 8, 8), 14, prior=ss.SSIG(), likelihood=ss.CategoricalLikelihood(3), **options
        )

    def test_leave_together(self):
        """Two blocks a stage; padded shortcuts add a stage's maps to half of the next stage's places."""
        names = [set(names) for names in joined_layers(self.network().description)]
        assert {"stem", "stage1_block1_conv2", "stage1_block2_conv2"} in names
        assert {"stage2_block1_conv2", "stage2_block2_conv2"} not in names
        assert {"stage1_block1_conv1"} in names

    def test_projected_shortcuts_join_each_stage(self):
        description = self.network(shortcuts="convolution").description
        names = [set(names) for names in joined_layers(description)]
        second = {name for name in (g.name for g in description.gated_layers) if "stage2" in name}
        assert second - {"stage2_block1_conv1", "stage2_block2_conv1"} in names
        assert sum(map(len, names)) == len(description.gated_layers)

    def test_without_sums_each_is_alone(self):
        net = ss.MLP(4, [5, 3], prior=ss.SSIG(), likelihood=ss.GaussianLikelihood())
        assert joined_layers(net.description) == [("hidden1",), ("hidden2",)]
