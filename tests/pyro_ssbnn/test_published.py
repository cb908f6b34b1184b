"""The published presets: their loss from given parameters by formulas written here, their starts, their one rate."""

import math
from dataclasses import replace

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch.distributions import Gamma, LogNormal, kl_divergence

import pyro_ssbnn as ss
from pyro_ssbnn.distributions import PenalizedLogNormal
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference.optimizer import optimizer_of
from pyro_ssbnn.traces import random_sites

PRIORS = ("ss-ig", "ss-gl", "ss-ghs")
CONST = 0.5 * (1 + math.log(2 * math.pi))
SOFTPLUS = math.log1p(math.exp(-6))


def recipe_of(prior):
    """A small perceptron's preset in double precision, its parameters moved to random places."""
    recipe = ss.published.mlp(prior, 5, (4, 3), 3, num_data=90)
    recipe.guide.double()
    generator = torch.Generator().manual_seed(3)
    for name, parameter in recipe.guide.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        centre = -1.0 if name.endswith("log_scale") else 0.0
        parameter.data = centre + 0.5 * noise
    return recipe


# The published objective, term by term: g = inclusion, l = prior inclusion; (m, s) mean and sd of a logarithm.
def kl_bernoulli(g, l):  # noqa: E741
    return g * (g / l).log() + (1 - g) * ((1 - g) / (1 - l)).log()


def kl_normal(mu, sd, sd0=1.0):
    return math.log(sd0) - sd.log() - 0.5 + (sd**2 + mu**2) / (2 * sd0**2)


def kl_gamma(m, s, shape, log_rate, rate):
    return (
        -shape * (m + log_rate) - s.log() + math.lgamma(shape) + rate * (m + s**2 / 2).exp() - CONST
    )


def kl_inverse_gamma(m, s, shape, rate):
    lead = shape * (m - math.log(rate)) - s.log() + math.lgamma(shape)
    return lead + rate * (-m + s**2 / 2).exp() - CONST


def published_kl(prior, state, layers, inclusion):
    """KL of the whole network from the guide's parameters by name; one penalty or global scale for all layers."""

    def latent(name):
        return state[f"{name}.loc"], state[f"{name}.log_scale"].exp()

    total = torch.zeros((), dtype=torch.float64)
    if prior == "ss-gl":
        pm, ps = latent("global.penalty")
        total = total + kl_gamma(pm, ps, 4.0, math.log(2.0), 2.0)
        mean_log, mean = pm, (pm + ps**2 / 2).exp()
    if prior == "ss-ghs":
        total = total + kl_gamma(*latent("global.scale_a"), 0.5, 0.0, 1.0)
        total = total + kl_inverse_gamma(*latent("global.scale_b"), 0.5, 1.0)
    for layer, probability in zip(layers, [*inclusion, None], strict=True):
        mu, sd = latent(f"{layer}.weight")
        gate = torch.ones(len(mu), dtype=torch.float64)
        if probability is not None:
            gate = state[f"{layer}.gate.logits"].sigmoid()
            total = total + kl_bernoulli(gate, probability).sum()
        total = total + (gate * kl_normal(mu, sd).sum(1)).sum()
        if prior == "ss-gl":  # tau^2 ~ Gamma((m + 1)/2, rate penalty/2), its mean over q(penalty)
            shape = (mu.shape[1] + 1) / 2
            log_rate, rate = mean_log - math.log(2), mean / 2
            total = (
                total + kl_gamma(*latent(f"{layer}.scales.variance"), shape, log_rate, rate).sum()
            )
        if prior == "ss-ghs":
            total = total + kl_gamma(*latent(f"{layer}.scales.scale_a"), 0.5, 0.0, 1.0).sum()
            total = total + kl_inverse_gamma(*latent(f"{layer}.scales.scale_b"), 0.5, 1.0).sum()
    return total


