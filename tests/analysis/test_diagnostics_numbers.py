"""The numbers behind the checks, against closed forms: trends, importance weights, leave-one-out, power-scaling."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from pyro_ssbnn.analysis.diagnostics.arviz_functions import leave_one_out, power_scaling
from pyro_ssbnn.analysis.diagnostics.predictive import _implied_ratio, _scaled, _tail
from pyro_ssbnn.analysis.diagnostics.report import MATTERS, SCALE_RATIO, SERIOUS
from pyro_ssbnn.analysis.diagnostics.signal import explained
from pyro_ssbnn.analysis.diagnostics.training import trend
from pyro_ssbnn.posterior.importance import (
    ARVIZ_MAJOR,
    good_k,
    smoothed_weights,
)


def autoregressive(rng, rho, shape):
    """Stationary AR(1) noise of variance 1."""
    noise = rng.normal(size=shape)
    series = noise.copy()
    for t in range(1, shape[-1]):
        series[..., t] = rho * series[..., t - 1] + math.sqrt(1 - rho**2) * noise[..., t]
    return series


def test_the_tolerances_are_the_costs_they_are_said_to_be():
    def cost(s):  # of a predictive scale s times too large: KL(N(0, 1) || N(0, s^2))
        return math.log(s) + 1 / (2 * s**2) - 0.5

    assert cost(1.1) == pytest.approx(MATTERS, rel=0.2)
    assert cost(SCALE_RATIO) == pytest.approx(SERIOUS, rel=0.1)


def test_trend_finds_a_line_exactly():
    rise, error = trend(3.0 + 0.25 * np.arange(41))
    assert rise == pytest.approx(10.0)
    assert error == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_trends_error_is_the_spread_of_the_trend(rho):
    rng = np.random.default_rng(0)
    found = np.array([trend(series) for series in autoregressive(rng, rho, (1000, 400))])
    spread = found[:, 0].std()
    assert abs(found[:, 0].mean()) < 4 * spread / math.sqrt(1000)
    # sd of a standard deviation from 1000 values: 2.2 %; the estimate of rho is biased by (1 + 4 rho) / 400
    bias = 1 + (1 + 4 * rho) / 400 / (1 - rho**2)
    assert found[:, 1].mean() == pytest.approx(spread, rel=4 * 0.023 + bias - 1)


def test_equal_ratios_give_equal_weights():
    weights, _ = smoothed_weights(np.zeros((2, 100)))
    np.testing.assert_allclose(np.exp(weights), 0.01)


@pytest.mark.parametrize("shape", [0.2, 1.0])
def test_k_hat_is_the_shape_of_pareto_ratios(shape):
    u = np.random.default_rng(1).uniform(size=(50, 4000))
    ratios = np.log(
        u**-shape
    )  # Pareto of shape 1 / k: its tail is generalised Pareto with k exactly
    tail = 3 * math.sqrt(4000)
    _, k = smoothed_weights(ratios)
    # asymptotic sd of the estimate (1 + k) / sqrt(tail); ArviZ draws it towards 1/2 with the weight of 10 draws
    shrunk = (tail * shape + 10 * 0.5) / (tail + 10)
    assert k.mean() == pytest.approx(shrunk, abs=4 * (1 + shape) / math.sqrt(50 * tail) + 0.02)


def test_good_k_follows_the_number_of_draws():
    assert good_k(10) == pytest.approx(0.0)
    assert good_k(1000) == pytest.approx(2 / 3)
    assert good_k(10**6) == pytest.approx(0.7)


def test_leave_one_out_is_the_closed_form_of_a_normal_mean():
    rng = np.random.default_rng(2)
    n, draws = 40, 20_000
    y = rng.normal(size=n)
    # theta ~ N(0, 1), y ~ N(theta, 1): posterior N(sum y / (n + 1), 1 / (n + 1))
    theta = rng.normal(y.sum() / (n + 1), (n + 1) ** -0.5, size=draws)
    score = norm.logpdf(y, theta[:, None], 1)
    others = (y.sum() - y) / n  # posterior mean without row i, of variance 1 / n
    exact = norm.logpdf(y, others, math.sqrt(1 + 1 / n))
    found = leave_one_out(score)
    assert found.pareto_k.max() < 0.5
    # the weights 1 / p have variances below 1 / n each; 40 rows of one set of draws add their errors
    assert found.elpd == pytest.approx(exact.sum(), abs=4 * n / math.sqrt(draws * n))
    assert found.error == pytest.approx(exact.std() * math.sqrt(n), rel=0.05)
    assert not found.corrected


def test_power_scaling_is_the_derivative_of_the_distance():
    rng = np.random.default_rng(3)
    prior_sd, data_mean, data_sd = 1.0, 1.5, 0.5

    def posterior(alpha):
        precision = alpha / prior_sd**2 + 1 / data_sd**2
        return data_mean / data_sd**2 / precision, precision**-0.5

    mean, sd = posterior(1)
    theta = rng.normal(mean, sd, size=40_000)
    grid = np.linspace(theta.min(), theta.max(), 100_001)  # ArviZ normalises over the draws' range

    def distance(alpha):  # root of the normalised cumulative Jensen-Shannon divergence
        each = []
        for sign in (1, -1):
            p, q = (norm.cdf(sign * grid, sign * m, s) for m, s in (posterior(1), posterior(alpha)))
            divergence = sum((c * np.log2(c / ((p + q) / 2))).sum() for c in (p, q))
            each.append(divergence / (p.sum() + q.sum()))
        return math.sqrt(max(each))

    quantities = {"theta": theta, "constant": np.ones(40_000)}
    found = power_scaling(quantities, norm.logpdf(theta, 0, prior_sd))
    assert found["constant"] == 0
    # the weights' own error: 40,000 draws give the shift of the mean, 0.01 cov(theta, log p), to a part in 200
    assert found["theta"] == pytest.approx(distance(1.01) / math.log2(1.01), rel=0.02)
    assert power_scaling({"theta": theta}, np.zeros(40_000))["theta"] == 0


def test_coverage_of_a_scaled_interval():
    assert _scaled(0.9, 1.0) == pytest.approx(0.9)
    assert _scaled(0.5, SCALE_RATIO) == pytest.approx(2 * norm.cdf(0.6745 * 1.4) - 1, abs=1e-4)
    assert _scaled(0.5, 1e6) == pytest.approx(1.0)


def test_the_implied_ratio_is_the_ratio_of_scales():
    z = norm.ppf((np.arange(1000) + 0.5) / 1000)  # right draws of N(0, 1), forecast by N(0, 2^2)
    assert _implied_ratio(norm.cdf(z / 2)) == pytest.approx(2.0, rel=0.01)


def test_ties_count_half_in_a_tail():
    assert _tail(np.array([1.0, 1.0, 1.0]), 1.0) == 0.5
    assert _tail(np.array([1.0, 2.0, 3.0, 4.0]), 1.5) == 0.25


def test_a_forest_finds_signal_and_nothing_in_noise():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 3, generator=generator).numpy()
    noise = torch.randn(200, 1, generator=generator).numpy()
    share, error = explained(x, 2 * np.sign(x[:, :1]) + noise, 0)  # 4 of 5 parts are signal
    assert share < 0.8 + 3 * error
    assert share > 0.4
    share, error = explained(x, noise, 0)
    assert share < 3 * error


def test_leave_one_out_is_corrected_to_the_posterior_where_arviz_can():
    rng = np.random.default_rng(4)
    n, draws = 20, 20_000
    y = rng.normal(size=n)
    mean, sd = y.sum() / (n + 1), (n + 1) ** -0.5
    theta = rng.normal(mean, 1.5 * sd, size=draws)  # a guide half as wide again as the posterior
    score = norm.logpdf(y, theta[:, None], 1)
    log_p = score.sum(1) + norm.logpdf(theta)
    log_q = norm.logpdf(theta, mean, 1.5 * sd)
    exact = norm.logpdf(y, (y.sum() - y) / n, math.sqrt(1 + 1 / n)).sum()
    plain, found = leave_one_out(score), leave_one_out(score, log_p, log_q)
    assert found.corrected == (ARVIZ_MAJOR >= 1)
    # of n rows with weights of variance near 1 each, on one set of draws
    error = 4 * n * norm.logpdf(y, theta[:, None], 1).std(0).mean() / math.sqrt(draws)
    assert abs(plain.elpd - exact) > error
    assert (abs(found.elpd - exact) < error) == found.corrected
