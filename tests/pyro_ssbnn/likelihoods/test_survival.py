"""Right-censored times: densities of events, probabilities of surviving, targets in either form."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch.testing import assert_close

import pyro_ssbnn as ss
from pyro_ssbnn.errors import DataError

S, N = 30, 5
F = torch.randn(S, N, 1, generator=torch.Generator().manual_seed(0)).double()
SPREAD = torch.linspace(0.3, 3, S).double()[:, None]
T = torch.tensor([0.2, 1.0, 5.0, 20.0, 60.0]).double()
UNIT = 4.0
WEIBULL = (
    ss.WeibullLikelihood(unit=UNIT),
    {"noise.shape": SPREAD},
    stats.weibull_min(SPREAD, scale=UNIT * F[..., 0].exp()),
)
LOG_NORMAL = (
    ss.LogNormalLikelihood(unit=UNIT),
    {"noise.variance": SPREAD.square()},
    stats.lognorm(SPREAD, scale=UNIT * F[..., 0].exp()),
)
both = pytest.mark.parametrize(("likelihood", "latents", "law"), [WEIBULL, LOG_NORMAL])


@both
def test_events_have_a_density_and_censored_times_a_probability(likelihood, latents, law):
    found = likelihood.distribution(F, latents)
    np.testing.assert_allclose(found.log_prob(T), law.logpdf(T), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.log_prob(-T), law.logsf(T), rtol=1e-7, atol=1e-12)


@both
def test_moments_quantiles_and_draws(likelihood, latents, law, check_mean):
    found = likelihood.distribution(F, latents)
    np.testing.assert_allclose(likelihood.mean(F, latents), law.mean(), rtol=1e-9)
    np.testing.assert_allclose(found.variance, law.var(), rtol=1e-6)
    assert_close(found.mean, likelihood.mean(F, latents))
    np.testing.assert_allclose(found.cdf(T), law.cdf(T), rtol=1e-7, atol=1e-12)
    median = likelihood.quantile(0.5, F, latents)
    np.testing.assert_allclose(law.cdf(median).mean(0), 0.5, rtol=1e-6)
    assert (likelihood.cdf(torch.tensor(-1.0).double(), F, latents) == 0).all()
    drawn = found.sample((2000,))
    assert (drawn > 0).all()
    check_mean(torch.as_tensor(law.cdf(drawn)), torch.full((S, N), 0.5))  # they are uniform


def test_a_weibull_of_shape_one_is_exponential():
    likelihood, one = ss.WeibullLikelihood(), {"noise.shape": torch.ones(S, 1).double()}
    rate = (-F[..., 0]).exp()
    found = likelihood.distribution(F, one)
    assert_close(found.log_prob(T), rate.log() - rate * T)
    assert_close(found.log_prob(-T), -rate * T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@both
def test_finite_for_any_output(likelihood, latents, law, dtype):
    f = torch.tensor([-torch.inf, -500.0, 0, 500.0, torch.inf], dtype=dtype)[:, None]
    one = {k: v[10, 0].to(dtype) for k, v in latents.items()}
    found = likelihood.distribution(f, one)
    for y in (T.to(dtype)[:, None], -T.to(dtype)[:, None]):
        assert found.log_prob(y).isfinite().all()
    assert likelihood.mean(f, one).isfinite().all()
    assert found.sample().isfinite().all()


@both
def test_time_and_event_are_the_same_as_signed_times(likelihood, latents, law):
    event = torch.tensor([1, 0, 1, 1, 0]).double()
    signed = torch.where(event > 0, T, -T)
    likelihood.check_data(torch.stack([T, event], 1))
    likelihood.check_data(signed)
    for y in (torch.stack([T, event], 1), signed):
        f, target, weight = likelihood.unpacked(F, y)
        assert weight is None
        assert torch.equal(target, signed)
        assert torch.equal(f, F)
    assert torch.equal(likelihood.censored(signed), event == 0)
    net = ss.MLP(2, [3], prior=ss.SSIG(inclusion=0.5), likelihood=likelihood)
    guide, x = ss.StructuredGuide(net), torch.randn(N, 2)
    scores = [
        ss.predict(net, guide, x, y, num_draws=5).log_density
        for y in (torch.stack([T, event], 1), signed)
    ]
    assert torch.equal(*scores)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([[1.0, 2.0], [2.0, 1.0]], "second column of y says"),
        ([[0.0, 1.0], [2.0, 1.0]], "must be positive.*half the smallest unit"),
        ([[1.0, 0.0], [2.0, 0.0]], "all times are censored"),
        ([[1.0, 1.0, 1.0]], r"y must be \[N, 2\], time and event"),
        ([1.0, 0.0], "times of 0"),
    ],
)
def test_targets_that_are_no_times_are_refused(y, message):
    with pytest.raises(DataError, match=message):
        ss.WeibullLikelihood().check_data(torch.tensor(y))
