"""Streamed predictions: equal to the all-at-once formulas, in memory that does not grow with draws times rows."""

import math
from dataclasses import fields

import pytest
import torch
from pyro import poutine
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
    fit,
    predict,
    predict_compact,
    prune,
    select,
)
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.posterior import draws as draws_module
from pyro_ssbnn.posterior.draws import draw_latents
from pyro_ssbnn.posterior.networks import MEMORY, outputs

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
    return likelihood.mean(f, latents), likelihood.distribution(f, latents), y


@pytest.mark.parametrize("memory", [5_000, MEMORY])
def test_equal_to_all_draws_at_once(drawn, memory):
    compact, likelihood, x, y, noise = drawn
    latents = {} if noise is None else {"noise.variance": noise}
    found = predict_compact(compact, likelihood, x, y, latents=latents, memory=memory)
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


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_row_is_predicted_the_same_in_any_company_order_and_memory(likelihood):
    likelihood, target = LIKELIHOODS[likelihood]
    model, guide = network(likelihood)
    x, y = torch.randn(90, 3), target(torch.randn(90).double())
    asked = () if likelihood.predicts_classes else (0.05, 0.5, 0.95)

    def told(rows, **options):
        found = predict(model, guide, x[rows], y[rows], num_draws=50, quantiles=asked, **options)
        kept = {f.name: getattr(found, f.name) for f in fields(found)}
        return {k: v for k, v in kept.items() if isinstance(v, torch.Tensor)}

    def of(row, among):
        return {k: v[:, row] if k == "quantiles" else v[row] for k, v in among.items()}

    whole, order = told(torch.arange(90)), torch.randperm(90)
    shuffled, tight = told(order), told(torch.arange(90), memory=10_000)
    exact = {"rtol": 1e-11, "atol": 1e-12}
    torch.testing.assert_close(tight, whole, **exact)
    for row in (0, 41, 89):
        torch.testing.assert_close(of(0, told([row])), of(row, whole), **exact)
        place = int((order == row).nonzero())
        torch.testing.assert_close(of(place, shuffled), of(row, whole), **exact)


def test_the_draws_are_those_of_draw_posterior():
    model, guide = network(GaussianLikelihood())
    x, y = torch.randn(8, 3), torch.randn(8).double()
    draws = draw_posterior(model, guide, 30, x=x, y=y, seed=3)
    found = predict(model, guide, x, y, num_draws=30, seed=3)
    torch.testing.assert_close(found.mean, draws.mean.mean(0))
    score = draws.log_likelihood.logsumexp(0) - math.log(30)
    torch.testing.assert_close(found.log_density, score)


def test_closed_nodes_are_cut_and_nothing_changes():
    """Sigmoid nodes pass on 1/2 when closed; one layer is closed in every draw, one node in some."""
    torch.manual_seed(1)
    model = MLP(
        3,
        [6, 4],
        prior=SSGHS(inclusion=0.4),
        likelihood=GaussianLikelihood(),
        activation="sigmoid",
        input_inclusion=0.5,
    )
    guide = StructuredGuide(model, initial_inclusion=0.5, initial_scale=1.0).double()
    with torch.no_grad():
        guide.hidden2.gate.logits.fill_(-60.0)
        guide.input.logits[1] = -60.0
    x = torch.randn(5, 3).double()
    for num_draws in (1, 20):
        values = next(draw_latents(model, guide, num_draws, seed=0))
        masked = poutine.condition(model.network, data=values)(x)
        torch.testing.assert_close(outputs(model, values, x), masked, rtol=1e-10, atol=1e-12)


def test_quantiles_are_those_of_the_mixture():
    """A million draws of y from the predictive mixture, against the limits of its central intervals."""
    model, guide = network(GaussianLikelihood())
    x = torch.randn(4, 3)
    found = predict(model, guide, x, num_draws=20, quantiles=(0.05, 0.25, 0.75, 0.95))
    draws = draw_posterior(model, guide, 20, x=x)
    scale = draws.latents["noise.variance"].sqrt()[:, None, None]
    y = draws.mean.unsqueeze(-1) + scale * torch.randn(20, 4, 50_000).double()
    for level in (0.5, 0.9):
        lower, upper = found.interval(level)
        inside = ((lower[:, None] < y) & (y < upper[:, None])).double().mean((0, 2))
        error = 4.5 * (level * (1 - level) / 1e6) ** 0.5
        assert ((inside - level).abs() < error).all()
    assert found.quantiles.shape == (4, 4)
    assert (found.quantiles.diff(dim=0) > 0).all()


