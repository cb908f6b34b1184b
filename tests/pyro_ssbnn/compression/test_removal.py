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


def weights(masks):
    """As in a perceptron: they are what it costs."""
    return 3.0 + cost(masks)


def separable(masks):
    """Every node explains a row of its own."""
    slopes = (2 * WORTH).sqrt().diag()
    even = slopes.new_zeros(20)
    return Evidence(torch.cat([slopes, -slopes]), slopes.new_full((40,), 0.5), even)


@pytest.mark.parametrize("most", [40.0, 25.0, 0.0])
def test_what_is_worth_least_for_what_it_saves_leaves_first(most):
    order = removal_order(separable, cost, weights, WHOLE, most, "cost")
    nodes = [(name, node) for name, size in SIZES.items() for node in range(size)]
    rates = {node: float(worth) / PRICES[node[0]] for node, worth in zip(nodes, WORTH, strict=True)}
    best = {name: max((n for n in nodes if n[0] == name), key=rates.get) for name in SIZES}
    expected = sorted((n for n in nodes if n not in best.values()), key=rates.get)
    if most:  # none of them has room
        assert order == [node for node in expected if node in order]
        assert cost(without(WHOLE, order)) <= most
        for node in order:
            assert cost(without(WHOLE, [other for other in order if other != node])) > most
    else:
        assert order == expected


@pytest.mark.parametrize(("times", "layer"), [(0.99, "a"), (1.01, "b")])
def test_a_tenth_of_the_worth_goes_by_the_weights(times, layer):
    """Of equal costs: a has a weight a node and more evidence than b, which has nine."""
    masks = {"a": torch.ones(5, dtype=torch.bool), "b": torch.ones(5, dtype=torch.bool)}

    def evidence(_, gap):
        worth = torch.tensor([1.0 + gap] * 5 + [1.0] * 5).double()
        slopes = (2 * worth).sqrt().diag()
        return Evidence(torch.cat([slopes, -slopes]), slopes.new_full((20,), 0.5), 0 * worth)

    def number(masks):
        return float(sum(mask.sum() for mask in masks.values()))

    def nine(masks):
        return float(masks["a"].sum() + 9 * masks["b"].sum())

    # 0.9 gap = 0.1 (9 - 1) r, where r = (10 + 5 gap) / 50
    gap = 0.16 / (0.9 - 0.08)
    first, *_ = removal_order(lambda m: evidence(m, times * gap), number, nine, masks, 9.0, "cost")
    assert first[0] == layer
    first, *_ = removal_order(
        lambda m: evidence(m, times * gap), number, number, masks, 9.0, "cost"
    )
    assert first[0] == "b"


def test_where_evidence_speaks_against_all_nodes_weights_count_for_nothing():
    """What gains most for what it saves leaves first."""

    def evidence(_):
        return Evidence(WORTH.new_zeros(2, 20), WORTH.new_ones(2), torch.full((20,), -1.0).double())

    order = removal_order(evidence, cost, weights, WHOLE, cost(WHOLE) - 2, "cost")
    assert [name for name, _ in order] == ["a", "a"]


def test_what_left_without_need_comes_back():
    """First the worst three of layer a leave, which save too little, then one of layer b, which is enough alone."""
    worth = torch.cat([torch.full((12,), 1e-4), torch.full((8,), 1e-2)]).double()
    worth[3:12] = 1.0
    slopes = (2 * worth).sqrt().diag()

    def evidence(_):
        even = slopes.new_zeros(20)
        return Evidence(torch.cat([slopes, -slopes]), slopes.new_full((40,), 0.5), even)

    order = removal_order(evidence, cost, weights, WHOLE, cost(WHOLE) - 4, "cost")
    assert order == [("b", 0)]
    order = removal_order(evidence, cost, weights, WHOLE, cost(WHOLE) - 3, "cost")
    assert order == [("a", 0), ("a", 1), ("a", 2)]
    order = removal_order(evidence, cost, weights, WHOLE, cost(WHOLE) - 6, "cost")
    assert order == [("a", 0), ("a", 1), ("b", 0)]


def test_what_costs_nothing_stays():
    order = removal_order(separable, lambda m: float(m["b"].sum()), weights, WHOLE, 2.0, "cost")
    assert len(order) == 6
    assert all(name == "b" for name, _ in order)


def test_all_within_the_limit_stays():
    assert removal_order(separable, cost, weights, WHOLE, cost(WHOLE), "cost") == []


def test_the_least_there_is():
    left = without(WHOLE, removal_order(separable, cost, weights, WHOLE, 12.0, "cost"))
    assert {name: int(mask.sum()) for name, mask in left.items()} == {"a": 1, "b": 1}


def test_out_of_reach():
    with pytest.raises(ConfigurationError, match=r"cost of 11\.9 cannot be reached.* it is 12"):
        removal_order(separable, cost, weights, WHOLE, 11.9, "cost")


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
