"""The order in which nodes leave: known answers, the limit, layers that leave together."""

import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.compression.evidence import Evidence
from pyro_ssbnn.compression.removal import joined_layers, removal_order, smallest_that, without
from pyro_ssbnn.compression.search import work_of
from pyro_ssbnn.errors import ConfigurationError

SIZES = {"a": 12, "b": 8}
PRICES = {"a": 1.0, "b": 4.0}
WHOLE = {name: torch.ones(size, dtype=torch.bool) for name, size in SIZES.items()}
WORTH = torch.rand(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1


def cost(masks):
    return 7.0 + sum(PRICES[name] * int(mask.sum()) for name, mask in masks.items())


def separable(masks):
    """Every node explains a row of its own."""
    slopes = (2 * WORTH).sqrt().diag()
    even = slopes.new_zeros(20)
    return Evidence(torch.cat([slopes, -slopes]), slopes.new_full((40,), 0.5), even)


@pytest.mark.parametrize("most", [40.0, 25.0, 0.0])
def test_what_is_worth_least_for_what_it_saves_leaves_first(most):
    order = removal_order(separable, cost, WHOLE, most, "cost")
    nodes = [(name, node) for name, size in SIZES.items() for node in range(size)]
    rates = {node: float(worth) / PRICES[node[0]] for node, worth in zip(nodes, WORTH, strict=True)}
    best = {name: max((n for n in nodes if n[0] == name), key=rates.get) for name in SIZES}
    expected = sorted((n for n in nodes if n not in best.values()), key=rates.get)
    assert order == expected[: len(order)]
    left = cost(without(WHOLE, order))
    if most:  # the last one was needed
        assert left <= most < cost(without(WHOLE, order[:-1]))
    else:
        assert len(order) == len(expected)


def test_what_costs_nothing_stays():
    order = removal_order(separable, lambda m: float(m["b"].sum()), WHOLE, 2.0, "cost")
    assert len(order) == 6
    assert all(name == "b" for name, _ in order)


def test_all_within_the_limit_stays():
    assert removal_order(separable, cost, WHOLE, cost(WHOLE), "cost") == []


def test_the_least_there_is():
    left = without(WHOLE, removal_order(separable, cost, WHOLE, 12.0, "cost"))
    assert {name: int(mask.sum()) for name, mask in left.items()} == {"a": 1, "b": 1}


def test_out_of_reach():
    with pytest.raises(ConfigurationError, match=r"cost of 11\.9 cannot be reached.* it is 12"):
        removal_order(separable, cost, WHOLE, 11.9, "cost")


@pytest.mark.parametrize("least", range(8))
def test_the_smallest_that(least):
    assert smallest_that(lambda k: k >= least, 7) == least


def test_work_is_that_of_the_pruned_network():
    model = ss.MLP(4, [3, 2], prior=ss.SSIG(inclusion=0.5), likelihood=ss.GaussianLikelihood())
    guide, sizes = ss.StructuredGuide(model), {"hidden1": 3, "hidden2": 2}
    for kept in ([0, 2], [1]), ([1], [0]), ([0, 1, 2], [0, 1]):
        nodes = {name: torch.tensor(k) for name, k in zip(sizes, kept, strict=True)}
        selection = ss.Selection(nodes, sizes, "some")
        total = ss.prune(model, guide, selection).report.loc["total"]
        assert work_of(model.description, selection) == total["multiply_adds_kept"]


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