def published_output(prior, draw, x, layers):
    """f at given draws of all latents: W = z t u with t = tau, or c s tau / sqrt(c^2 + s^2 tau^2) for c = 1."""
    for layer in layers:
        u, t = draw[f"{layer}.weight"], 1.0
        if prior == "ss-gl":
            t = draw[f"{layer}.variance"].sqrt()[:, None]
        if prior == "ss-ghs":
            s = (draw["global.scale_a"] * draw["global.scale_b"]).sqrt()
            tau = (draw[f"{layer}.scale_a"] * draw[f"{layer}.scale_b"]).sqrt()[:, None]
            t = s * tau / (1 + (s * tau) ** 2).sqrt()
        w = u * t
        if layer != layers[-1]:
            w = w * draw[f"{layer}.gate"][:, None]
        x = x @ w[:, :-1].T + w[:, -1]
        x = x if layer == layers[-1] else x * x.sigmoid()  # SiLU
    return x


@pytest.mark.parametrize("prior", PRIORS)
def test_loss_of_a_minibatch_is_that_of_the_formulas(prior):
    """Rows of a minibatch stand for n; one draw of all latents; every KL in closed form."""
    recipe = recipe_of(prior)
    model, guide = recipe.model, recipe.guide
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    torch.manual_seed(5)
    loss = float(ss.AnalyticELBO().loss(model, guide, x, y, num_data=90))
    torch.manual_seed(5)
    nodes = poutine.trace(guide).get_trace(x).nodes
    draw = {
        name: nodes[name]["value"].detach() for name in nodes if nodes[name]["type"] == "sample"
    }
    layers = ["hidden1", "hidden2", "output"]
    f = published_output(prior, draw, x, layers)
    nll = -(f.log_softmax(1)[range(6), y]).sum()
    state = {name: p.detach() for name, p in guide.named_parameters()}
    kl = published_kl(prior, state, layers, recipe.model.prior.inclusion)
    assert loss == pytest.approx(float(nll * 90 / 6 + kl), rel=1e-12)
    assert not any(site.startswith("output.global") for site in draw)


@pytest.mark.parametrize("prior", PRIORS)
def test_closed_form_kl_is_the_mean_of_its_draws(prior, check_mean):
    """KL of the whole network against log q - log p of draws, whatever the penalty's own draw."""
    recipe = recipe_of(prior)
    x = torch.zeros(1, 5, dtype=torch.float64)
    y = torch.zeros(1, dtype=torch.long)
    closed = sum(ss.AnalyticELBO().terms(recipe.model, recipe.guide, x, y).kl.values()).detach()
    ratios = []
    with pyro.plate("draws", 20_000, dim=-2), torch.no_grad():
        trace = poutine.trace(recipe.guide).get_trace(x)
        model = poutine.trace(poutine.replay(recipe.model, trace)).get_trace(x, y)
    for name in random_sites(trace):
        site, other = trace.nodes[name], model.nodes[name]
        ratio = site["fn"].log_prob(site["value"]) - other["fn"].log_prob(site["value"])
        ratios.append(ratio.reshape(20_000, -1).sum(1))
    check_mean(torch.stack(ratios).sum(0), closed)


def test_kl_over_a_random_rate(check_mean):
    """The mean over LogNormal rates of the KL given each rate, and that KL itself for a rate that is known."""
    m, v = torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
    rates = LogNormal(torch.tensor(-0.2, dtype=torch.float64), torch.tensor(0.5).double())
    shape = torch.tensor(2.5, dtype=torch.float64)
    draws = rates.sample((50_000,))
    each = kl_divergence(LogNormal(m, v), Gamma(shape, draws))
    q = PenalizedLogNormal(m, v, rates.loc, rates.mean)
    check_mean(each, kl_divergence(q, Gamma(shape, draws[0])))
    known = PenalizedLogNormal(m, v, draws[0].log(), draws[0])
    assert kl_divergence(known, Gamma(shape, draws[0])) == pytest.approx(float(each[0]), rel=1e-12)
    assert kl_divergence(q, Gamma(shape, draws[:7])).shape == (7,)
    assert q.expand((3, 2)).log_prob(torch.ones(3, 2)).shape == (3, 2)