def test_intervals_need_their_quantiles():
    model, guide = network(GaussianLikelihood())
    found = predict(model, guide, torch.randn(4, 3), num_draws=2, quantiles=(0.05, 0.95))
    assert [limit.shape for limit in found.interval(0.9)] == [(4,), (4,)]
    with pytest.raises(
        ConfigurationError, match=r"needs the quantiles 0\.25 and 0\.75.*quantiles=\(0\.25"
    ):
        found.interval(0.5)
    for wrong in ((0.0, 0.5), (0.9, 0.1)):
        with pytest.raises(ConfigurationError, match="ascending probabilities strictly between"):
            predict(model, guide, torch.randn(4, 3), quantiles=wrong)
    with pytest.raises(ConfigurationError, match="class labels have none"):
        predict(*network(CategoricalLikelihood(3)), torch.randn(4, 3), quantiles=(0.5,))


def test_a_summary_says_in_a_few_lines_what_it_holds():
    model, guide = network(GaussianLikelihood())
    x, y = torch.randn(4, 3), torch.randn(4)
    found = predict(model, guide, x, y, num_draws=2, quantiles=(0.05, 0.95))
    text = repr(found)
    assert "4 rows, 2 draws" in text
    assert "quantiles of 0.05, 0.95" in text
    assert f"log density of y {found.log_density.mean():.4g} nats" in text
    assert len(text.splitlines()) <= 5
    assert "nats on average" in repr(predict(*network(BernoulliLikelihood()), x))


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
def test_no_tensor_grows_with_draws_times_rows(kind, monkeypatch):
    likelihood = CategoricalLikelihood(3)
    if kind == "mlp":
        model = MLP(64, [8], prior=SSGHS(inclusion=0.4), likelihood=likelihood)
    else:
        model = LeNet(
            (1, 8, 8), [4], [6], kernel_size=3, prior=SSGHS(inclusion=0.4), likelihood=likelihood
        )
    guide = StructuredGuide(model)
    memory = 200_000  # bytes: a sixth of a quarter, in float32, is 2,083 numbers of a layer
    largest = {}
    for rows, draws in ((256, 5), (1024, 5), (256, 20)):
        x, y = torch.randn(rows, 64), torch.arange(rows) % 3
        with Largest() as mode, monkeypatch.context() as patch:
            patch.setattr(draws_module, "_BLOCK_WEIGHTS", 1)
            predict(model, guide, x, y, num_draws=draws, memory=memory)
        largest[rows, draws] = mode.elements
    assert largest[256, 5] == largest[256, 20] <= max(model.description.num_weights, 50_000 // 4)
    assert largest[1024, 5] <= max(largest[256, 5], 3 * 1024)  # the answer


def test_bad_arguments_are_refused():
    model, guide = network(GaussianLikelihood())
    x = torch.randn(4, 3)
    compact = prune(model, guide, everything(guide), num_draws=3).network
    with pytest.raises(ConfigurationError, match="num_draws must be at least 1"):
        predict(model, guide, x, num_draws=0)
    with pytest.raises(
        ConfigurationError, match="one row of this network takes 1,152 bytes; got 10"
    ):
        predict(model, guide, x, memory=10)
    with pytest.raises(DataError, match="N at least 1"):
        predict(model, guide, x[:0])
    broken = x.clone()
    broken[2, 1] = torch.nan
    broken[3, 1] = torch.inf
    for call in (predict, lambda *arguments: draw_posterior(model, guide, 2, x=arguments[2])):
        with pytest.raises(
            DataError, match=r"2 missing or infinite .* row 2 of column 'x2' \(2 of 3\)"
        ):
            call(model, guide, broken)
    with pytest.raises(DataError, match="y has 1 missing or infinite values, the first in row 2"):
        predict(model, guide, x, torch.tensor([0, 0, torch.nan, 0]))
    with pytest.raises(DataError, match=r"x must be \[N, 3\]"):
        predict(model, guide, x[:, :2])
    with pytest.raises(DataError, match="4 rows and y has 2"):
        predict(model, guide, x, torch.zeros(2))
    with pytest.raises(
        ConfigurationError, match=r"'noise\.variance', which a pruned network does not carry"
    ):
        predict_compact(compact, model.likelihood, x.double())
    noise = {"left.noise.variance": torch.ones(2)}  # as a network with a prefix calls it
    with pytest.raises(
        ConfigurationError, match=r"one draw for each of the network's 3; got \[2\]"
    ):
        predict_compact(compact, model.likelihood, x.double(), latents=noise)
    with pytest.raises(ConfigurationError, match="1 outputs, CategoricalLikelihood takes 3"):
        predict_compact(compact, CategoricalLikelihood(3), x.double())
    with pytest.raises(
        ConfigurationError, match=r"a network and its guide.* got StructuredGuide and MLP"
    ):
        predict(guide, model, x)
    with pytest.raises(ConfigurationError, match=r"num_draws must be a whole number; got 2\.5"):
        predict(model, guide, x, num_draws=2.5)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.ones(4, 3).to_sparse(), r"x is sparse; give x\.to_dense\(\)"),
        (torch.ones(4, 3) + 1j, "x is complex"),
    ],
    ids=["sparse", "complex"],
)
def test_what_is_no_dense_real_tensor_is_refused(bad, message):
    model, guide = network(GaussianLikelihood(scale=1.0))
    compact = prune(model, guide, everything(guide)).network
    for call in (
        lambda: predict(model, guide, bad),
        lambda: predict_compact(compact, model.likelihood, bad),
        lambda: draw_posterior(model, guide, 2, x=bad),
        lambda: fit(model, bad, torch.zeros(4)),
    ):
        with pytest.raises(DataError, match=message):
            call()


