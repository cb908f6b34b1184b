"""The evidence for a gate is the difference of its two branches, exactly where all can be summed."""

import itertools
import math
import warnings
from dataclasses import replace

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from pyro_ssbnn import (
    MLP,
    SSIG,
    CoupledGuide,
    GaussianLikelihood,
    StructuredGuide,
    TrainingOptions,
    fine_tune,
    fit,
)
from pyro_ssbnn.errors import CollapseWarning, ConfigurationError
from pyro_ssbnn.guides.members import CLOSED_LOGIT
from pyro_ssbnn.inference.evaluation import evaluate_bound
from pyro_ssbnn.inference.gate_evidence import GateEvidence, branch_evidence
from pyro_ssbnn.inference.gates import ascend
from pyro_ssbnn.posterior.draws import evaluating

NOISE, SLAB = 0.4, 0.8


def evidence_of(net, guide, x, y, *, num_data, num_draws):
    groups = net.description.gate_groups
    with torch.no_grad(), evaluating(net, guide):
        return branch_evidence(net, guide, groups, (x, y), num_data, num_draws)


def problem(hidden=(3,), activation="tanh"):
    """A network with sure weights: what is random is its gates."""
    torch.manual_seed(3)
    net = MLP(
        2,
        list(hidden),
        prior=SSIG(inclusion=0.3, scale=SLAB),
        likelihood=GaussianLikelihood(scale=NOISE),
        input_inclusion=0.2,
        activation=activation,
    ).double()
    guide = StructuredGuide(net).double()
    with torch.no_grad():
        for group in net.description.groups:
            weight = getattr(guide, group.name).weight
            weight.loc.copy_(torch.randn_like(weight.loc))
            weight.log_scale.fill_(math.log(1e-9))
        guide.gate_logits("input").copy_(torch.tensor([0.7, -1.2]))
        if hidden:
            guide.gate_logits("hidden1").copy_(torch.tensor([1.5, -0.4, 0.1]))
    x = torch.randn(12, 2, dtype=torch.float64)
    return net, guide, x, torch.randn(12, dtype=torch.float64)


def exact(net, guide, x, y, name, member):
    """Delta, by summing over all gates."""
    logits = {g: guide.gate_logits(g).detach() for g in ("input", "hidden1")}
    sizes = [len(each) for each in logits.values()]
    odds = torch.cat(list(logits.values())).sigmoid()
    at = member + (0 if name == "input" else sizes[0])
    first, last = guide.hidden1.weight.loc.detach(), guide.output.weight.loc.detach()

    def log_likelihood(z):
        z_in, z_hidden = z[: sizes[0]], z[sizes[0] :]
        h = torch.tanh((x * z_in) @ first[:, :-1].T + first[:, -1]) * z_hidden
        f = (h @ last[:, :-1].T + last[:, -1]).squeeze(-1)
        return Normal(f, NOISE).log_prob(y).sum()

    def kl_of(z):
        """KL of the first layer's weights, each counted where node and column are open."""
        law, prior = Normal(first, guide.hidden1.weight.log_scale.exp().detach()), Normal(0.0, SLAB)
        columns = torch.cat([z[: sizes[0]], z.new_ones(1)])
        return (kl_divergence(law, prior) * z[sizes[0] :].unsqueeze(-1) * columns).sum()

    total = 0.0
    for others in itertools.product((0.0, 1.0), repeat=len(odds) - 1):
        z = torch.tensor([*others[:at], 1.0, *others[at:]], dtype=torch.float64)
        chance = torch.where(z > 0, odds, 1 - odds)
        chance[at] = 1.0
        closed = z.clone()
        closed[at] = 0.0
        gain = log_likelihood(z) - log_likelihood(closed) - kl_of(z) + kl_of(closed)
        total += float(chance.prod() * gain)
    return total