def test_independent_scales_bound_is_the_same_for_every_elbo(check_mean):
    """Pyro's Trace_ELBO, which scores draws, and ours, which has closed forms, estimate one bound."""
    recipe = recipe_of("ss-gl")
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    ours, theirs = (
        torch.tensor([elbo.loss(recipe.model, recipe.guide, x, y) for _ in range(25)]).double()
        for elbo in (
            ss.AnalyticELBO(400),
            Trace_ELBO(400, vectorize_particles=True, max_plate_nesting=1),
        )
    )
    check_mean(theirs - ours, torch.zeros((), dtype=torch.float64))


def test_published_kl_of_a_global_scale_is_none_unless_it_is_one():
    """Theirs takes HalfCauchy(A)'s Gamma(1/2, rate 1/A^2) for a rate of 1/A and log A with the wrong sign."""
    m, v = torch.tensor(1.0).double(), torch.tensor(0.3).double()

    def theirs(a):
        return -math.log(a) + (m + v**2 / 2).exp() / a - 0.5 * (m + 2 * v.log() + 1.69315)

    def ours(a):
        prior = Gamma(torch.tensor(0.5).double(), torch.tensor(a**-2).double())
        return float(kl_divergence(LogNormal(m, v), prior))

    assert float(theirs(1.0)) == pytest.approx(ours(1.0), abs=1e-5)  # they round log(2) + 1
    assert theirs(50.0) < 0 < ours(50.0)


def test_starting_values():
    recipe = ss.published.mlp("ss-gl", 200, (300,), 10, num_data=1000)
    state = recipe.guide.state_dict()
    assert torch.allclose(state["hidden1.gate.logits"].sigmoid(), torch.tensor(0.99))
    sds = {name: v.exp() for name, v in state.items() if name.endswith("log_scale")}
    assert all(torch.allclose(sd, torch.tensor(SOFTPLUS)) for sd in sds.values())
    assert float(state["global.penalty.loc"]) == 1.0
    medians = state["hidden1.scales.variance.loc"]
    assert medians.abs().max() <= 0.6
    assert medians.var() == pytest.approx(1.2**2 / 12, rel=0.3)
    means = state["hidden1.weight.loc"][:, :-1]  # fan-in as they count it: the width
    assert means.var() == pytest.approx(2 / 300, rel=0.03)
    assert means.abs().max() <= math.sqrt(6 / 300)
    lenet = ss.published.lenet("ss-ghs").guide.state_dict()
    assert lenet["conv2.weight.loc"][:, :-1].var() == pytest.approx(2 / 500, rel=0.03)
    again = ss.published.mlp("ss-gl", 200, (300,), 10, num_data=1000).guide.state_dict()
    assert all(torch.equal(state[name], again[name]) for name in state)


def test_theory_inclusion_of_the_presets():
    inclusion = ss.published.mlp().model.prior.inclusion
    assert inclusion == pytest.approx((1.5e-3, 2.3e-3), rel=0.05)
    first, second, third, fourth = ss.published.lenet().model.prior.inclusion
    assert (first, second) == (third, fourth)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_one_rate_moves_all_parameters_alike(optimizer):
    recipe = recipe_of("ss-ghs")
    options = ss.TrainingOptions(optimizer=optimizer, rate=1e-3)
    x, y = torch.randn(9, 5, dtype=torch.float64), torch.arange(9) % 3
    ss.AnalyticELBO().loss_and_grads(recipe.model, recipe.guide, x, y)
    before = {name: p.detach().clone() for name, p in recipe.guide.named_parameters()}
    optimizer_of(recipe.guide, options, 9, torch.device("cpu")).step()
    for name, parameter in recipe.guide.named_parameters():
        gradient = parameter.grad.sign() if optimizer == "adam" else parameter.grad
        moved = parameter.detach() - before[name]
        assert torch.allclose(moved, -1e-3 * gradient, rtol=1e-4, atol=1e-9), name


