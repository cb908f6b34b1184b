"""Fixed points of gates: closed forms of linear networks, and a joint enumeration of a small network."""

import math

import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides import CLOSED_LOGIT

X = torch.randn(30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
NOISE = torch.randn(30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = X[:, 0] + 0.3 * X[:, 1] + 0.7 * NOISE


def linear():
    """A linear network with a mean-field guide of given laws."""
    net = ss.MLP(
        3,
        [],
        prior=ss.Gaussian(),
        output_prior=ss.Gaussian(scale=0.5),
        likelihood=ss.GaussianLikelihood(scale=0.7),
        input_inclusion=0.3,
    )
    guide = ss.StructuredGuide(net).double()
    with torch.no_grad():
        guide.input.logits.copy_(torch.tensor([3.0, -0.5, -1.0]))
        guide.output.weight.loc.copy_(torch.tensor([[0.9, 0.3, -0.1, 0.05]]))
        guide.output.weight.log_scale.copy_(torch.tensor([[-2.0, -1.8, -1.5, -2.0]]))
    return net, guide


def closed_form(guide):
    """E over all else of the gain of opening each gate, less its KL: everything is quadratic."""
    mean, scale = (
        guide.output.weight.loc[0].detach(),
        guide.output.weight.log_scale[0].detach().exp(),
    )
    inclusion = guide.inclusion()["input"]
    found = []
    for i in range(3):
        others = inclusion.clone()
        others[i] = 0
        residual = Y - X @ (others * mean[:3]) - mean[3]
        gain = mean[i] * (X[:, i] @ residual)
        gain = gain - 0.5 * X[:, i].square().sum() * (mean[i] ** 2 + scale[i] ** 2)
        kl = (scale[i] ** 2 + mean[i] ** 2) / (2 * 0.25) - (scale[i] / 0.5).log() - 0.5
        found.append(math.log(0.3 / 0.7) + gain / 0.49 - kl)
    return torch.stack(found)


def test_fixed_points_of_a_linear_network_are_those_in_closed_form():
    net, guide = linear()
    evidence = ss.gate_evidence(net, guide, X, Y, num_draws=4000)["input"]
    expected = closed_form(guide)
    score = (evidence.fixed_point - expected) / evidence.error
    assert (score.abs() < 4.5).all()
    assert (evidence.error < 0.2).all()
    assert torch.allclose(evidence.log_bayes_factor, evidence.fixed_point - math.log(0.3 / 0.7))
    gap = guide.inclusion()["input"] - evidence.fixed_point.sigmoid()
    assert torch.allclose(evidence.distance, gap)


def test_error_covers_the_scatter_between_seeds():
    net, guide = linear()
    runs = [
        ss.gate_evidence(net, guide, X, Y, num_draws=64, seed=seed)["input"] for seed in range(40)
    ]
    scatter = torch.stack([run.fixed_point for run in runs]).std(0)
    error = torch.stack([run.error for run in runs]).mean(0)
    assert ((scatter / error - 1).abs() < 0.5).all()  # a ratio of 40 runs varies by 0.11


def test_a_fixed_point_raises_the_bound_in_a_network():
    """The bound as a function of one logit, on the same draws, is highest at its fixed point."""
    net = ss.MLP(
        3, [3], prior=ss.SSIG(inclusion=0.4), likelihood=ss.GaussianLikelihood(scale=0.7),
        activation="tanh", input_inclusion=0.3,
    )  # fmt: skip
    options = ss.TrainingOptions(
        epochs=80, batch_size=30, num_particles=4, remove_below=None, dtype="float64"
    )
    fitted = ss.fit(net, X, Y, options, progress=False)
    guide = fitted.guide
    evidence = ss.gate_evidence(net, guide, X, Y, num_draws=1500)
    for name, site in (("input", guide.input), ("hidden1", guide.hidden1.gate)):
        member = int(evidence[name].logits.abs().argmin())  # the least decided
        bounds = []
        for shift in (-2.0, 0.0, 2.0):
            with torch.no_grad():
                before = site.logits[member].clone()
                site.logits[member] = evidence[name].fixed_point[member] + shift
                bounds.append(ss.evaluate_bound(net, guide, X, Y, num_draws=3000))
                site.logits[member] = before
        inclusion = (evidence[name].fixed_point[member] + torch.tensor([-2.0, 0.0, 2.0])).sigmoid()
        # A logit that is off by d costs KL(Bernoulli(off) || Bernoulli(best)).
        best = inclusion[1]
        for off, bound in zip(inclusion, bounds, strict=True):
            loss = off * (off / best).log() + (1 - off) * ((1 - off) / (1 - best)).log()
            # The fixed point's own error costs its square, times gamma (1 - gamma) / 2 at most 1/8.
            error = 4.5 * math.hypot(bound.error, bounds[1].error) + 0.05
            assert bounds[1].elbo - bound.elbo == pytest.approx(float(loss), abs=error)


def test_settled_guides_are_at_their_optimum():
    net, _ = linear()
    guide = ss.BlockGuide(net).double()
    ss.settle(net, guide, X, Y)
    evidence = ss.gate_evidence(net, guide, X, Y)["input"]
    assert torch.equal(evidence.distance, torch.zeros(3).double())
    assert torch.equal(evidence.error, torch.zeros(3).double())


def test_removed_members_have_no_evidence_and_rows_are_scaled():
    net, guide = linear()
    with torch.no_grad():
        guide.input.logits[2] = CLOSED_LOGIT
    evidence = ss.gate_evidence(net, guide, X, Y, num_draws=500)["input"]
    assert evidence.fixed_point.isnan().tolist() == [False, False, True]
    assert evidence.distance[:2].isfinite().all()
    twice = ss.gate_evidence(net, guide, X.repeat(2, 1), Y.repeat(2), num_draws=500, max_rows=60)[
        "input"
    ]
    half = ss.gate_evidence(net, guide, X.repeat(2, 1), Y.repeat(2), num_draws=500, max_rows=30)[
        "input"
    ]
    # Half of the rows say twice as much each; which rows is chance.
    assert abs(float(half.fixed_point[0] - twice.fixed_point[0])) < 0.5 * abs(
        float(twice.fixed_point[0])
    )


def test_tables_take_the_evidence():
    net, guide = linear()
    evidence = ss.gate_evidence(net, guide, X, Y)
    table = ss.inclusion_summary(guide, evidence=evidence)
    assert table["log_bayes_factor"].tolist() == evidence["input"].log_bayes_factor.tolist()
    assert table["log_bayes_factor_error"].tolist() == evidence["input"].error.tolist()
    assert "log_bayes_factor_error" not in ss.inclusion_summary(guide)


def test_misuse_is_refused_and_the_process_stays(process_unchanged):
    net, guide = linear()
    with pytest.raises(ConfigurationError, match="at least 8"):
        ss.gate_evidence(net, guide, X, Y, num_draws=4)
    with process_unchanged():
        ss.gate_evidence(net, guide, X, Y, num_draws=8)
