"""Exact sampling: the enumerated density, the closed form it must find, its prior, its records and refusals."""

import math

import pandas as pd
import pytest
import torch
from pyro import poutine
from pyro.infer.mcmc import MCMC, NUTS
from torch import distributions as dist

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSGL,
    SSIG,
    BernoulliLikelihood,
    CategoricalLikelihood,
    Gaussian,
    GaussianLikelihood,
    GroupHorseshoe,
    GroupLasso,
    PoissonLikelihood,
    select,
)
from pyro_ssbnn.analysis.exact_data import exact_summary, exact_to_arviz
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.exact import (
    EnumeratedDensity,
    SamplerOptions,
    Structures,
    linear_evidence,
    sample_exact,
    sample_exact_each,
    standard_error,
)

PRIORS = [
    SSIG(inclusion=0.3),
    SSGL(inclusion=0.3),
    SSGHS(inclusion=0.3),
    SSGHS(inclusion=0.3, cap=None),
    Gaussian(),
    GroupLasso(),
    GroupHorseshoe(),
]
TARGETS = [
    (GaussianLikelihood(), torch.tensor([0.3, -1.0, 0.7, 0.1])),
    (GaussianLikelihood(num_targets=2), torch.tensor([[0.3, -1.0], [0.7, 0.1]] * 2)),
    (CategoricalLikelihood(3), torch.tensor([0, 2, 1, 1])),
    (BernoulliLikelihood(), torch.tensor([0.0, 1.0, 1.0, 0.0])),
    (PoissonLikelihood(), torch.tensor([0.0, 3.0, 1.0, 2.0])),
]
X = torch.tensor([[0.5, -1.0], [1.5, 0.2], [-0.4, 0.9], [0.0, -0.3]], dtype=torch.float64)
TINY = SamplerOptions(num_draws=20, warmup=20, chains=2, temperatures=2, leapfrog_steps=4)
SIGMAS = 4.5  # a false alarm once in 150,000 comparisons


def double(y):
    return y.double() if y.dtype.is_floating_point else y


def network(prior=PRIORS[0], likelihood=TARGETS[0][0], hidden=(2,), **options):
    options = {"input_inclusion": 0.4, "activation": "tanh"} | options
    return MLP(2, list(hidden), prior=prior, likelihood=likelihood, **options)


def some_point(density):
    return torch.linspace(-1.0, 0.8, density.dim, dtype=torch.float64)