def test_fit_keeps_the_recipe(tmp_path):
    """Rates stay as they are to the end, nothing leaves; a saved fit is the same guide and network again."""
    recipe = ss.published.mlp("ss-gl", 5, (4, 3), 3, num_data=60)
    x, y = torch.randn(60, 5), torch.arange(60) % 3
    options = replace(recipe.options, epochs=3, batch_size=30)
    with pytest.warns(ss.errors.ShortRunWarning):
        result = ss.fit(recipe.model, x, y, options, guide=recipe.guide, progress=False)
    assert {group["lr"] for group in result.optimizer_state["param_groups"]} == {1e-3}
    assert not result.history.removed
    ss.save_fit(result, tmp_path / "fit.safetensors")
    again = ss.load_fit(tmp_path / "fit.safetensors")
    assert type(again.guide) is ss.PublishedGuide
    assert again.model.description == result.model.description
    narrow = {"hidden1": torch.tensor([0, 2])}
    smaller = result.guide.narrowed(result.model.narrowed(narrow), narrow)
    assert smaller.independent_scales
    kept = result.guide.hidden1.scales.variance.loc[[0, 2]]
    assert torch.equal(smaller.hidden1.scales.variance.loc, kept)


def test_prior_of_the_whole_network():
    likelihood = ss.CategoricalLikelihood(3)
    prior = ss.SSGHS(inclusion=0.2, global_scale=0.3, scope="network")
    net = ss.MLP(4, [5], prior=prior, likelihood=likelihood)
    assert net.output_prior == ss.GroupHorseshoe(global_scale=0.3, scope="network")
    sites = poutine.trace(net).get_trace(torch.zeros(2, 4)).stochastic_nodes
    assert [s for s in sites if "global" in s] == ["global.scale_a", "global.scale_b"]
    assert "output.scale_a" in sites
    again = ss.MLP.from_config(net.to_config())
    assert again.description == net.description
    with pytest.raises(ConfigurationError, match="scope='network'"):
        ss.MLP(4, [5], prior=prior, likelihood=likelihood, output_prior=ss.Gaussian())
    with pytest.raises(ConfigurationError, match="'hidden' or 'network'"):
        ss.SSGHS(scope="all")
    assert ss.GroupLasso(penalty_rate=3.0).ungated() == ss.GroupLasso(penalty_rate=3.0)


def test_residual_network():
    """One prior for all layers, descent for every parameter, shortcuts with gates."""
    recipe = ss.published.resnet(20, "ss-gl")
    groups = {g.name: g for g in recipe.model.description.groups}
    assert groups["stage3_block1_shortcut"].gated
    assert recipe.model.description.num_weights == 268_346 + 16 * 32 + 32 * 64
    assert recipe.model.output_prior == ss.GroupLasso(scale=0.2, scope="network")
    assert set(recipe.model.description.scopes) == {"global"}
    kernel = recipe.guide.state_dict()["stage3_block2_conv1.weight.loc"]
    assert kernel[:, :-2].var() == pytest.approx(2 / (64 * 9), rel=0.03)
    assert (kernel[:, -2:] == torch.tensor([1.0, 0.0])).all()
    optimizer = optimizer_of(recipe.guide, recipe.options, 50_000, torch.device("cpu"))
    (descent,) = optimizer.parts
    assert type(descent) is torch.optim.SGD
    assert {(g["lr"], g["momentum"]) for g in descent.param_groups} == {(0.1, 0.9)}
    with pytest.raises(ConfigurationError, match="below 44"):
        ss.published.resnet(44)


def test_fine_tuning_keeps_one_draw():
    recipe = ss.published.resnet(8, "ss-ghs", (1, 8, 8), 3)
    x, y = torch.randn(32, 64), torch.arange(32) % 3
    options = replace(recipe.options, epochs=2, batch_size=16)
    result = ss.fit(recipe.model, x, y, options, guide=recipe.guide, progress=False)
    selection = ss.published.last_draw(result)
    shares = [len(kept) / selection.sizes[name] for name, kept in selection.kept.items()]
    assert sum(shares) / len(shares) > 0.9  # inclusion is 0.99 still
    short = replace(recipe.fine_tuning, epochs=1, batch_size=16)
    tuned = ss.fine_tune(result, x, y, short, selection=selection, progress=False)
    for name, inclusion in tuned.guide.inclusion().items():
        assert torch.equal(inclusion > 0.5, selection.mask(name))


def test_unknown_prior():
    with pytest.raises(ConfigurationError, match="'ss-ig', 'ss-gl' or 'ss-ghs'"):
        ss.published.mlp("horseshoe")
