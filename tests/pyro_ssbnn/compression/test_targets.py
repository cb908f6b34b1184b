"""Nested selections, and the search along them."""

import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.compression import largest_within, ranked, smallest_that
from pyro_ssbnn.compression.targets import work_of
from pyro_ssbnn.errors import ConfigurationError


def fitted():
    model = ss.MLP(
        4,
        [3, 2],
        prior=ss.SSIG(inclusion=0.5),
        likelihood=ss.GaussianLikelihood(),
        activation="relu",
    )
    guide = ss.StructuredGuide(model)
    with torch.no_grad():
        guide.gate_logits("hidden1").copy_(torch.tensor([2.0, -1.0, 5.0]))
        guide.gate_logits("hidden2").copy_(torch.tensor([-3.0, 1.0]))
    return model, guide


def test_selections_are_nested_and_keep_each_layers_best():
    model, guide = fitted()
    best, number = ranked(guide, model.description)
    assert number == 5
    kept = [{k: v.tolist() for k, v in best(k, "").kept.items()} for k in range(6)]
    assert kept == [
        {"hidden1": [2], "hidden2": [1]},
        {"hidden1": [2], "hidden2": [1]},
        {"hidden1": [0, 2], "hidden2": [1]},
        {"hidden1": [0, 2], "hidden2": [1]},
        {"hidden1": [0, 1, 2], "hidden2": [1]},
        {"hidden1": [0, 1, 2], "hidden2": [0, 1]},
    ]


def test_work_is_that_of_the_pruned_network():
    model, guide = fitted()
    best, number = ranked(guide, model.description)
    for k in range(number + 1):
        total = ss.prune(model, guide, best(k, "")).report.loc["total"]
        assert work_of(model.description, best(k, "")) == total["multiply_adds_kept"]


@pytest.mark.parametrize("most", [0, 3, 4.5, 9, 100])
def test_the_largest_within_a_limit(most):
    assert largest_within(lambda k: k, most, 9, "cost") == min(int(most), 9)


def test_a_limit_out_of_reach():
    with pytest.raises(ConfigurationError, match="cost of 1 cannot be reached"):
        largest_within(lambda k: k + 2, 1, 9, "cost")


@pytest.mark.parametrize("least", range(8))
def test_the_smallest_that(least):
    assert smallest_that(lambda k: k >= least, 7) == least


def test_all_are_kept_where_nothing_will_do():
    assert smallest_that(lambda k: False, 7) == 7
