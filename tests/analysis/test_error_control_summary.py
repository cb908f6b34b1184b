"""The table of error control: by hand, and at its limits."""

import pytest
import torch

from pyro_ssbnn import MLP, SSIG, Gaussian, GaussianLikelihood, StructuredGuide
from pyro_ssbnn.analysis import error_control_summary
from pyro_ssbnn.errors import ConfigurationError


@pytest.fixture
def guide():
    """Predictors at inclusion 0.9, 0.5, 0.1; four nodes at 0.95, 0.95, 0.6, 0.02."""
    net = MLP(
        3, [4], prior=SSIG(inclusion=0.3), likelihood=GaussianLikelihood(), input_inclusion=0.3
    )
    made = StructuredGuide(net).double()
    with torch.no_grad():
        made.input.logits.copy_(torch.logit(torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)))
        made.hidden1.gate.logits.copy_(
            torch.logit(torch.tensor([0.95, 0.95, 0.6, 0.02], dtype=torch.float64))
        )
    return made


def test_by_hand(guide):
    """Predictors: P(K = 0..3) = 0.045, 0.455, 0.455, 0.045. Nodes: errors 0.05, 0.05, 0.4 average 0.167."""
    table = error_control_summary(guide, level=0.11, probability=0.9)
    assert list(table.index) == ["input", "hidden1"]
    predictors, nodes = table.loc["input"], table.loc["hidden1"]
    assert (predictors["nodes"], predictors["selected"]) == (3, 1)
    assert predictors["expected_false"] == pytest.approx(0.1)
    assert predictors["expected_missed"] == pytest.approx(0.6)
    assert (predictors["size_low"], predictors["size_high"]) == (1, 2)  # 0.045 < 5 %; 0.955 > 95 %
    assert (nodes["nodes"], nodes["selected"]) == (4, 2)
    assert nodes["expected_false"] == pytest.approx(0.1)
    assert nodes["expected_missed"] == pytest.approx(0.62)
    assert nodes["size_mode"] == 3


def test_a_wider_interval_and_a_laxer_level(guide):
    table = error_control_summary(guide, level=0.6, probability=0.95)
    assert list(table["selected"]) == [3, 4]  # mean errors 0.5 and 0.37
    assert list(table["expected_missed"]) == [0.0, 0.0]
    assert tuple(table.loc["input", ["size_low", "size_high"]]) == (0, 3)


def test_sure_gates_leave_no_doubt(guide):
    with torch.no_grad():
        guide.input.logits.copy_(torch.tensor([40.0, -40.0, 40.0]))
    row = error_control_summary(guide, level=0.0).loc["input"]
    assert (row["selected"], row["size_low"], row["size_mode"], row["size_high"]) == (2, 2, 2, 2)
    assert row["expected_false"] == pytest.approx(0, abs=1e-12)


def test_an_ungated_network_has_no_rows():
    net = MLP(3, [4], prior=Gaussian(), likelihood=GaussianLikelihood())
    assert error_control_summary(StructuredGuide(net)).empty


@pytest.mark.parametrize("options", [{"level": 1.0}, {"level": -0.1}, {"probability": 1.0}])
def test_bad_numbers_are_refused(guide, options):
    with pytest.raises(ConfigurationError, match=f"{next(iter(options))} must lie"):
        error_control_summary(guide, **options)
