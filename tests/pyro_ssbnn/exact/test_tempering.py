"""The tempered sampler on targets whose answer is known, and the measures of its convergence."""

import math

import numpy as np
import pytest
import torch
from torch import distributions as dist

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.exact import SamplerOptions, effective_size, r_hat, standard_error, temper

SIGMAS = 4.5


def scored(log_prior, log_likelihood):
    """Score of densities that torch can differentiate."""

    def score(points, beta):
        points = points.detach().requires_grad_()
        prior, likelihood = log_prior(points), log_likelihood(points)
        (gradient,) = torch.autograd.grad((prior + beta * likelihood).sum(), points)
        return gradient, prior.detach(), likelihood.detach()

    return score


def normal(loc, scale):
    loc, scale = torch.as_tensor(loc).double(), torch.as_tensor(scale).double()
    return lambda points: dist.Normal(loc, scale).log_prob(points).sum(-1)


@pytest.mark.parametrize("temperatures", [1, 2, 5])
def test_conjugate_normal(temperatures):
    """theta ~ N(0, 1), y | theta ~ N(theta, s^2): two data sets side by side, coordinates of different scales."""
    scale = torch.tensor([0.1, 1.0, 3.0]).double()
    observed = torch.tensor([[0.5, -1.0, 2.0], [-1.0, 0.0, 1.0]]).double().reshape(2, 1, 3)
    options = SamplerOptions(num_draws=400, warmup=300, temperatures=temperatures, leapfrog_steps=8)
    runs = temper(scored(normal(0.0, 1.0), normal(observed, scale)), 2, 3, options)
    mean, variance = observed.squeeze(1) / (1 + scale**2), scale**2 / (1 + scale**2)
    for group in range(2):
        draws = runs.points[group]
        for values, expected in ((draws, mean[group]), ((draws - mean[group]).square(), variance)):
            error = torch.as_tensor(standard_error(values))
            assert ((values.mean((0, 1)) - expected).abs() < SIGMAS * error).all()
        assert (r_hat(draws) < 1.02).all()
    assert (runs.acceptance > 0.6).all()
    assert runs.swap_acceptance.shape == (temperatures - 1, 2)
    evidence = runs.log_evidence()
    if temperatures == 1:
        assert evidence.isnan().all()
        return
    exact = normal(0.0, (1 + scale**2).sqrt())(observed.squeeze(1))
    error = evidence.std(-1) / 2
    assert (
        (evidence.mean(-1) - exact).abs() < 8 * error
    ).all()  # four chains: t with three degrees


def two_spikes(points):
    """Spikes of width 0.2 at -4 (weight 0.3) and 4 (weight 0.7) in every coordinate."""
    left, right = normal(-4.0, 0.2)(points), normal(4.0, 0.2)(points)
    return torch.logaddexp(left + math.log(0.3), right + math.log(0.7))


def test_tempering_finds_the_weights_of_modes_far_apart():
    """Under a prior that is symmetric the modes keep their weights 0.3 and 0.7."""
    options = SamplerOptions(num_draws=600, warmup=400, temperatures=8, chains=12, leapfrog_steps=6)
    runs = temper(scored(normal(0.0, 5.0), two_spikes), 1, 2, options)
    right = (runs.points[0, ..., 0] > 0).double()
    error = float(standard_error(right))
    assert error < 0.05
    assert abs(right.mean() - 0.7) < SIGMAS * error
    assert r_hat(right) < 1.1
    # the ladder has been spaced so that neighbours swap about equally often
    assert runs.swap_acceptance.min() > 0.5 * runs.swap_acceptance.max()
    assert (runs.ladder.diff() > 0).all()


def test_without_tempering_r_hat_reports_that_chains_are_stuck():
    options = SamplerOptions(num_draws=200, warmup=200, temperatures=1, chains=8)
    runs = temper(scored(normal(0.0, 5.0), two_spikes), 1, 2, options)
    assert r_hat(runs.points[0]).min() > 1.5


def test_a_target_without_finite_density_is_refused():
    def nowhere(points):
        return points.sum(-1) * math.nan

    options = SamplerOptions(num_draws=4, warmup=20, temperatures=1)
    with pytest.raises(ConfigurationError, match="no starting point"):
        temper(scored(normal(0.0, 1.0), nowhere), 1, 1, options)


def test_errors_of_independent_and_of_correlated_draws():
    """White noise: ESS is the number of draws; AR(1) with coefficient a: (1 - a)/(1 + a) of it."""
    generator = np.random.default_rng(3)
    white = generator.standard_normal((4, 5000, 2))
    series = white.copy()
    for t in range(1, 5000):
        series[:, t] = 0.8 * series[:, t - 1] + 0.6 * white[:, t]
    # relative standard deviation of an ESS of 20,000 draws: about sqrt(2 * cut-off lag / draws), a few per cent
    np.testing.assert_allclose(effective_size(white, "mean"), 20_000, rtol=0.15)
    np.testing.assert_allclose(effective_size(series, "mean"), 20_000 / 9, rtol=0.2)
    np.testing.assert_allclose(standard_error(series), 3 / math.sqrt(20_000), rtol=0.1)
    assert (r_hat(series) < 1.01).all()
    assert r_hat(series + np.arange(4).reshape(4, 1, 1)).min() > 1.5


def test_constant_draws_have_no_error():
    constant = torch.full((2, 10, 3), 0.1)
    assert (standard_error(constant) < 1e-15).all()
    assert (effective_size(constant) == 20).all()
    assert np.isnan(r_hat(constant)).all()


def test_one_chain_has_no_r_hat():
    assert np.isnan(r_hat(torch.randn(1, 50, 2))).all()