def test_evidence_is_the_exact_difference_of_the_branches(check_mean):
    net, guide, x, y = problem()
    found = [evidence_of(net, guide, x, y, num_data=12, num_draws=400) for _ in range(8)]
    for name, size in (("input", 2), ("hidden1", 3)):
        wanted = torch.tensor([exact(net, guide, x, y, name, j) for j in range(size)])
        check_mean(torch.stack([each[name].log_bayes_factor for each in found]), wanted)
        spread = torch.stack([each[name].log_bayes_factor for each in found]).std(0)
        stated = torch.stack([each[name].error for each in found]).mean(0)
        assert (spread < 2.5 * stated + 1e-9).all()  # 8 repeats


def test_the_slope_of_the_bound_is_the_evidence_minus_the_gates_own_log_odds():
    """dL/dgamma = Delta - logit gamma + logit lambda, by central differences of the evaluated bound."""
    net, guide, x, y = problem()
    evidence = evidence_of(net, guide, x, y, num_data=12, num_draws=20_000)
    logits = guide.gate_logits("hidden1")
    gamma, width = float(guide.inclusion()["hidden1"][0]), 0.02
    bounds = []
    for sign in (1, -1):
        with torch.no_grad():
            logits[0] = math.log((gamma + sign * width) / (1 - gamma - sign * width))
        bounds.append(evaluate_bound(net, guide, x, y, num_draws=20_000, seed=1))
    slope = (bounds[0].elbo - bounds[1].elbo) / (2 * width)
    prior = net.description["hidden1"].prior_logit
    wanted = float(evidence["hidden1"].log_bayes_factor[0]) - math.log(gamma / (1 - gamma)) + prior
    error = math.hypot(bounds[0].error, bounds[1].error) / (2 * width)
    assert slope == pytest.approx(wanted, abs=4 * math.hypot(error, evidence["hidden1"].error[0]))


def test_a_sample_of_the_rows_counts_for_all():
    net, guide, x, y = problem()
    whole = evidence_of(net, guide, x, y, num_data=12, num_draws=4_000)
    halves = [
        evidence_of(net, guide, x[part], y[part], num_data=12, num_draws=4_000)
        for part in (slice(None, 6), slice(6, None))
    ]
    for name in whole:
        mean = sum(each[name].log_bayes_factor for each in halves) / 2
        combined = (
            sum(each[name].error.square() for each in halves) / 4 + whole[name].error.square()
        ).sqrt()
        assert ((mean - whole[name].log_bayes_factor).abs() < 4.5 * combined + 1e-9).all()


def test_the_slope_at_an_open_gate_misleads_where_the_evidence_does_not():
    """y follows one period of a wave: at the open gate the likelihood does not rise with x's scale."""
    x = torch.linspace(-1, 1, 40, dtype=torch.float64).unsqueeze(-1)
    y = torch.sin(2 * math.pi * x[:, 0])
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    log_likelihood = Normal(torch.sin(2 * math.pi * scale * x[:, 0]), 0.3).log_prob(y).sum()
    (slope,) = torch.autograd.grad(log_likelihood, scale)
    gain = log_likelihood.detach() - Normal(torch.zeros_like(y), 0.3).log_prob(y).sum()
    assert abs(float(slope)) < 1e-9  # the fit is perfect, so the slope is 0 ...
    assert float(gain) > 100  # ... and the branches lie far apart


def test_gates_closed_for_good_have_no_evidence_and_do_not_move():
    net, guide, x, y = problem()
    guide.close({"hidden1": torch.tensor([1])})
    evidence = evidence_of(net, guide, x, y, num_data=12, num_draws=8)
    assert evidence["hidden1"].log_bayes_factor.isnan().tolist() == [False, True, False]
    before = guide.inclusion_logits("hidden1").clone()
    ascend(guide, evidence, {"hidden1"}, most=100.0)
    after = guide.inclusion_logits("hidden1")
    assert after[1] == CLOSED_LOGIT
    assert (after[[0, 2]] != before[[0, 2]]).all()


