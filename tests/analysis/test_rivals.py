"""Rivals of selected predictors: who could stand in, and who could not."""

import math

import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.analysis.diagnostics.rivals import check_rivals
from pyro_ssbnn.errors import MisfitWarning


def fitted(correlation, rows=200, guide=None, **options):
    """A network whose guide knows f = x1, and its data; x2 correlates with x1."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 3, generator=generator)
    x = torch.linalg.qr(x - x.mean(0)).Q * rows**0.5  # correlations as they are given
    x[:, 1] = correlation * x[:, 0] + (1 - correlation**2) ** 0.5 * x[:, 1]
    y = x[:, 0] + 0.5 * torch.randn(rows, generator=generator)
    net = ss.MLP(
        3,
        [],
        prior=ss.Gaussian(),
        likelihood=ss.GaussianLikelihood(scale=0.5),
        input_inclusion=0.3,
        **options,
    )
    quick = ss.TrainingOptions(epochs=1, compile=False, dtype="float64")
    fit = ss.fit(net, x, y, quick, guide=guide or ss.StructuredGuide(net), progress=False)
    if guide is None:
        with torch.no_grad():
            fit.guide.gate_logits("input").copy_(torch.tensor([9.0, -9.0, -9.0]))
            fit.guide.output.weight.loc.copy_(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
            fit.guide.output.weight.log_scale.fill_(-12.0)
    return fit, x, y


@pytest.mark.parametrize("sign", [1, -1])
def test_one_that_says_the_same(sign, process_unchanged):
    fit, x, y = fitted(0.0)
    x[:, 1] = 3 + sign * 2 * x[:, 0]
    with process_unchanged():
        check = check_rivals(fit, x, y)
    (pair,) = check.values["pairs"]
    assert (pair["in"], pair["rival"]) == ("x1", "x2")
    assert pair["log_odds"] == pytest.approx(0, abs=1e-3)
    assert check.verdict == "warning"
    assert "x2 for x1" in check.finding


def test_log_odds_are_those_of_known_weights():
    """Weights without spread: the loss of squares when x1 is put in terms of x2, over twice the noise variance."""
    fit, x, y = fitted(0.6)
    (pair,) = check_rivals(fit, x, y).values["pairs"]
    explained = 0.6 * x[:, 1]
    lost = (y - explained).square().sum() - (y - x[:, 0]).square().sum()
    assert pair["log_odds"] == pytest.approx(float(-2 * lost), rel=1e-3)
    assert pair["log_odds"] < -math.log(19)


def test_a_rival_that_could_not():
    assert check_rivals(*fitted(0.6)).verdict == "ok"
    assert check_rivals(*fitted(0.99, rows=40)).verdict == "warning"


def test_nothing_to_say():
    fit, x, y = fitted(0.2)
    assert check_rivals(fit, x, y).finding.startswith("No predictor that is in")
    net = fit.model
    joint, x, y = fitted(0.9, guide=ss.BlockGuide(net))
    assert check_rivals(joint, x, y).finding.startswith("No predictor was chosen")


def test_diagnose_asks():
    fit, x, y = fitted(0.999)
    report = ss.diagnose(fit, x, y, num_draws=100)
    assert report["rival predictors"].verdict == "warning"


def test_of_a_perceptron_the_joint_law_is_asked(process_unchanged):
    """A predictor that stands there twice: the guide has one, the law both alike."""
    torch.manual_seed(0)
    x = torch.randn(120, 3)
    x[:, 1] = x[:, 0]
    y = torch.sin(2 * x[:, 0]) + 0.3 * torch.randn(120)
    net = ss.MLP(
        3,
        [5],
        prior=ss.SSIG(inclusion=0.5),
        likelihood=ss.GaussianLikelihood(),
        input_inclusion=0.3,
    )
    fit = ss.fit(net, x, y, ss.TrainingOptions(epochs=150, screen=False), progress=False)
    with torch.no_grad():
        fit.guide.gate_logits("input").copy_(torch.tensor([9.0, -9.0, -9.0]))
        first = fit.guide.hidden1.weight.loc
        first[:, 0] += first[:, 1]
    with process_unchanged():
        check = check_rivals(fit, x, y)
    assert check.verdict == "warning"
    assert "x2 0.00 -> 0." in check.finding
    assert check.values["joint"]["x1"] == pytest.approx(check.values["joint"]["x2"], abs=0.02)
    assert check.values["guide"]["x2"] < 0.01
    law = ss.predictor_law(fit, x, y)
    assert check.values["joint"] == pytest.approx(law.summary()["inclusion"].to_dict())


def test_where_law_and_guide_agree_that_is_said():
    torch.manual_seed(1)
    x = torch.randn(200, 2)
    y = torch.sin(2 * x[:, 0]) + 0.3 * torch.randn(200)
    net = ss.MLP(
        2,
        [5],
        prior=ss.SSIG(inclusion=0.5),
        likelihood=ss.GaussianLikelihood(),
        input_inclusion=0.1,
    )
    fit = ss.fit(net, x, y, ss.TrainingOptions(epochs=150), progress=False)
    with torch.no_grad():
        fit.guide.gate_logits("input").copy_(torch.tensor([9.0, -9.0]))
    check = check_rivals(fit, x, y)
    assert check.verdict == "ok"
    assert check.finding.startswith("Weighed jointly, no predictor's inclusion")


def hardly_begun(x, y, hidden):
    net = ss.MLP(
        x.shape[1],
        hidden,
        prior=ss.SSIG(inclusion=0.5),
        likelihood=ss.GaussianLikelihood(),
        input_inclusion=0.3,
    )
    options = ss.TrainingOptions(epochs=1, dtype="float64", screen=False)
    return ss.fit(net, x, y, options, progress=False)


def test_where_a_law_would_take_hours_swaps_are_looked_at():
    torch.manual_seed(2)
    x = torch.randn(60, 3).double()
    x[:, 1] = x[:, 0]
    y = torch.sin(2 * x[:, 0])
    fit = hardly_begun(x, y, [64, 32])
    with torch.no_grad():
        fit.guide.gate_logits("input").copy_(torch.tensor([9.0, -9.0, -9.0]))
    check = check_rivals(fit, x, y)
    # The twin says exactly the same.
    assert [(p["in"], p["rival"]) for p in check.values["pairs"]] == [("x1", "x2")]
    assert check.values["pairs"][0]["log_odds"] == pytest.approx(0, abs=1e-6)


def test_scales_that_cannot_be_weighed_are_told():
    torch.manual_seed(3)
    x = torch.randn(60, 3).double()
    x[:, 2] *= 1e20
    y = torch.sin(2 * x[:, 0])
    with pytest.warns(MisfitWarning, match="far from unit scale"):
        fit = hardly_begun(x, y, [4])
    check = check_rivals(fit, x, y)
    assert check.verdict == "warning"
    assert "beyond double precision" in check.finding
