"""Likelihoods of counts: closed forms, limits, exposures, and predictions that stay finite."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.testing import assert_close

import pyro_ssbnn as ss
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.likelihoods.links import bounded

S, N = 40, 6
Y = torch.tensor([0.0, 1, 2, 5, 30, 400]).double()
PLAIN = ss.NegativeBinomialLikelihood(unit=3.0)
INFLATED = ss.NegativeBinomialLikelihood(unit=3.0, zero_inflation=True)
COUNTS = [ss.PoissonLikelihood(unit=3.0), PLAIN, INFLATED]
each = pytest.mark.parametrize("likelihood", COUNTS, ids=["poisson", "nb", "zinb"])


def draws(likelihood):
    """Outputs ``[S, N, 1]`` and latents of S draws, float64."""
    latents = {"noise.dispersion": torch.rand(S, 1).double() + 0.1}
    if getattr(likelihood, "zero_inflation", False):
        latents["noise.zero_log_odds"] = torch.randn(S, 1).double()
    return 2 * torch.randn(S, N, 1).double(), latents


def scipy_counts(f, latents, inflated):
    """Log probability function and distribution function by SciPy, of NB or its inflated form with the mean 3 exp f."""
    mean, zero = 3 * f[..., 0].exp().numpy(), np.zeros((S, 1))
    if inflated:
        zero = latents["noise.zero_log_odds"].sigmoid().numpy()
    shape = 1 / (latents["noise.dispersion"].numpy() + 1e-4)
    law = stats.nbinom(shape, shape / (shape + mean / (1 - zero)))
    return (
        lambda y: np.logaddexp(
            np.where((y == 0) & (zero > 0), np.log(zero.clip(1e-300)), -np.inf),
            np.log1p(-zero) + law.logpmf(y),
        ),
        lambda y: zero + (1 - zero) * law.cdf(y),
    )


@pytest.mark.parametrize("likelihood", [PLAIN, INFLATED])
def test_probabilities_are_those_of_the_mixture(likelihood):
    f, latents = draws(likelihood)
    log_pmf, cdf = scipy_counts(f, latents, likelihood.zero_inflation)
    found = likelihood.distribution(f, latents).log_prob(Y)
    np.testing.assert_allclose(found, log_pmf(Y.numpy()), rtol=1e-6)
    np.testing.assert_allclose(likelihood.cdf(Y, f, latents), cdf(Y.numpy()), rtol=1e-6)
    assert (likelihood.cdf(torch.tensor(-1.0).double(), f, latents) == 0).all()


@each
def test_f_tells_the_mean_of_y_itself(likelihood):
    f, latents = draws(likelihood)
    assert_close(likelihood.mean(f, latents), 3 * f[..., 0].exp())
    assert_close(likelihood.distribution(f, latents).mean, likelihood.mean(f, latents))


def test_the_variance_is_mean_plus_dispersion_times_its_square():
    f, latents = draws(PLAIN)
    mean = PLAIN.mean(f, latents)
    expected = mean + (latents["noise.dispersion"] + 1e-4) * mean.square()
    assert_close(PLAIN.distribution(f, latents).variance, expected)


def test_without_dispersion_it_is_poisson():
    f, _ = draws(PLAIN)
    near = {"noise.dispersion": torch.zeros(S, 1).double()}
    poisson = COUNTS[0].distribution(f[:, :4], {}).log_prob(Y[:4])
    found = PLAIN.distribution(f[:, :4], near).log_prob(Y[:4])
    # to first order in the dispersion the two differ by dispersion / 2 * ((y - mean)^2 - y)
    mean = COUNTS[0].mean(f[:, :4], {})
    first = 0.5e-4 * ((Y[:4] - mean).square() - Y[:4])
    small = mean < 30
    assert_close((found - poisson)[small], first[small], atol=2e-5, rtol=1e-2)


def test_without_structural_zeros_it_is_the_negative_binomial():
    f, latents = draws(INFLATED)
    latents["noise.zero_log_odds"] = torch.full((S, 1), -40.0).double()
    plain = PLAIN.distribution(f, latents).log_prob(Y)
    assert_close(INFLATED.distribution(f, latents).log_prob(Y), plain)


@pytest.mark.parametrize("p", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("likelihood", [PLAIN, INFLATED])
def test_quantiles_are_the_smallest_that_reach_the_probability(likelihood, p):
    f, latents = draws(likelihood)
    found = likelihood.quantile(p, f, latents)
    _, cdf = scipy_counts(f, latents, likelihood.zero_inflation)
    assert (cdf(found.numpy()).mean(0) >= p).all()
    assert ((cdf(found.numpy() - 1).mean(0) < p) | (found == 0).numpy()).all()


def test_single_precision_agrees_near_the_poisson():
    """The Gamma functions' difference loses digits there."""
    f, _ = draws(PLAIN)
    latents = {"noise.dispersion": torch.full((S, 1), 1e-6).double()}
    exact = PLAIN.distribution(f, latents).log_prob(Y)
    single = {k: v.float() for k, v in latents.items()}
    found = PLAIN.distribution(f.float(), single).log_prob(Y.float())
    assert ((found.double() - exact).abs() < 0.02 + 1e-3 * exact.abs()).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("largest", [None, 1e3])