@pytest.mark.parametrize(
    ("likelihood", "y", "words"),
    [
        ("gaussian", torch.zeros(4, 1), r"y must be \[N\]; got \[4, 1\]"),
        ("several", torch.zeros(4), r"y must be \[N, 2\]; got \[4\]"),
        ("categorical", torch.tensor([0, 1, 2, 3]), "no probability, such as 3"),
        ("bernoulli", torch.tensor([0.0, 1.0, 0.5, 1.0]), "no probability, such as 0.5"),
        ("poisson", torch.tensor([0.0, 1.0, 2.0, -1.0]), "no probability, such as -1"),
    ],
)
def test_targets_that_cannot_be_scored_are_refused(likelihood, y, words):
    model, guide = network(LIKELIHOODS[likelihood][0])
    x = torch.randn(4, 3)
    for call in (
        lambda: predict(model, guide, x, y),
        lambda: draw_posterior(model, guide, 2, x=x, y=y),
    ):
        with pytest.raises(DataError, match=words):
            call()


def test_autocast_around_changes_no_prediction_and_no_pruned_weight():
    model = MLP(4, [5], prior=SSGHS(inclusion=0.5), likelihood=GaussianLikelihood())
    guide, x = StructuredGuide(model), torch.randn(7, 4)

    def numbers():
        pruned = prune(model, guide).network.state_dict()
        drawn = draw_posterior(model, guide, 5, x=x).mean
        return [*pruned.values(), predict(model, guide, x, num_draws=20).mean, drawn]

    plain = numbers()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = numbers()
    for one, other in zip(plain, cast, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_draws_of_any_module_are_averaged():
    """A module of one's own gives all its draws at once, here of 3 rows' means; the rows are taken in pieces."""
    model, guide = network(GaussianLikelihood())
    compact = prune(model, guide, everything(guide), num_draws=7).network.double()
    x, latents = torch.randn(9, 3).double(), {"noise.variance": torch.rand(7).double()}

    class Mine(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.within = compact

        def forward(self, x):
            return self.within(x)

    expected = predict_compact(compact, model.likelihood, x, latents=latents)
    found = predict_compact(Mine(), model.likelihood, x, latents=latents, memory=20_000)
    torch.testing.assert_close(found.mean, expected.mean)
    torch.testing.assert_close(found.variance, expected.variance)


def test_finite_rows_may_have_a_sum_that_is_not():
    model, guide = network(GaussianLikelihood())
    largest = torch.finfo(torch.float32).max
    x = torch.tensor([[largest, 0.0, 0.0], [largest, 0.0, 0.0]])
    assert not x.sum().isfinite()
    assert predict(model, guide, x, num_draws=2).mean.shape == (2,)
