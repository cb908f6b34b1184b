"""Targets of any dtype that holds them give what the usual dtype gives, wherever targets enter."""

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO

import pyro_ssbnn as ss
from pyro_ssbnn.errors import DataError
from pyro_ssbnn.exact import SamplerOptions, sample_exact

X = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
POSITIVE = X[:, 0] > 0
SHORT = ss.TrainingOptions(epochs=2, batch_size=20, kl_warmup=0.0)
CASES = [
    (
        ss.BernoulliLikelihood(),
        POSITIVE.float(),
        [torch.bool, torch.long, torch.uint8, torch.float64],
    ),
    (ss.PoissonLikelihood(), 3.0 * POSITIVE, [torch.long, torch.int32, torch.uint8]),
    (ss.CategoricalLikelihood(2), POSITIVE.long(), [torch.int32, torch.uint8, torch.bool]),
    (ss.CategoricalLikelihood(3), 2 * POSITIVE.long(), [torch.int16]),
    (ss.GaussianLikelihood(scale=0.5), POSITIVE.float(), [torch.long, torch.bool]),
    (ss.GaussianLikelihood(num_targets=2), POSITIVE.float().expand(2, -1).T, [torch.int32]),
]
PAIRS = [(likelihood, y, dtype) for likelihood, y, dtypes in CASES for dtype in dtypes]
pair = pytest.mark.parametrize(("likelihood", "y", "dtype"), PAIRS)


def net(likelihood):
    return ss.MLP(2, [3], prior=ss.SSIG(inclusion=0.9), likelihood=likelihood)


def fitted(likelihood, y):
    return ss.fit(net(likelihood), X, y, SHORT, progress=False)


@pair
def test_training(likelihood, y, dtype):
    assert fitted(likelihood, y.to(dtype)).history.kl == fitted(likelihood, y).history.kl
    weights = [
        ss.fit_deterministic(net(likelihood), X, v, SHORT, progress=False) for v in (y, y.to(dtype))
    ]
    assert torch.equal(weights[0]["output"], weights[1]["output"])


@pair
def test_predictions_and_draws(likelihood, y, dtype):
    result = fitted(likelihood, y)
    model, guide = result.model, result.guide
    compact = ss.prune(model, guide, ss.select(guide.inclusion(), nodes=2), num_draws=2).network
    latents = ss.draw_posterior(model, guide, 2).latents
    for scored in (
        lambda v: ss.predict(model, guide, X, v, num_draws=3).log_density,
        lambda v: ss.predict_compact(compact, likelihood, X, v, latents=latents).log_density,
        lambda v: ss.draw_posterior(model, guide, 3, x=X, y=v).log_likelihood,
    ):
        assert torch.equal(scored(y), scored(y.to(dtype)))
    ours, theirs = (
        ss.to_arviz(model, guide, num_draws=2, x=X, y=v)["observed_data"]["obs"]
        for v in (y, y.to(dtype))
    )
    assert ours.equals(theirs)
    assert ours.dtype == theirs.dtype


@pair
def test_a_script_of_ones_own(likelihood, y, dtype):
    losses = []
    for targets in (y, y.to(dtype)):
        pyro.clear_param_store()
        pyro.set_rng_seed(0)
        model = net(likelihood)
        guide = ss.StructuredGuide(model)
        svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
        losses.append([svi.step(X, targets) for _ in range(2)])
    assert losses[0] == losses[1]


def test_exact_answers_take_booleans():
    model = ss.MLP(
        2, [], prior=ss.Gaussian(), likelihood=ss.BernoulliLikelihood(), input_inclusion=0.5
    )
    small = SamplerOptions(num_draws=10, warmup=20, chains=2, temperatures=2)
    posteriors = [sample_exact(model, X, y, small) for y in (POSITIVE, POSITIVE.float())]
    assert torch.equal(*(p.inclusion()["input"] for p in posteriors))
    scores = [posteriors[0].predict(X, y).log_likelihood for y in (POSITIVE, POSITIVE.float())]
    assert torch.equal(*scores)


def test_diagnose_takes_booleans():
    result = fitted(ss.BernoulliLikelihood(), POSITIVE)
    findings = [
        [check.finding for check in ss.diagnose(result, X, y, num_draws=100).checks]
        for y in (POSITIVE, POSITIVE.float())
    ]
    assert findings[0] == findings[1]


def test_floating_labels_are_refused_everywhere():
    likelihood = ss.CategoricalLikelihood(2)
    result, y = fitted(likelihood, POSITIVE.long()), POSITIVE.float()
    for call in (
        lambda: fitted(likelihood, y),
        lambda: ss.predict(result.model, result.guide, X, y, num_draws=2),
        lambda: ss.draw_posterior(result.model, result.guide, 2, x=X, y=y),
        lambda: result.model(X, y),
    ):
        with pytest.raises(
            DataError, match=r"an integer tensor; got torch.float32. Use y.long\(\)"
        ):
            call()


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32])
def test_values_outside_are_still_refused(dtype):
    y = torch.arange(40).to(dtype) - 1
    with pytest.raises(DataError, match="only 0 and 1"):
        ss.BernoulliLikelihood().check_target(y)
    with pytest.raises(DataError, match="counts"):
        ss.PoissonLikelihood().check_target(y)
    with pytest.raises(DataError, match="all y are 1"):
        ss.BernoulliLikelihood().check_target(torch.ones(3, dtype=torch.bool))
    with pytest.raises(DataError, match="labels must be"):
        ss.CategoricalLikelihood(3).check_target(torch.arange(40, dtype=torch.uint8))