def test_ascent_moves_by_at_most_so_much_and_ends_at_prior_odds_plus_evidence():
    _, guide, *_ = problem()
    zero, prior = torch.zeros(3, dtype=torch.float64), math.log(0.3 / 0.7)
    evidence = {
        "input": GateEvidence(zero[:2], torch.tensor([1.0, -1.0]).double(), zero[:2], prior),
        "hidden1": GateEvidence(zero, prior + torch.tensor([2.0, -3.0, 100.0]), zero, prior),
    }
    start = guide.inclusion_logits("hidden1").clone()
    inputs = guide.inclusion_logits("input").clone()
    ascend(guide, evidence, {"hidden1"}, most=0.3)
    assert ((guide.inclusion_logits("hidden1") - start).abs() - 0.3 < 1e-9).all()
    torch.testing.assert_close(guide.inclusion_logits("input"), inputs, rtol=0, atol=0)
    for _ in range(100):
        ascend(guide, evidence, {"hidden1"}, most=0.3)
    wanted = torch.tensor([prior + 2.0, prior - 3.0, 12.0]).double()
    torch.testing.assert_close(guide.inclusion_logits("hidden1"), wanted)


def test_evidence_leaves_network_guide_and_gradients_as_they_were():
    net, guide, x, y = problem()
    before = {name: value.clone() for name, value in guide.state_dict().items()}
    modes = [module.training for module in net.modules()]
    evidence_of(net, guide, x, y, num_data=12, num_draws=8)
    for name, value in guide.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(parameter.grad is None for parameter in guide.parameters())
    assert modes == [module.training for module in net.modules()]


def test_ascent_of_dependent_gates_is_refused():
    net, _, x, y = problem()
    coupled = CoupledGuide(net).double()
    options = TrainingOptions(epochs=2, gate_method="ascent", dtype="float64", compile=False)
    with pytest.raises(ConfigurationError, match="gate_method='ascent' asks for hard gates"):
        fit(net, x, y, options, guide=coupled, progress=False)


@pytest.mark.filterwarnings("ignore::pyro_ssbnn.errors.CollapseWarning")  # y is noise
def test_dependent_and_soft_gates_follow_the_gradient():
    net, _, x, y = problem()
    options = {"epochs": 2, "dtype": "float64", "compile": False}
    coupled = fit(net, x, y, TrainingOptions(**options), guide=CoupledGuide, progress=False)
    soft = fit(net, x, y, TrainingOptions(**options, hard_gates=False), progress=False)
    plain = fit(net, x, y, TrainingOptions(**options), progress=False)
    methods = [each.options.gate_method for each in (coupled, soft, plain)]
    assert methods == ["gradient", "gradient", "ascent"]


def test_fine_tuning_leaves_fixed_gates_alone():
    net, _, x, y = problem()
    options = TrainingOptions(epochs=40, dtype="float64", compile=False)
    fitted = fit(net, x, y, options, progress=False)
    tuned = fine_tune(fitted, x, y, progress=False)
    for inclusion in tuned.guide.inclusion().values():
        assert ((inclusion == 0) | (inclusion == 1)).all() or (
            inclusion * (1 - inclusion) < 1e-12
        ).all()
    assert tuned.history.kl_weight == [1.0] * len(tuned.history)


@pytest.mark.filterwarnings("ignore::pyro_ssbnn.errors.CollapseWarning")
def test_fine_tuning_holds_every_gate_whatever_pulls_at_it():
    """Also gates that are not sure of themselves, whose gradient is not 0."""
    net, _, x, y = problem()
    fitted = fit(
        net, x, y, TrainingOptions(epochs=3, dtype="float64", compile=False), progress=False
    )
    tuned = fine_tune(fitted, x, y, progress=False)
    rates = {g["kind"]: g["base_rate"] for g in tuned.optimizer_state["param_groups"]}
    assert {kind for kind, rate in rates.items() if rate == 0} == {"gates.input", "gates.hidden1"}


def test_a_run_of_dependent_gates_is_resumed_at_its_own_defaults():
    net, _, x, y = problem()
    options = TrainingOptions(epochs=2, dtype="float64", compile=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        half = fit(net, x, y, options, guide=CoupledGuide, progress=False)
        whole = fit(net, x, y, replace(options, epochs=4), resume=half, progress=False)
    assert len(whole.history) == 4
    assert whole.options.gate_hold == (0.0, 0.0)
