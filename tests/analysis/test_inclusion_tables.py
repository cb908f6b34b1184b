"""Tables against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch

from pyro_ssbnn.analysis import inclusion_summary, layer_summary, predictor_norms, slab_norms
from pyro_ssbnn.errors import ConfigurationError, SelectionError
from pyro_ssbnn.guides import CLOSED_LOGIT, StructuredGuide
from pyro_ssbnn.inference import History, Removal
from pyro_ssbnn.inference.gate_evidence import GateEvidence
from pyro_ssbnn.likelihoods import GaussianLikelihood
from pyro_ssbnn.models import MLP
from pyro_ssbnn.priors import SSGL, SSIG, Gaussian
from pyro_ssbnn.selection.rules import select

LOG3 = math.log(3.0)  # logit of 3/4


@pytest.fixture
def by_hand(build):
    """Two predictors (gamma 3/4, 1/4), two nodes (1/2, 3/4) with weights [[3, 4, 0], [0, 2, 1]], t = 1."""
    _, guide = build(
        [2],
        SSIG(inclusion=0.1),
        inputs=2,
        input_inclusion=0.25,
        input_names=["age", "bmi"],
        logits={"input": [LOG3, -LOG3], "hidden1": [0.0, LOG3]},
    )
    guide.hidden1.weight.loc.data = torch.tensor([[3.0, 4.0, 0.0], [0.0, 2.0, 1.0]])
    return guide


def test_rows_are_named_and_in_forward_order(by_hand):
    table = inclusion_summary(by_hand, gated_only=False)
    assert list(table.index) == ["age", "bmi", "hidden1[0]", "hidden1[1]", "output[0]"]
    assert list(table["group"]) == ["input"] * 2 + ["hidden1"] * 2 + ["output"]
    assert list(table["node"]) == [0, 1, 0, 1, 0]
    assert list(inclusion_summary(by_hand).index) == list(table.index[:-1])
    renamed = inclusion_summary(by_hand, feature_names=["a", "b"])
    assert list(renamed.index[:2]) == ["a", "b"]


def test_inclusion_and_bayes_factors(by_hand):
    table = inclusion_summary(by_hand)
    np.testing.assert_allclose(table["inclusion"], [0.75, 0.25, 0.5, 0.75], rtol=1e-6)
    np.testing.assert_allclose(table["prior_inclusion"], [0.25, 0.25, 0.1, 0.1])
    log9 = math.log(9.0)
    expected = [LOG3 + LOG3, 0.0, log9, LOG3 + log9]
    np.testing.assert_allclose(table["log_bayes_factor"], expected, atol=1e-6)
    assert list(table["selected"]) == [True, False, False, True]
    assert table["selected"].dtype == bool


def test_bayes_factor_is_finite_where_the_probability_rounds_to_one(build):
    _, guide = build([2], logits={"hidden1": [90.0, -120.0]})
    table = inclusion_summary(guide)
    assert float(table["inclusion"].iloc[0]) == 1.0
    np.testing.assert_allclose(table["log_bayes_factor"], [90 + math.log(9), -120 + math.log(9)])


def test_norms_count_weights_by_the_gates_at_their_other_end(by_hand):
    nodes = [math.sqrt(0.75 * 9 + 0.25 * 16), math.sqrt(0.25 * 4 + 1)]
    predictors = [math.sqrt(0.5 * 9), math.sqrt(0.5 * 16 + 0.75 * 4)]
    np.testing.assert_allclose(slab_norms(by_hand, "hidden1"), nodes, rtol=1e-6)
    np.testing.assert_allclose(predictor_norms(by_hand), predictors, rtol=1e-6)
    np.testing.assert_allclose(inclusion_summary(by_hand)["norm"], predictors + nodes, rtol=1e-6)


def test_norm_without_input_gates_is_that_of_the_mean_weights(build):
    _, guide = build([2], SSGL(inclusion=0.1), inputs=2)
    weights = torch.tensor([[3.0, 0.0, 4.0], [0.0, 0.0, 1.0]])  # effective ones, t u, under SS-GL
    guide.hidden1.weight.loc.data = weights
    guide.hidden1.scales.variance.loc.data.fill_(math.log(4.0))
    np.testing.assert_allclose(slab_norms(guide, "hidden1"), [5.0, 1.0], rtol=1e-6)


def test_scale_columns_follow_the_levels_and_predictors_have_none(build):
    _, guide = build([2], SSGL(inclusion=0.1), input_inclusion=0.5)
    origin = guide.scale_moments("hidden1")[0]["variance"][0]
    guide.hidden1.scales.variance.loc.data = 2.0 - origin
    table = inclusion_summary(guide, levels=[0.5, 0.975])
    assert [c for c in table.columns if c.startswith("scale")] == ["scale_50%", "scale_97.5%"]
    np.testing.assert_allclose(table["scale_50%"][3:], math.e, rtol=1e-6)
    assert table["scale_50%"][:3].isna().all()


def test_ungated_layers_are_in_for_certain(build):
    _, guide = build([2], Gaussian())
    table = inclusion_summary(guide, gated_only=False)
    assert (table["inclusion"] == 1).all()
    assert table["selected"].all()
    assert table["log_bayes_factor"].isna().all()
    with pytest.raises(ConfigurationError, match="no gates"):
        inclusion_summary(guide)


def test_a_selection_marks_its_own_nodes(by_hand):
    selection = select(by_hand.inclusion(), threshold=0.2)
    assert inclusion_summary(by_hand, selection)["selected"].all()
    assert layer_summary(by_hand, selection)["active"].to_dict() == {"input": 2, "hidden1": 2}


def test_layer_summary(by_hand):
    table = layer_summary(by_hand)
    assert list(table.index) == ["input", "hidden1"]
    assert table["nodes"].to_dict() == {"input": 2, "hidden1": 2}
    assert table["active"].to_dict() == {"input": 1, "hidden1": 1}
    np.testing.assert_allclose(table["expected_active"], [1.0, 1.25], rtol=1e-6)
    deviations = [math.sqrt(2 * 3 / 16), math.sqrt(0.25 + 3 / 16)]
    np.testing.assert_allclose(table["sd_active"], deviations, rtol=1e-6)
    np.testing.assert_allclose(table["prior_expected"], [0.5, 0.2])


def test_a_collapsed_layer_has_no_active_node(build):
    _, guide = build([3, 1], logits={"hidden1": -30.0, "hidden2": -30.0})
    assert layer_summary(guide)["active"].tolist() == [0, 0]
    assert not inclusion_summary(guide)["selected"].any()
    assert inclusion_summary(guide).notna().all().all()


def test_layer_summary_without_gates_is_empty(build):
    _, guide = build([2], Gaussian())
    assert layer_summary(guide).shape == (0, 5)


def test_misuse_is_refused(build, by_hand):
    _, other = build([3])
    with pytest.raises(SelectionError, match="the selection is one of"):
        inclusion_summary(by_hand, select(other.inclusion()))
    with pytest.raises(ConfigurationError, match="2 names, one per predictor; got 1"):
        inclusion_summary(by_hand, feature_names=["a"])


def test_removed_members_have_inclusion_zero_and_say_when_they_left(build):
    _, guide = build([2], logits={"hidden1": [0.5, CLOSED_LOGIT]})
    table = inclusion_summary(guide, history=History(removed=[Removal("hidden1", 1, 7, 0.09)]))
    assert table.loc["hidden1[1]", "inclusion"] == 0.0
    prior = guide.description["hidden1"].prior_logit
    expected = math.log(0.09 / 0.91) - prior
    assert table.loc["hidden1[1]", "log_bayes_factor"] == pytest.approx(expected)
    assert math.isnan(inclusion_summary(guide).loc["hidden1[1]", "log_bayes_factor"])
    assert table.loc["hidden1[1]", "removed_epoch"] == 7
    assert table.loc["hidden1[1]", "removed_inclusion"] == 0.09
    assert table.loc["hidden1[0]", ["removed_epoch", "removed_inclusion"]].isna().all()


def test_evidence_is_of_the_same_gates_and_not_of_linear_terms(build, by_hand):
    nothing = torch.zeros(2).double()
    found = GateEvidence(nothing, nothing, nothing, nothing)
    assert "log_bayes_factor_error" in inclusion_summary(
        by_hand, evidence={"input": found, "hidden1": found}
    )
    with pytest.raises(ConfigurationError, match=r"evidence is that of groups \['input'\]"):
        inclusion_summary(by_hand, evidence={"input": found})
    net = MLP(
        2,
        [2],
        prior=SSIG(inclusion=0.1),
        likelihood=GaussianLikelihood(),
        input_inclusion=0.25,
        linear=True,
    )
    with pytest.raises(ConfigurationError, match="with linear terms a row is of two gates"):
        inclusion_summary(StructuredGuide(net), evidence={"input": found, "hidden1": found})
