"""The coupled guide: the contract of every guide, its limit, the exact posterior it holds, its unbiased gradient."""

import itertools
import math

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSGL,
    SSIG,
    AnalyticELBO,
    Gaussian,
    GaussianLikelihood,
    StructuredGuide,
    TrainingOptions,
    draw_posterior,
    fit,
    load_fit,
    prune,
    save_fit,
    select,
)
from pyro_ssbnn.distributions import CoupledGate, Gate
from pyro_ssbnn.distributions.coupled import gate_table
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.exact import linear_evidence
from pyro_ssbnn.guides import CoupledGuide
from pyro_ssbnn.guides.scales import scale_guide
from pyro_ssbnn.inference.step import CompiledStep, EagerStep
from pyro_ssbnn.posterior.weights import mean_weights
from pyro_ssbnn.selection.pruning import draw_open_weights

X = torch.randn(12, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = X[:, 0] - 0.5 * X[:, 1]
PRIORS = {p.name: p for p in (SSIG(inclusion=0.3), SSGL(inclusion=0.3), SSGHS(inclusion=0.3))}
COUPLINGS = ("coupling", "regression", "mean_response", "scale_response", "centring")


def network(prior=PRIORS["ss-ig"], hidden=(4, 2), input_inclusion=0.4, likelihood=None):
    likelihood = likelihood or GaussianLikelihood()
    return MLP(
        3, list(hidden), prior=prior, likelihood=likelihood, activation="tanh",
        input_inclusion=input_inclusion,
    )  # fmt: skip


def randomised(guide, size=0.4):
    """Couplings away from zero, and gates near the middle: every term matters."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in guide.named_parameters():
            if name.endswith((*COUPLINGS, "logits")):
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(size * noise)
    return guide


@pytest.fixture(params=PRIORS)
def prior(request):
    return PRIORS[request.param]


@pytest.fixture(params=[None, 0.4], ids=["open-inputs", "gated-inputs"])
def net(request, prior):
    torch.manual_seed(2)
    model = network(prior, input_inclusion=request.param)
    return model, randomised(CoupledGuide(model, initial_scale=0.2).double())


def test_sites_match_in_name_order_and_shape(net):
    model, guide = net
    guide_trace = poutine.trace(guide).get_trace(X, Y)
    model_trace = poutine.trace(model).get_trace(X, Y)
    latent = [s for s in model_trace.stochastic_nodes if s in guide_trace.nodes]
    assert list(guide_trace.stochastic_nodes) == latent
    for site in latent:
        assert guide_trace.nodes[site]["value"].shape == model_trace.nodes[site]["value"].shape


def estimates(net, particles, rounds=20):
    """Mean and squared standard error of four estimators of the same bound, ours last."""
    for elbo in (
        Trace_ELBO(particles, vectorize_particles=True, max_plate_nesting=1),
        TraceMeanField_ELBO(particles, vectorize_particles=True, max_plate_nesting=1),
        AnalyticELBO(particles, local_reparameterization=True),  # of the layers that do not respond
        AnalyticELBO(particles),
    ):
        losses = torch.tensor([elbo.loss(*net, X, Y) for _ in range(rounds)]).double()
        yield losses.mean(), losses.var() / rounds


def test_both_pyro_elbos_and_ours_agree(net):
    """Within three standard errors; a case outside by chance must hold on a fresh, four times larger sample."""

    def largest_gap(particles):
        *others, (ours, error) = estimates(net, particles)
        return max(abs(mean - ours) / (own + error).sqrt() for mean, own in others)

    gap = largest_gap(600)
    if gap > 3:
        gap = largest_gap(2400)
    assert gap <= 3


def test_every_parameter_gets_a_finite_gradient(net):
    model, guide = net
    AnalyticELBO(8).loss_and_grads(model, guide, X, Y)
    for name, parameter in guide.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad != 0).any(), name


def test_parameter_groups_hold_each_parameter_once(net):
    _, guide = net
    grouped = [id(p) for group in guide.parameter_groups().values() for p in group]
    assert sorted(grouped) == sorted(id(p) for p in guide.parameters())
    assert set(guide.parameter_axes()) == set(guide.state_dict())


@torch.no_grad()
def test_state_dict_round_trips(net):
    model, guide = net
    other = CoupledGuide(model).double()
    other.load_state_dict(guide.state_dict())
    traces = []
    for each in (guide, other):
        torch.manual_seed(7)
        traces.append(poutine.trace(each).get_trace())
    for site in traces[0].stochastic_nodes:
        assert torch.equal(traces[0].nodes[site]["value"], traces[1].nodes[site]["value"])


def test_a_plain_svi_script_trains_it(net):
    model, guide = net
    before = {k: v.clone() for k, v in guide.state_dict().items()}
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
    for _ in range(20):  # so that every gate was open and closed
        assert math.isfinite(svi.step(X, Y))
    changed = {k for k, v in guide.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == set(before) - {"temperature"}


@torch.no_grad()
def test_without_couplings_it_is_the_structured_guide(prior):
    """Inclusion, every closed-form KL, and the log-density of every site at given values are the same."""
    model = network(prior)
    torch.manual_seed(3)
    plain = StructuredGuide(model, initial_inclusion=0.6).double()
    torch.manual_seed(3)
    coupled = CoupledGuide(model).double()
    if scale_guide(prior).centred:  # the plain guide's means follow 1/t; here kappa says what does
        for group in model.description.groups:
            weights = (g.mean_weights(group.name) for g in (coupled, plain))
            torch.testing.assert_close(*weights)
        return
    state = {**coupled.state_dict(), **plain.state_dict()}
    assert all((state[name] == 0).all() for name in state if name.endswith(COUPLINGS))
    coupled.load_state_dict(state)
    for name, probability in plain.inclusion().items():
        torch.testing.assert_close(coupled.inclusion()[name], probability)
    elbo = AnalyticELBO()
    kls = [elbo.terms(model, guide, X, Y).kl for guide in (plain, coupled)]
    for site, value in kls[0].items():
        if site.endswith(
            (".gate", ".weight")
        ):  # those of local scales depend on the shared one's draw
            torch.testing.assert_close(kls[1][site], value, rtol=1e-10, atol=1e-12)
    trace = poutine.trace(plain).get_trace()
    replayed = poutine.trace(poutine.replay(coupled, trace=trace)).get_trace()
    for site in trace.stochastic_nodes:
        first, second = (
            t.nodes[site]["fn"].log_prob(t.nodes[site]["value"]) for t in (trace, replayed)
        )
        torch.testing.assert_close(second.sum(), first.sum(), rtol=1e-10, atol=1e-12)


def gate_law(size=4):
    torch.manual_seed(6)
    return torch.randn(size).double(), 1.5 * torch.randn(2**size).double()


def test_the_gates_law_is_normalised_and_its_kl_exact():
    logits, residual = gate_law()
    law, table = CoupledGate(logits, residual), gate_table(4, logits)
    assert law.log_prob(table).sum(-1).exp().sum().item() == pytest.approx(1, rel=1e-12)
    for index, row in enumerate(
        itertools.product((0.0, 1.0), repeat=4)
    ):  # the definition, gate by gate
        gates = torch.tensor(row[::-1]).double()
        assert torch.equal(table[index], gates)
        ratio = law.log_prob(gates).sum() - law.log_prob(table[0]).sum()
        expected = (
            sum(b for b, z in zip(logits, gates, strict=True) if z) + residual[index] - residual[0]
        )
        assert float(ratio) == pytest.approx(float(expected), rel=1e-9, abs=1e-9)
    prior = Gate(torch.full((4,), -0.7).double())
    kl = (law.table_log_prob().exp() * (law.table_log_prob() - prior.log_prob(table).sum(-1))).sum()
    assert torch.distributions.kl_divergence(law, prior).sum().item() == pytest.approx(kl.item())


def test_drawn_gates_follow_the_law(check_mean):
    law = CoupledGate(*gate_law()).expand([50_000, 4])
    draws = law.sample()
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    check_mean(draws, law.mean)
    pairs = law.table.unsqueeze(-1) * law.table.unsqueeze(-2)
    expected = (law.table_log_prob().exp() @ pairs.flatten(1)).view(4, 4)
    check_mean(draws.unsqueeze(-1) * draws.unsqueeze(-2), expected)


def test_the_draws_gradient_is_unbiased_for_quadratics(check_mean):
    logits, residual = (v.requires_grad_() for v in gate_law())
    a, square = torch.randn(4).double(), torch.randn(4, 4).double()

    def value(z):
        return z @ a + ((z @ square) * z).sum(-1)

    def gradients(total):
        return torch.cat([g.flatten() for g in torch.autograd.grad(total, (logits, residual))])

    law = CoupledGate(logits, residual)
    exact = gradients((law.table_log_prob().exp() * value(law.table)).sum())
    draws = [gradients(value(law.expand([2000, 4]).rsample()).mean()) for _ in range(60)]
    check_mean(torch.stack(draws), exact)


def linear(slab=1.0):
    """Two predictors that correlate at 0.95, one of which acts; known noise."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(40, 2, generator=generator, dtype=torch.float64)
    x[:, 1] = 0.95 * x[:, 0] + 0.3 * x[:, 1]
    y = 0.8 * x[:, 0] + torch.randn(40, generator=generator, dtype=torch.float64)
    likelihood = GaussianLikelihood(scale=1.0)
    net = MLP(2, [], prior=Gaussian(), likelihood=likelihood, input_inclusion=0.3)
    return net, x, y, linear_evidence(x, y, noise_scale=1.0, inclusion=0.3)


def exact_guide(net, x, y, evidence):
    """The exact posterior, written into the guide's parameters."""
    guide = CoupledGuide(net).double()
    design = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    precision, target = torch.eye(3).double() + design.T @ design, design.T @ y

    def conditional(kept):
        covariance = torch.linalg.inv(precision[kept][:, kept])
        return covariance @ target[kept], covariance

    mean, covariance = conditional([0, 1, 2])
    alone_mean, alone = conditional([0, 2])
    lp = evidence.probability.log()  # structures 0, x1, x2, both
    with torch.no_grad():
        guide.input.logits.zero_()
        guide.input.coupling.copy_(lp)
        site = guide.output.weight
        site.loc.copy_(mean)
        for i in range(3):
            before = covariance[i, :i] @ torch.linalg.pinv(covariance[:i, :i])
            site.regression[0, i, :i] = before
            left = covariance[i, i] - before @ covariance[:i, i]
            site.log_scale[0, i] = 0.5 * left.log()
        site.mean_response[0, 0, 1] = alone_mean[0] - mean[0]
        site.scale_response[0, 0, 1] = 0.5 * alone[0, 0].log() - site.log_scale[0, 0]
    return guide


def test_it_holds_the_exact_posterior_of_two_correlated_predictors():
    """log p - log q is then the same for every draw, the log evidence; no mean-field guide comes near.

    For a guide whose gates are independent, ELBO <= log p(y) - KL(q(z) || p(z | y)), by the chain rule of the KL.
    """
    net, x, y, evidence = linear()
    guide = exact_guide(net, x, y, evidence)
    torch.testing.assert_close(guide.inclusion()["input"], evidence.inclusion()["input"])
    torch.testing.assert_close(
        guide.gate_law("input").table_log_prob().exp().detach(), evidence.probability
    )
    losses = [Trace_ELBO().loss(net, guide, x, y) for _ in range(20)]
    for loss in losses:
        assert -loss == pytest.approx(evidence.log_marginal, abs=1e-9)
    grid = torch.linspace(0.001, 0.999, 400).double()
    table = evidence.structures.table
    first, second = torch.meshgrid(grid, grid, indexing="ij")
    mass = torch.stack(
        [
            (first if a else 1 - first) * (second if b else 1 - second)
            for a, b in table.bool().tolist()
        ],
        -1,
    )
    gap = (mass * (mass.log() - evidence.probability.log())).sum(-1).min()
    assert gap > 0.1


def test_the_gates_gradient_is_unbiased_where_weights_respond_to_them(check_mean):
    """At the exact posterior the ELBO is stationary; off it, the gradient is that of the gates' KL from p(z | y)."""
    net, x, y, evidence = linear()
    guide = exact_guide(net, x, y, evidence)
    site = guide.input
    with torch.no_grad():
        site.logits += torch.tensor([0.7, -0.4]).double()
        site.coupling[1] += 0.5
    log_mass = site.law.table_log_prob()
    kl = (log_mass.exp() * (log_mass - evidence.probability.log())).sum()
    wanted = (site.logits, site.coupling)
    exact = torch.cat([g.flatten() for g in torch.autograd.grad(kl, wanted)])
    assert exact.abs().max() > 0.05
    draws = []
    for _ in range(100):
        guide.zero_grad()
        AnalyticELBO(400).loss_and_grads(net, guide, x, y)
        draws.append(torch.cat([p.grad.flatten() for p in wanted]))
    check_mean(torch.stack(draws), exact)


def test_closing_members_leaves_the_law_of_the_others_as_it_is():
    """Given that predictor 1 and node 2 are closed; then the narrowed guide is the same law."""
    model = network(hidden=(4,))
    guide = randomised(CoupledGuide(model).double())
    table = gate_table(2, X)
    whole = table.new_zeros(4, 3)
    whole[:, [0, 2]] = table
    expected = guide.gate_law("input").log_prob(whole).sum(-1).log_softmax(0)
    masks = [{"input": row} for row in whole]
    means = torch.stack([guide.mean_standardized("hidden1", open) for open in masks])
    closed = {"input": torch.tensor([1]), "hidden1": torch.tensor([2])}
    kept = {"input": torch.tensor([0, 2]), "hidden1": torch.tensor([0, 1, 3])}
    guide.close(closed)
    assert guide.inclusion()["input"][1] < 1e-15
    narrow = guide.narrowed(model.narrowed(kept), kept)
    torch.testing.assert_close(narrow.gate_law("input").table_log_prob(), expected)
    found = torch.stack([narrow.mean_standardized("hidden1", {"input": row}) for row in table])
    torch.testing.assert_close(found, means[:, [0, 1, 3]][..., [0, 2, 3]])
    again = torch.stack([guide.mean_standardized("hidden1", open) for open in masks])
    torch.testing.assert_close(again[:, [0, 1, 3]][..., [0, 2, 3]], found)


def test_pruned_mean_weights_are_those_given_the_selection():
    model = network(hidden=(4,))
    guide = randomised(CoupledGuide(model).double(), size=1.0)
    guide.input.logits.data.copy_(torch.tensor([4.0, -4.0, 4.0]))
    selection = select(guide.inclusion())
    gates = {name: selection.mask(name) for name in selection.kept}
    assert not gates["input"].all()
    data = {f"{name}.gate": mask.double() for name, mask in gates.items()}
    for name in ("hidden1", "output"):
        data[f"{name}.weight"] = guide.mean_standardized(name, gates)
        assert not torch.equal(data[f"{name}.weight"], guide.mean_standardized(name))
    masked = poutine.condition(model.network, data=data)(X)
    torch.testing.assert_close(
        prune(model, guide, selection).network(X), masked, rtol=0, atol=1e-10
    )
    assert prune(model, guide, selection, num_draws=3).network(X).shape == (3, 12, 1)


@pytest.mark.parametrize("name", ["ss-gl", "ss-ghs"])
def test_mean_weights_of_partly_centred_slabs_are_those_of_draws(name, check_mean):
    """E[t u] given the selected gates; and starting from weights w gives E[t u] = w."""
    model = network(PRIORS[name], hidden=(4,))
    guide = randomised(CoupledGuide(model).double())
    with torch.no_grad():
        for site in (guide.hidden1.scales, guide.get_submodule("global")):
            for latent in site.children():
                latent.log_scale.fill_(math.log(0.3))
    selection = select({"input": torch.tensor([1.0, 0, 1]), "hidden1": torch.ones(4)})
    gates = {key: selection.mask(key) for key in selection.kept}
    means = mean_weights(model, guide, gates)
    with torch.no_grad():
        draws = draw_open_weights(model, guide, selection, 40_000)
    for group, columns in (("hidden1", [0, 2, 3]), ("output", range(5))):
        check_mean(draws[group][..., list(columns)], means[group][..., list(columns)])
    wanted = {g.name: torch.randn(g.size, g.group_size) for g in model.description.groups}
    guide.start_from(wanted)
    for group, weight in wanted.items():
        torch.testing.assert_close(guide.mean_weights(group), weight.double())


def test_draws_have_the_stated_inclusion_and_fixed_gates_stay(check_mean):
    model = network(hidden=(4,))
    guide = randomised(CoupledGuide(model).double(), size=1.0)
    draws = draw_posterior(model, guide, 20_000, seed=1)
    for name, probability in guide.inclusion().items():
        check_mean(draws.latents[f"{name}.gate"], probability)
    mask = torch.tensor([True, False, True])
    guide.fix_gates({"input": mask})
    assert (draw_posterior(model, guide, 50).latents["input.gate"].bool() == mask).all()
    assert ((guide.inclusion()["input"] > 0.5) == mask).all()


def test_fit_removes_saves_and_loads(tmp_path):
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    model = network(PRIORS["ss-ghs"], hidden=(4,))
    guide = CoupledGuide(model, initial_inclusion=0.9)
    with torch.no_grad():
        guide.input.logits[2] = -6.0
        guide.input.coupling[3] += 0.2
    options = TrainingOptions(
        epochs=20, num_particles=4, kl_warmup=0.0, remove_after=2, device="cpu"
    )
    fitted = fit(model, x, x[:, 0], options, guide=guide, progress=False)
    assert [(r.group, r.node) for r in fitted.history.removed] == [("input", 2)]
    save_fit(fitted, tmp_path / "fit.safetensors")
    loaded = load_fit(tmp_path / "fit.safetensors")
    assert isinstance(loaded.guide, CoupledGuide)
    for name, value in fitted.guide.state_dict().items():
        assert torch.equal(loaded.guide.state_dict()[name], value)


def test_large_groups_stay_independent_unless_asked_for():
    model = network(hidden=(11,))
    guide = CoupledGuide(model)
    assert guide.coupled == ("input",)
    guide.gate_law("input")
    with pytest.raises(ConfigurationError, match="hidden1"):
        guide.gate_law("hidden1")
    with pytest.raises(ConfigurationError, match=r"at most 10.*hidden1"):
        CoupledGuide(model, coupled=["hidden1"])
    with pytest.raises(ConfigurationError, match="nonsense"):
        CoupledGuide(model, coupled=["nonsense"])
    with pytest.raises(ConfigurationError, match="no group"):
        CoupledGuide(network(hidden=(11,), input_inclusion=None))


def test_a_single_particle_cannot_teach_coupled_gates():
    model = network()
    guide = CoupledGuide(model).double()
    assert math.isfinite(AnalyticELBO().loss(model, guide, X, Y))
    with pytest.raises(ConfigurationError, match="num_particles"):
        AnalyticELBO().loss_and_grads(model, guide, X, Y)


def test_a_training_step_never_synchronises():
    """On the meta device every read of a value raises."""
    model = network(PRIORS["ss-ghs"])
    guide = CoupledGuide(model).to("meta")
    x = torch.empty(12, 3, device="meta")
    with pyro.validation_enabled(False):
        AnalyticELBO(4).loss_and_grads(model, guide, x, x[:, 0])
    assert all(p.grad is not None for p in guide.parameters())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch's own, of its compiler
def test_the_compiled_step_has_the_same_gradient_in_distribution():
    """And a guide with other couplings of the same network gets a graph of its own."""
    model = network(hidden=(2,))
    samples = []
    for coupled in (["input"], ["input", "hidden1"]):
        torch.manual_seed(0)
        pyro.clear_param_store()
        guide = randomised(CoupledGuide(model, coupled=coupled).double())
        for kind in (EagerStep, CompiledStep):
            with pyro.validation_enabled(False):
                step = kind(model, guide, AnalyticELBO(8), len(X))
                rows = []
                for _ in range(400):
                    step(X, Y, X.new_ones(()))
                    rows.append(torch.cat([p.grad.flatten() for p in guide.parameters()]))
            samples.append(torch.stack(rows))
    for a, b in (samples[:2], samples[2:]):
        error = ((a.var(0) + b.var(0)) / len(a)).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() <= 5 * error + 1e-10).all()
