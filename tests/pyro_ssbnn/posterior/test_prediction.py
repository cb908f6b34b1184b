"""Streamed predictions: equal to the all-at-once formulas, in memory that does not grow with draws times rows."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pyro_ssbnn import (
    MLP,
    SSGHS,
    BernoulliLikelihood,
    CategoricalLikelihood,
    GaussianLikelihood,
    LeNet,
    PoissonLikelihood,
    StructuredGuide,
    draw_posterior,
    predict,
    predict_compact,
    prune,
    select,
)
from pyro_ssbnn.errors import ConfigurationError, DataError

LIKELIHOODS = {
    "gaussian": (GaussianLikelihood(), lambda y: y),
    "several": (GaussianLikelihood(num_targets=2), lambda y: torch.stack([y, -y], 1)),
    "categorical": (CategoricalLikelihood(3), lambda y: torch.arange(len(y)) % 3),
    "bernoulli": (BernoulliLikelihood(), lambda y: (y > 0).double()),
    "poisson": (PoissonLikelihood(), lambda y: y.abs().round()),
}


def network(likelihood):
    torch.manual_seed(1)
    model = MLP(3, [6, 4], prior=SSGHS(inclusion=0.4), likelihood=likelihood)
    guide = StructuredGuide(model, initial_inclusion=0.7, initial_scale=1.0).double()
    return model, guide


def everything(guide):
    return select(guide.inclusion(), nodes={k: len(v) for k, v in guide.inclusion().items()})


@pytest.fixture(params=LIKELIHOODS)
def drawn(request):
    """A compact network of seven draws, its targets, and all draws' f at once."""
    likelihood, target = LIKELIHOODS[request.param]
    model, guide = network(likelihood)
    x = torch.randn(10, 3).double()
    y = target(torch.randn(10).double())
    compact = prune(model, guide, everything(guide), num_draws=7).network
    noise = draw_posterior(model, guide, 7).latents.get("noise.variance")
    return compact, likelihood, x, y, noise


def all_at_once(compact, likelihood, x, y, noise):
    f = compact(x)
    latents = {} if noise is None else {"noise.variance": noise[:, None]}
    return likelihood.mean(f), likelihood.distribution(f, latents), y