@pytest.mark.parametrize("prior", PRIORS, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize(("likelihood", "y"), TARGETS, ids=lambda v: type(v).__name__)
def test_every_structures_log_joint_is_the_networks_own(prior, likelihood, y):
    """log p(theta) + log p(z) + log p(y | theta, z) is the trace's log-probability, structure by structure."""
    y = double(y)
    net = network(prior, likelihood, hidden=(2, 1))
    density = EnumeratedDensity(net, X, y)
    latents, _ = density.constrained(some_point(density))
    log_prior, log_weights = density.log_terms(latents, y)
    assert len(density.structures) == 2 ** (5 if prior.gated else 2)
    for index in range(len(density.structures)):
        gates = density.structures.gates(torch.tensor(index))
        trace = poutine.trace(poutine.condition(net, {**latents, **gates})).get_trace(X, y)
        assert (log_prior + log_weights[index]).item() == pytest.approx(
            trace.log_prob_sum().item(), rel=1e-12
        )


@pytest.mark.parametrize(("likelihood", "y"), TARGETS, ids=lambda v: type(v).__name__)
def test_the_traced_density_and_its_gradient_are_the_plain_ones(likelihood, y):
    y = double(y)
    density = EnumeratedDensity(network(PRIORS[3], likelihood), X, y)
    points = torch.stack([some_point(density), 0.5 * some_point(density)])
    beta = torch.tensor([1.0, 0.3], dtype=torch.float64)
    repeated = torch.stack([y, y])
    gradient, prior, likelihood = density.traced_score(2, repeated)(points, beta, repeated)
    log_prior, log_weights = density.log_weights(points, repeated)
    for i in range(2):
        point = points[i].clone().requires_grad_()
        latents, jacobian = density.constrained(point)
        plain_prior, weights = density.log_terms(latents, y)
        total = plain_prior + jacobian + beta[i] * weights.logsumexp(0)
        torch.testing.assert_close(gradient[i], torch.autograd.grad(total, point)[0])
        torch.testing.assert_close(prior[i], (plain_prior + jacobian).detach())
        torch.testing.assert_close(likelihood[i], weights.logsumexp(0).detach())
        torch.testing.assert_close(log_prior[i], plain_prior.detach())
        torch.testing.assert_close(log_weights[i], weights.detach())


def test_the_jacobian_is_that_of_the_logarithms_of_positive_latents():
    density = EnumeratedDensity(network(SSGHS(inclusion=0.3)), X, double(TARGETS[0][1]))
    latents, jacobian = density.constrained(some_point(density))
    positive = [v.log().sum() for k, v in latents.items() if not k.endswith("weight")]
    assert len(positive) == 5
    torch.testing.assert_close(jacobian, torch.stack(positive).sum())


def test_targets_lead_to_their_own_posteriors_in_a_batch():
    """Two data sets side by side get two posteriors: the one without signal closes its predictors."""
    net = network(Gaussian(), GaussianLikelihood(scale=0.3), hidden=(), input_inclusion=0.3)
    x = torch.randn(30, 2, dtype=torch.float64)
    targets = torch.stack([torch.zeros(30).double(), 2 * x[:, 0] - x[:, 1]])
    options = SamplerOptions(num_draws=100, warmup=150, chains=2, temperatures=3, leapfrog_steps=8)
    closed, opened = sample_exact_each(net, x, targets, options)
    exact = [linear_evidence(x, y, noise_scale=0.3, inclusion=0.3).inclusion() for y in targets]
    assert exact[0]["input"].max() < 0.1
    assert exact[1]["input"].min() > 0.999
    assert (closed.inclusion()["input"] < 0.3).all()
    assert (opened.inclusion()["input"] > 0.99).all()
    assert torch.equal(opened.y, targets[1])


def linear_case():
    """Three predictors whose inclusion the data leave open."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(20, generator=generator, dtype=torch.float64)
    return x, 0.6 * x[:, 0] - 0.4 * x[:, 1] + 0.8 * noise


def test_model_probabilities_and_evidence_are_those_of_the_closed_form():
    x, y = linear_case()
    net = MLP(
        3,
        [],
        prior=Gaussian(),
        likelihood=GaussianLikelihood(scale=0.8),
        input_inclusion=0.3,
    )
    exact = linear_evidence(x, y, noise_scale=0.8, inclusion=0.3)
    assert ((exact.inclusion()["input"] > 0.05) & (exact.inclusion()["input"] < 0.95)).sum() >= 2
    options = SamplerOptions(num_draws=250, warmup=200, chains=12, temperatures=3, leapfrog_steps=8)
    posterior = sample_exact(net, x, y, options)
    found = posterior.structure_probabilities()
    # 1e-3: the standard error of a structure that no chain has seen yet is too small
    assert ((found.mean - exact.probability).abs() < SIGMAS * found.error + 1e-3).all()
    inclusion, error = posterior.inclusion()["input"], posterior.inclusion_error()["input"]
    assert ((inclusion - exact.inclusion()["input"]).abs() < SIGMAS * error).all()
    assert (error < 0.02).all()
    size = posterior.model_size("input")
    by_size = torch.stack(
        [exact.probability[posterior.structures.sizes("input") == k].sum() for k in range(4)]
    )
    assert ((size.mean - by_size).abs() < SIGMAS * size.error + 1e-3).all()
    evidence = posterior.log_evidence
    spread = evidence.std() / math.sqrt(len(evidence))
    assert (
        abs(evidence.mean() - exact.log_marginal) < 5 * spread
    )  # twelve chains: t with eleven degrees
    assert spread < 0.2
    assert (exact_summary(posterior)["r_hat"] < 1.05).all()


def test_the_closed_form_is_the_marginal_normal():
    x, y = linear_case()
    exact = linear_evidence(x, y, noise_scale=0.7, inclusion=0.2, slab_scale=1.3)
    for index, structure in enumerate(exact.structures.table):
        design = torch.cat([x[:, structure > 0], torch.ones(20, 1)], 1)
        covariance = 0.49 * torch.eye(20).double() + 1.69 * design @ design.T
        normal = dist.MultivariateNormal(torch.zeros(20).double(), covariance)
        assert exact.log_evidence[index].item() == pytest.approx(normal.log_prob(y).item())
    prior = 0.2 ** exact.structures.sizes("input") * 0.8 ** (3 - exact.structures.sizes("input"))
    torch.testing.assert_close(exact.structures.log_prior().exp(), prior.double())
    joint = prior * exact.log_evidence.exp()
    torch.testing.assert_close(exact.probability, joint / joint.sum())
    assert exact.log_marginal == pytest.approx(joint.sum().log().item())


@pytest.mark.parametrize("prior", [SSGL(inclusion=0.3), SSGHS(inclusion=0.3)])
def test_data_that_say_nothing_leave_the_prior(prior):
    """Noise of a million: gates have their prior's probabilities, scales their prior's moments."""
    net = network(prior, GaussianLikelihood(scale=1e6))
    options = SamplerOptions(num_draws=60, warmup=100, chains=24, temperatures=1, leapfrog_steps=8)
    posterior = sample_exact(net, X, double(TARGETS[0][1]), options)
    # p(z | theta, y) is p(z) up to the likelihood's remaining 1e-10
    for name, value in {"input": 0.4, "hidden1": 0.3}.items():
        torch.testing.assert_close(
            posterior.inclusion()[name], torch.full((2,), value).double(), atol=1e-6, rtol=0
        )
    binomial = dist.Binomial(2, torch.tensor(0.3)).log_prob(torch.arange(3.0)).exp()
    found = posterior.model_size("hidden1").mean
    torch.testing.assert_close(found, binomial.double(), atol=1e-6, rtol=0)
    half = torch.digamma(torch.tensor(0.5).double()).item()
    if isinstance(prior, SSGL):
        # penalty ~ Gamma(4, 2); variance given it ~ Gamma((3 + 1)/2, penalty/2)
        shape_log = torch.digamma(torch.tensor([4.0, 2.0]).double())
        penalty = shape_log[0].item() - math.log(2)
        expected = {
            "global.penalty": penalty,
            "hidden1.variance": shape_log[1].item() + math.log(2) - penalty,
        }
    else:
        names = ("global.scale_a", "global.scale_b", "hidden1.scale_a", "hidden1.scale_b")
        expected = {name: half if name.endswith("a") else -half for name in names}
    for name, mean in expected.items():
        logs = posterior.latents[name].log()
        difference = (logs.mean((0, 1)) - mean).abs()
        assert (difference < SIGMAS * torch.as_tensor(standard_error(logs))).all(), name
    squares = posterior.latents["output.weight"].square()
    assert (
        (squares.mean((0, 1)) - 1).abs() < SIGMAS * torch.as_tensor(standard_error(squares))
    ).all()


def test_runs_repeat_and_leave_the_callers_state_alone():
    net, y = network(), double(TARGETS[0][1])
    state = torch.get_rng_state()
    a, b, c = (sample_exact(net, X, y, TINY, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    for name in a.latents:
        assert torch.equal(a.latents[name], b.latents[name])
        assert not torch.equal(a.latents[name], c.latents[name])
    assert torch.equal(a.structure, b.structure)


@pytest.mark.parametrize(("likelihood", "y"), TARGETS, ids=lambda v: type(v).__name__)
def test_records_fit_together(likelihood, y):
    """Shapes, sampled gates, densities and predictions belong to the same draws."""
    net, y = network(SSGHS(inclusion=0.3), likelihood), double(y)
    posterior = sample_exact(net, X, y, TINY)
    assert posterior.structure_probability.shape == (2, 20, 16)
    sizes = posterior.size_probability("hidden1")
    torch.testing.assert_close(sizes.sum(-1), torch.ones(2, 20).double(), atol=1e-6, rtol=0)
    expected = (sizes * torch.arange(3)).sum(-1)
    torch.testing.assert_close(posterior.gate_probability("hidden1").sum(-1), expected)
    assert select(posterior.inclusion()).sizes == {"input": 2, "hidden1": 2}
    predictions = posterior.predict(X, y)
    torch.testing.assert_close(predictions.log_likelihood.sum(-1), posterior.log_likelihood)
    assert predictions.predictive.shape == (2, 20, *y.shape)
    values = {k: v[1, 7] for k, v in {**posterior.latents, **posterior.gates}.items()}
    f = poutine.condition(net.network, values)(X)
    torch.testing.assert_close(predictions.mean[1, 7], net.likelihood.mean(f, values))
    data = exact_to_arviz(posterior, x=X, y=y, weights=True)
    assert dict(data["posterior"]["hidden1.weight"].sizes) == {
        "chain": 2,
        "draw": 20,
        "hidden1_node": 2,
        "hidden1_incoming": 3,
    }
    assert list(data["posterior"]["input.gate_probability"]["predictor"].values) == ["x1", "x2"]
    table = exact_summary(posterior)
    assert isinstance(table, pd.DataFrame)
    assert {"log_joint", "input.size", "hidden1.size", "x1", "x2", "mean"} <= set(table.index)
    assert (table["error"] >= 0).all()


def test_a_network_without_gates_has_one_structure():
    net = network(GroupLasso(), GaussianLikelihood(), input_inclusion=None)
    posterior = sample_exact(net, X, double(TARGETS[0][1]), TINY)
    assert posterior.inclusion() == {}
    assert (posterior.structure_probability == 1).all()
    assert {"log_joint", "noise.variance"} <= set(exact_summary(posterior).index)
    assert "constant_data" not in exact_to_arviz(posterior)
    with pytest.raises(DataError, match="y is given without x"):
        exact_to_arviz(posterior, y=double(TARGETS[0][1]))


def test_structures_are_counted_in_binary_and_named():
    net = network(input_names=["age", "dose"])
    structures = Structures.of(net.description)
    assert structures.names == ("age", "dose", "hidden1[0]", "hidden1[1]")
    assert structures.table[5].tolist() == [1, 0, 1, 0]
    assert structures.sizes("hidden1").tolist() == [0] * 4 + [1] * 8 + [2] * 4
    gates = structures.gates(torch.tensor([[5], [15]]))
    assert gates["input.gate"].tolist() == [[[1, 0]], [[1, 1]]]
    assert structures.log_prior().logsumexp(0).item() == pytest.approx(0.0, abs=1e-14)


def test_thirteen_gates_are_refused_and_twelve_are_not():
    assert len(Structures.of(network(hidden=(10,)).description)) == 4096
    with pytest.raises(ConfigurationError, match=r"13 gates \(input 2, hidden1 11\)"):
        sample_exact(network(hidden=(11,)), X, double(TARGETS[0][1]), TINY)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X[:, :1], torch.zeros(4), r"x must be \[N, 2\]"),
        (X[:0], torch.zeros(0), "N at least 1"),
        (X, torch.zeros(3), "y have N entries"),
        (X / 0, torch.zeros(4), "missing or infinite"),
        (X, torch.full((4,), math.nan), "missing or infinite"),
    ],
)
def test_bad_data_are_refused(x, y, message):
    with pytest.raises(DataError, match=message):
        sample_exact(network(), x, y, TINY)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (torch.zeros(4), r"targets must be \[G, N\]"),
        (torch.zeros(0, 4), "G at least 1"),
        (torch.full((2, 4), math.nan), "without missing values"),
        (torch.zeros(2, 3), "y have N entries"),
    ],
)
def test_bad_batches_are_refused(targets, message):
    with pytest.raises(DataError, match=message):
        sample_exact_each(network(), X, targets, TINY)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: SamplerOptions(num_draws=1), ConfigurationError, "num_draws must be at least 4"),
        (lambda: SamplerOptions(target_accept=1.0), ConfigurationError, "target_accept"),
        (
            lambda: Structures.of(network().description).columns("output"),
            ConfigurationError,
            "no gated",
        ),
        (lambda: linear_evidence(X, X, noise_scale=1.0, inclusion=0.5), DataError, r"y \[N\]"),
        (
            lambda: linear_evidence(X, X[:, 0], noise_scale=0.0, inclusion=0.5),
            ConfigurationError,
            "noise_scale",
        ),
        (
            lambda: linear_evidence(X, X[:, 0], noise_scale=1.0, inclusion=1.0),
            ConfigurationError,
            "between 0 and 1",
        ),
    ],
)
def test_bad_options_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.slow
def test_nuts_on_the_same_density_agrees():
    """Pyro's own sampler, on a network of one node: its modes differ in signs alone, which no compared figure sees."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(15, 2, generator=generator, dtype=torch.float64)
    y = x[:, 0] + 0.5 * torch.randn(15, generator=generator, dtype=torch.float64)
    net = network(SSGL(inclusion=0.4), GaussianLikelihood(scale=0.5), hidden=(1,))
    density = EnumeratedDensity(net, x, y)
    graph = density.traced_score(1, y.unsqueeze(0))

    class Potential(torch.autograd.Function):
        @staticmethod
        def forward(ctx, point):
            gradient, prior, likelihood = graph(
                point.unsqueeze(0), torch.ones(1).double(), y.unsqueeze(0)
            )
            ctx.save_for_backward(gradient[0])
            return -(prior + likelihood)[0]

        @staticmethod
        def backward(ctx, outer):
            return -outer * ctx.saved_tensors[0]

    chains = []
    for seed in range(2):
        torch.manual_seed(seed)
        nuts = NUTS(potential_fn=lambda q: Potential.apply(q["q"]), max_tree_depth=5)
        start = {"q": torch.rand(density.dim, dtype=torch.float64) - 0.5}
        mcmc = MCMC(
            nuts, num_samples=300, warmup_steps=200, initial_params=start, disable_progbar=True
        )
        mcmc.run()
        chains.append(mcmc.get_samples()["q"])
    points = torch.stack(chains)
    _, weights = density.log_weights(points.flatten(0, 1), y.expand(600, -1))
    theirs = weights.softmax(-1).unflatten(0, (2, 300))
    options = SamplerOptions(num_draws=600, warmup=400, temperatures=4, leapfrog_steps=10)
    ours = sample_exact(net, x, y, options).structure_probability
    table = density.structures.table
    for columns in ("input", "hidden1"):
        size = density.structures.sizes(columns).double()
        a, b = theirs @ size, ours.double() @ size
        error = math.hypot(float(standard_error(a)), float(standard_error(b)))
        assert abs(a.mean() - b.mean()) < SIGMAS * error
    for k in range(2):
        a, b = theirs @ table[:, k], ours.double() @ table[:, k]
        error = math.hypot(float(standard_error(a)), float(standard_error(b)))
        assert abs(a.mean() - b.mean()) < SIGMAS * error
