"""One contract for every prior with every likelihood: sites match, ELBOs agree, every parameter learns."""

import math

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceMeanField_ELBO
from torch.distributions import kl_divergence

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSGL,
    SSIG,
    AnalyticELBO,
    BernoulliLikelihood,
    CategoricalLikelihood,
    Gaussian,
    GaussianLikelihood,
    GroupHorseshoe,
    GroupLasso,
    PoissonLikelihood,
    StructuredGuide,
)
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides.scales import scale_guide

PRIORS = {
    "ss-ig": SSIG(inclusion=0.3),
    "ss-gl": SSGL(inclusion=0.3),
    "ss-ghs": SSGHS(inclusion=0.3),
    "ss-ghs-random-cap": SSGHS(inclusion=0.3, cap=None),
    "gaussian": Gaussian(),
    "group-lasso": GroupLasso(),
    "group-horseshoe": GroupHorseshoe(),
}
LIKELIHOODS = {
    "gaussian": GaussianLikelihood(),
    "known-noise": GaussianLikelihood(scale=0.5),
    "two-targets": GaussianLikelihood(num_targets=2),
    "categorical": CategoricalLikelihood(3),
    "bernoulli": BernoulliLikelihood(),
    "poisson": PoissonLikelihood(),
}
X = torch.randn(12, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
TARGETS = {
    "gaussian": X[:, 0],
    "known-noise": X[:, 0],
    "two-targets": X[:, :2],
    "categorical": torch.arange(12) % 3,
    "bernoulli": (X[:, 0] > 0).double(),
    "poisson": (torch.arange(12) % 4).double(),
}


@pytest.fixture(params=PRIORS)
def prior(request):
    return PRIORS[request.param]


gated_or_not = pytest.mark.parametrize(
    "input_inclusion", [None, 0.4], ids=["open-inputs", "gated-inputs"]
)


# Every pair of a prior and a likelihood; gates of the inputs in every other one, so that each has both.
PAIRS = [
    (name, target, (None, 0.4)[(row + column) % 2])
    for row, name in enumerate(PRIORS)
    for column, target in enumerate(LIKELIHOODS)
]


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def net(request):
    name, target, input_inclusion = request.param
    return network(PRIORS[name], target, input_inclusion)


def network(prior, target, input_inclusion):
    """A network, its guide, and targets."""
    torch.manual_seed(2)
    model = MLP(
        3,
        [4, 2],
        prior=prior,
        likelihood=LIKELIHOODS[target],
        output_prior=GroupHorseshoe() if prior.name == "ss-ghs" else None,
        activation="tanh",
        input_inclusion=input_inclusion,
    )
    # A narrow guide near the middle of the gates: every term matters, and the estimates have finite variance.
    guide = StructuredGuide(model, initial_inclusion=0.6, initial_scale=0.2).double()
    return model, guide, TARGETS[target]


def test_sites_match_in_name_order_and_shape(net):
    model, guide, y = net
    guide_trace = poutine.trace(guide).get_trace(X, y)
    model_trace = poutine.trace(model).get_trace(X, y)
    latent = [s for s in model_trace.stochastic_nodes if s in guide_trace.nodes]
    assert list(guide_trace.stochastic_nodes) == latent
    for site in latent:
        assert guide_trace.nodes[site]["value"].shape == model_trace.nodes[site]["value"].shape


def elbo_estimates(particles, net, rounds=20):
    """Mean and squared standard error of four estimators of the same bound."""
    model, guide, y = net
    for elbo in (
        Trace_ELBO(particles, vectorize_particles=True, max_plate_nesting=1),
        TraceMeanField_ELBO(particles, vectorize_particles=True, max_plate_nesting=1),
        AnalyticELBO(particles, local_reparameterization=True),
        AnalyticELBO(particles),
    ):
        losses = torch.tensor([elbo.loss(model, guide, X, y) for _ in range(rounds)]).double()
        yield losses.mean(), losses.var() / rounds


@gated_or_not
@pytest.mark.parametrize(
    ("prior_name", "target"),
    sorted({(p, "gaussian") for p in PRIORS} | {("ss-ig", name) for name in LIKELIHOODS}),
)
def test_both_pyro_elbos_and_ours_agree(prior_name, target, input_inclusion):
    """Pyro's two estimators, and ours with local reparameterisation, within three standard errors of ours.

    The bound is a sum of the likelihood's term and the prior's: each of them is tried beside one of the other.

    Over all the cases of this test one in 370 comparisons lies outside by chance: such a case must then hold on a
    fresh, four times larger sample (both fail by chance once in 140,000).
    """

    net = network(PRIORS[prior_name], target, input_inclusion)

    def largest_gap(particles):
        *others, (ours, our_error) = elbo_estimates(particles, net)
        return max(abs(mean - ours) / (error + our_error + 1e-24).sqrt() for mean, error in others)

    gap = largest_gap(600)
    if gap > 3:
        gap = largest_gap(2400)
    assert gap <= 3


def test_analytic_elbo_is_pyros_on_the_same_draw(net):
    model, guide, y = net
    losses = []
    for elbo in (TraceMeanField_ELBO(), AnalyticELBO()):
        torch.manual_seed(4)
        losses.append(elbo.loss(model, guide, X, y, num_data=30))
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_every_parameter_gets_a_finite_gradient(net):
    model, guide, y = net
    for local in (False, True):
        guide.zero_grad()
        AnalyticELBO(8, local_reparameterization=local).loss_and_grads(model, guide, X, y)
        for name, parameter in guide.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert (parameter.grad != 0).any(), name


def test_parameter_groups_hold_each_parameter_once(net):
    _, guide, _ = net
    grouped = [id(p) for group in guide.parameter_groups().values() for p in group]
    assert sorted(grouped) == sorted(id(p) for p in guide.parameters())


@torch.no_grad()
def test_state_dict_round_trips(net):
    model, guide, _ = net
    other = StructuredGuide(model).double()
    other.load_state_dict(guide.state_dict())
    torch.manual_seed(7)
    first = poutine.trace(guide).get_trace()
    torch.manual_seed(7)
    second = poutine.trace(other).get_trace()
    for site in first.stochastic_nodes:
        assert torch.equal(first.nodes[site]["value"], second.nodes[site]["value"])


def test_a_plain_svi_script_trains_it(net):
    model, guide, y = net
    before = {k: v.clone() for k, v in guide.state_dict().items()}
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    for _ in range(3):
        assert math.isfinite(svi.step(X, y))
    changed = [k for k, v in guide.state_dict().items() if not torch.equal(v, before[k])]
    assert set(changed) == set(before) - {"temperature"}


def test_mean_slab_scale_is_its_monte_carlo_mean(prior, check_mean):
    torch.manual_seed(3)
    model = MLP(3, [4], prior=prior, likelihood=GaussianLikelihood())
    guide = StructuredGuide(model).double()
    exact = guide.mean_slab_scale("hidden1")
    if prior.name in ("gaussian", "ss-ig"):
        assert exact is None
        return
    random_scales(guide)
    draws = many_draws(guide, 200_000)
    check_mean(drawn_slab_scale(prior, draws), guide.mean_slab_scale("hidden1"))


def random_scales(guide):
    """Latents of any medians, with wide guides."""
    with torch.no_grad():
        for module in (guide.hidden1.scales, guide.get_submodule("global")):
            for site in module.children():
                site.loc.normal_()
                site.log_scale.fill_(math.log(0.6))


def many_draws(guide, count):
    """Values of all sites, ``[count, ...]``; gates are open as a rule."""
    with pyro.plate("draws", count, dim=-2):
        nodes = poutine.trace(guide).get_trace().nodes
    return {name: node["value"] for name, node in nodes.items() if node["type"] == "sample"}


def drawn_slab_scale(prior, draws):
    local, shared = (
        {k.removeprefix(f"{scope}."): v for k, v in draws.items() if k.startswith(f"{scope}.")}
        for scope in ("hidden1", "global")
    )
    return prior.slab_scale(local, shared)


def test_mean_weights_are_their_monte_carlo_mean(prior, check_mean):
    torch.manual_seed(4)
    model = MLP(2, [3], prior=prior, likelihood=GaussianLikelihood())
    guide = StructuredGuide(model).double()
    random_scales(guide)
    draws = many_draws(guide, 200_000)
    t = drawn_slab_scale(prior, draws)
    weights = draws["hidden1.weight"] * (1 if t is None else t.unsqueeze(-1))
    check_mean(weights, guide.mean_weights("hidden1"))


def test_group_lasso_variances_and_weights_follow_what_scales_them():
    """A variance doubles where the penalty halves; the mean of t u stays where t moves; KLs feel neither."""
    model = MLP(3, [4], prior=PRIORS["ss-gl"], likelihood=GaussianLikelihood())
    guide = StructuredGuide(model).double()

    def at(penalty, variance):
        values = {"global.penalty": torch.tensor(penalty), "hidden1.variance": variance}
        given = poutine.condition(guide, data={k: v.double() for k, v in values.items()})
        nodes = poutine.trace(given).get_trace().nodes
        drawn = {k: n["value"] for k, n in nodes.items() if n["type"] == "sample"}
        matched = poutine.condition(model, data=drawn)
        prior = poutine.trace(matched).get_trace(torch.zeros(2, 3).double()).nodes
        return nodes, kl_divergence(
            nodes["hidden1.variance"]["fn"], prior["hidden1.variance"]["fn"]
        )

    variance = torch.tensor([0.5, 1.0, 2.0, 4.0])
    (first, kl), (second, other_kl) = at(4.0, variance), at(2.0, 3 * variance)
    medians = [n["hidden1.variance"]["fn"].base_dist.loc for n in (first, second)]
    torch.testing.assert_close(medians[1] - medians[0], torch.full((4,), math.log(2.0)).double())
    torch.testing.assert_close(kl, other_kl)
    means = [n["hidden1.weight"]["fn"].loc for n in (first, second)]
    torch.testing.assert_close(
        means[0] * variance.sqrt()[:, None], means[1] * (3 * variance).sqrt()[:, None]
    )


@pytest.mark.parametrize("prior_name", ["ss-ig", "ss-gl", "ss-ghs"])
def test_the_start_is_the_same_network_under_every_prior(prior_name):
    """Initial weights are divided by the initial slab scale, so that priors start from the same function."""
    model = MLP(50, [400], prior=PRIORS[prior_name], likelihood=GaussianLikelihood())
    guide = StructuredGuide(model)
    weights = guide.mean_weights("hidden1")[:, :-1]
    assert weights.var().item() == pytest.approx(2 / 50, rel=0.1)


def test_soft_gates_optimise_the_relaxed_objective(check_mean):
    """The KL keeps its closed form; Trace_ELBO weights it by the mean relaxed gate instead of the probability."""
    model = MLP(2, [1], prior=SSIG(inclusion=0.3), likelihood=GaussianLikelihood(scale=1.0))
    guide = StructuredGuide(model, hard=False, temperature=0.5, initial_inclusion=0.8).double()
    gate = poutine.trace(guide).get_trace().nodes["hidden1.gate"]["fn"]
    mean_gate = gate.rsample((400_000,)).mean()
    x = torch.zeros(1, 2, dtype=torch.float64)
    # One observation, weighted by nothing: what remains is the KL, as each objective sees it.
    terms = AnalyticELBO().terms(model, guide, x, torch.zeros(1).double())
    logits, prior_logit = gate.logits.item(), math.log(0.3 / 0.7)
    softplus = torch.nn.functional.softplus

    def gate_kl(weight):
        return (
            weight * (logits - prior_logit)
            - softplus(torch.tensor(logits).double())
            + softplus(torch.tensor(prior_logit).double())
        )

    gamma = gate.probs.item()
    assert terms.kl["hidden1.gate"].item() == pytest.approx(gate_kl(gamma).item())
    slab_kl = terms.kl["hidden1.weight"].item() / gamma
    trace = Trace_ELBO(200_000, vectorize_particles=True, max_plate_nesting=1)
    blocked = poutine.block(model, hide=["obs"])
    output_kl = terms.kl["output.weight"].item()
    expected = gate_kl(mean_gate) + mean_gate * slab_kl + output_kl
    estimates = torch.tensor([trace.loss(blocked, guide, x) for _ in range(12)]).double()
    check_mean(estimates, expected)
    # and it is a different number from the closed form's: the relaxed mean is not the probability
    assert abs(mean_gate - gamma) > 0.01


def test_predictive_works_in_parallel_and_one_by_one(net):
    model, guide, _ = net
    for parallel in (True, False):
        draws = Predictive(model, guide=guide, num_samples=5, parallel=parallel)(X)
        assert draws["obs"].shape[:1] == (5,)
        assert draws["obs"].isfinite().all()


def test_temperature_and_inclusion_are_checked():
    model = MLP(2, [1], prior=SSIG(), likelihood=GaussianLikelihood())
    with pytest.raises(ConfigurationError, match="temperature"):
        StructuredGuide(model, temperature=0.0)
    with pytest.raises(ConfigurationError, match="initial_inclusion"):
        StructuredGuide(model, initial_inclusion=1.0)


def test_a_prior_of_ones_own_without_a_guide_says_what_to_do():
    class Foreign:
        pass

    with pytest.raises(NotImplementedError, match=r"scale_guide\.register"):
        scale_guide(Foreign())