@pytest.mark.parametrize("batch_size", [3, 100])
def test_equal_to_all_draws_at_once(drawn, batch_size):
    compact, likelihood, x, y, noise = drawn
    found = predict_compact(compact, likelihood, x, y, noise_variance=noise, batch_size=batch_size)
    mean, distribution, _ = all_at_once(*drawn)
    close = {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(found.mean, mean.mean(0), **close)
    score = distribution.log_prob(y).logsumexp(0) - math.log(7)
    torch.testing.assert_close(found.log_density, score, **close)
    assert found.num_draws == 7
    if isinstance(likelihood, CategoricalLikelihood | BernoulliLikelihood):
        p = mean if mean.ndim == 3 else torch.stack([1 - mean, mean], -1)
        aleatoric = -(p * p.log()).sum(-1).mean(0)
        total = -(p.mean(0) * p.mean(0).log()).sum(-1)
        torch.testing.assert_close(found.entropy, total, **close)
        torch.testing.assert_close(found.aleatoric, aleatoric, **close)
        torch.testing.assert_close(found.epistemic, total - aleatoric, **close)
        assert (found.epistemic > 0).all()
        assert found.variance is None
    else:
        epistemic = mean.var(0, correction=0)
        torch.testing.assert_close(found.epistemic_variance, epistemic, **close)
        expected = epistemic + distribution.variance.mean(0)
        torch.testing.assert_close(found.variance, expected, **close)
        assert found.entropy is found.epistemic is None


def test_one_draw_has_nothing_to_disagree_about():
    model, guide = network(CategoricalLikelihood(3))
    found = predict(model, guide, torch.randn(5, 3), num_draws=1)
    assert (found.epistemic == 0).all()


def test_masked_network_agrees_with_draws_of_the_posterior(check_mean):
    """Independent draws of the same distribution: means within their standard error."""
    model, guide = network(GaussianLikelihood(scale=0.5))
    x, y = torch.randn(4, 3), torch.randn(4)
    draws = draw_posterior(model, guide, 1000, x=x, y=y)
    found = predict(model, guide, x, y, num_draws=1000, seed=1)
    difference = draws.mean.double() - found.mean
    # both sides carry the noise of 1,000 draws: sqrt 2 of the standard error
    error = draws.mean.std(0) * (2 / 1000) ** 0.5
    assert (difference.mean(0).abs() <= 4.5 * error).all()
    density = draws.log_likelihood.exp()
    error = density.std(0) * (2 / 1000) ** 0.5
    assert ((density.mean(0) - found.log_density.exp()).abs() <= 4.5 * error).all()


@pytest.mark.parametrize("batch_size", [1, 4])
def test_batches_of_rows_do_not_change_the_draws(batch_size):
    model, guide = network(CategoricalLikelihood(3))
    x, y = torch.randn(9, 3), torch.arange(9) % 3
    whole = predict(model, guide, x, y, num_draws=5)
    batched = predict(model, guide, x, y, num_draws=5, batch_size=batch_size)
    torch.testing.assert_close(whole.mean, batched.mean)
    torch.testing.assert_close(whole.log_density, batched.log_density)


def test_improbable_observations_keep_their_log_density():
    """Probabilities that underflow as numbers: logsumexp, not log of a mean."""
    likelihood = GaussianLikelihood(scale=1e-3)
    model, guide = network(likelihood)
    found = predict(model, guide, torch.randn(3, 3), torch.full((3,), 100.0), num_draws=3)
    assert (found.log_density < -1e8).all()
    assert found.log_density.isfinite().all()


def test_gates_are_hard_and_everything_is_left_as_it_was():
    model, guide = network(GaussianLikelihood())
    guide.hard = False
    state = torch.get_rng_state()
    first = predict(model, guide, torch.zeros(2, 3), num_draws=3)
    assert torch.equal(first.mean, predict(model, guide, torch.zeros(2, 3), num_draws=3).mean)
    assert torch.equal(state, torch.get_rng_state())
    assert guide.hard is False


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation returned."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel())
        return out


@pytest.mark.parametrize("kind", ["mlp", "lenet"])
def test_no_tensor_grows_with_draws_times_rows(kind):
    likelihood = CategoricalLikelihood(3)
    if kind == "mlp":
        model = MLP(64, [8], prior=SSGHS(inclusion=0.4), likelihood=likelihood)
    else:
        model = LeNet(
            (1, 8, 8), [4], [6], kernel_size=3, prior=SSGHS(inclusion=0.4), likelihood=likelihood
        )
    guide = StructuredGuide(model)
    x = torch.randn(512, 64)
    largest = {}
    for draws in (2, 40):
        with Largest() as mode:
            predict(model, guide, x, torch.arange(512) % 3, num_draws=draws, batch_size=16)
        largest[draws] = mode.elements
    assert largest[2] == largest[40]
    widest = max(g.size * g.positions for g in model.description.groups)
    assert largest[40] <= max(model.description.num_weights, 16 * max(64, widest), 3 * 512)
    assert largest[40] < 40 * 512


def test_bad_arguments_are_refused():
    model, guide = network(GaussianLikelihood())
    x = torch.randn(4, 3)
    compact = prune(model, guide, everything(guide), num_draws=3).network
    with pytest.raises(ConfigurationError, match="num_draws must be at least 1"):
        predict(model, guide, x, num_draws=0)
    with pytest.raises(ConfigurationError, match="batch_size must be at least 1"):
        predict(model, guide, x, batch_size=0)
    with pytest.raises(DataError, match=r"x must be \[N, 3\]"):
        predict(model, guide, x[:, :2])
    with pytest.raises(DataError, match="4 rows and y has 2"):
        predict(model, guide, x, torch.zeros(2))
    with pytest.raises(ConfigurationError, match="does not carry it; give noise_variance"):
        predict_compact(compact, model.likelihood, x.double())
    with pytest.raises(
        ConfigurationError, match=r"one draw for each of the network's 3; got \[2\]"
    ):
        predict_compact(compact, model.likelihood, x.double(), noise_variance=torch.ones(2))