@each
def test_finite_and_in_the_support_for_any_output(likelihood, largest, dtype):
    likelihood = type(likelihood)(**{**vars(likelihood), "largest": largest})
    f = torch.tensor([-math.inf, -1e30, -800, 0, 800, 1e30, math.inf], dtype=dtype)[:, None]
    latents = {
        "noise.dispersion": torch.tensor(2.0, dtype=dtype),
        "noise.zero_log_odds": torch.tensor(0.5, dtype=dtype),
    }
    law = likelihood.distribution(f, latents)
    mean = likelihood.mean(f, latents)
    assert (mean > 0).all()
    assert mean.isfinite().all()
    assert (mean.diff() >= 0).all()
    drawn = law.sample((20,))
    assert law.support.check(drawn).all()
    assert drawn.isfinite().all()
    assert law.log_prob(torch.tensor(3.0, dtype=dtype)).isfinite().all()
    if dtype == torch.float64:
        found = likelihood.quantile(0.95, f[None], {k: v[None, None] for k, v in latents.items()})
        assert found.isfinite().all()
        assert (found >= 0).all()


class TestBounded:
    def test_nothing_changes_between_the_limits(self):
        f = torch.linspace(-20, 20, 41).double()
        assert torch.equal(bounded(f), f)

    def test_beyond_a_limit_the_exponential_goes_on_along_its_tangent(self):
        f = torch.tensor([3.0, 3.5, 10.0]).double()
        assert_close(bounded(f, most=3.0).exp(), math.exp(3) * (1 + f - 3))
        assert_close(bounded(-f, least=-3.0), -bounded(f, most=3.0))

    def test_its_slope_is_continuous_and_never_zero(self):
        f = torch.tensor([2.999999, 3.000001, 500.0]).double().requires_grad_()
        bounded(f, most=3.0).sum().backward()
        assert_close(f.grad[0], f.grad[1], atol=1e-5, rtol=0)
        assert f.grad[2] > 1e-3

    def test_a_limit_of_the_users(self):
        with pytest.raises(ConfigurationError, match=r"largest must be finite and larger than"):
            ss.PoissonLikelihood(unit=5.0, largest=4.0)
        mean = ss.PoissonLikelihood(unit=5.0, largest=100.0).mean(torch.tensor([[50.0]]), {})
        assert_close(mean, 100 * (1 + 50 - torch.tensor([20.0]).log()))


class TestExposure:
    likelihood = ss.NegativeBinomialLikelihood(exposure=True)

    def test_the_mean_is_proportional_to_it(self):
        f, latents = draws(self.likelihood)
        exposures = torch.tensor([0.5, 1, 2, 4, 8, 16]).double()
        shifted, target, weight = self.likelihood.unpacked(f, torch.stack([Y, exposures], 1))
        assert weight is None
        assert torch.equal(target, Y)
        expected = exposures * self.likelihood.mean(f, latents)
        assert_close(self.likelihood.mean(shifted, latents), expected)

    def test_predictions_given_targets_are_at_their_exposures(self):
        net = ss.MLP(2, [3], prior=ss.SSIG(inclusion=0.5), likelihood=self.likelihood)
        guide, x = ss.StructuredGuide(net), torch.randn(N, 2)
        one, many = (torch.stack([Y, torch.full((N,), e).double()], 1) for e in (1.0, 7.0))
        alone = ss.predict(net, guide, x, num_draws=20)
        for y, factor in ((one, 1), (many, 7)):
            found = ss.predict(net, guide, x, y, num_draws=20)
            assert_close(found.mean, factor * alone.mean)
        assert_close(
            ss.predict(net, guide, x, Y, num_draws=20).log_density,
            ss.predict(net, guide, x, one, num_draws=20).log_density,
        )
        drawn = ss.draw_posterior(net, guide, 20, x=x, y=many)
        assert_close(drawn.mean.mean(0).double(), 7 * alone.mean, rtol=1e-4, atol=1e-4)

    def test_a_rate_is_found_from_unequal_exposures(self):
        """Without predictors that matter, f is the logarithm of all counts over all exposures."""
        generator = torch.Generator().manual_seed(1)
        exposure = 1 + 9 * torch.rand(300, generator=generator)
        y = torch.poisson(0.5 * exposure, generator=generator)
        likelihood = ss.PoissonLikelihood(exposure=True)
        net = ss.MLP(1, [], prior=ss.SSIG(inclusion=0.5), likelihood=likelihood)
        options = ss.TrainingOptions(epochs=60, compile=False)
        weights = ss.fit_deterministic(
            net, torch.zeros(300, 1), torch.stack([y, exposure], 1), options, progress=False
        )
        assert (
            abs(float(weights["output"][0, -1].exp()) / float(y.sum() / exposure.sum()) - 1) < 0.02
        )


@pytest.mark.parametrize(
    ("likelihood", "y", "message"),
    [
        (PLAIN, [0.0, -1.0], "NegativeBinomialLikelihood: y must hold counts"),
        (PLAIN, [0.0, 1.5], "y must hold counts"),
        (TestExposure.likelihood, [0.0, 1.0], r"must be \[N, 2\], counts and exposures"),
        (TestExposure.likelihood, [[1.0, 0.0], [1.0, 2.0]], "exposures.*must be positive"),
    ],
)
def test_targets_that_are_no_counts_are_refused(likelihood, y, message):
    with pytest.raises(DataError, match=message):
        likelihood.check_data(torch.tensor(y))
