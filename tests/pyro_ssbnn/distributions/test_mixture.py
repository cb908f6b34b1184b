"""Quantiles of mixtures: exact where they are known, right for spiky mixtures, and the same alone as among others."""

import numpy as np
import pytest
import torch
from scipy import stats

from pyro_ssbnn.distributions.mixture import TOLERANCE, mixture_quantile, normal_mixture_quantile

PROBABILITIES = [1e-6, 0.05, 0.5, 0.8, 1 - 1e-6]


def spread(loc, scale):
    return (scale.square().mean(0) + loc.var(0, correction=0)).sqrt()


@pytest.fixture
def mixtures():
    """Seven members each, up to fifty of their own widths apart, widths over two orders of magnitude."""
    loc = 10 * torch.randn(7, 300).double()
    return loc, 10 ** torch.randn(7, 300).double().clamp(-1, 1)


@pytest.mark.parametrize("p", PROBABILITIES)
def test_one_normal_has_its_own_quantile(p):
    loc, scale = torch.tensor([[-3.0, 0.0, 1e6]]).double(), torch.tensor([[0.1, 1.0, 2.0]]).double()
    found = normal_mixture_quantile(p, loc, scale)
    expected = stats.norm.ppf(p, loc[0], scale[0])
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("p", PROBABILITIES)
def test_the_distribution_function_crosses_the_probability_there(mixtures, p):
    loc, scale = mixtures
    found = normal_mixture_quantile(p, loc, scale)
    error = TOLERANCE * spread(loc, scale)
    below, above = (stats.norm.cdf(found + shift, loc, scale).mean(0) for shift in (-error, error))
    assert (below <= p).all()
    assert (above >= p).all()


def test_between_two_spikes_the_median_is_found():
    loc, scale = torch.tensor([[-100.0], [100.0]]).double(), torch.full((2, 1), 1e-3).double()
    found = normal_mixture_quantile(0.5, loc, scale)
    assert -100 < float(found) < 100
    np.testing.assert_allclose(stats.norm.cdf(found, loc, scale).mean(0), 0.5, rtol=1e-12)


def test_bisection_agrees_with_newton(mixtures):
    loc, scale = mixtures
    for p in (0.05, 0.5, 0.8):
        newton = normal_mixture_quantile(p, loc, scale)
        bisected = mixture_quantile(
            p,
            lambda y: torch.distributions.Normal(loc, scale).cdf(y).mean(0),
            loc.mean(0),
            spread(loc, scale),
        )
        assert ((newton - bisected).abs() <= 2 * TOLERANCE * spread(loc, scale)).all()


def test_an_element_does_not_depend_on_the_others(mixtures):
    loc, scale = mixtures
    among = normal_mixture_quantile(0.9, loc, scale)
    alone = [normal_mixture_quantile(0.9, loc[:, [i]], scale[:, [i]]) for i in range(20)]
    torch.testing.assert_close(among[:20], torch.cat(alone), rtol=1e-13, atol=0)


@pytest.mark.parametrize("p", [0.01, 0.5, 0.95])
def test_whole_numbers_are_exact(p):
    rate = torch.tensor([1e-4, 0.3, 2.0, 41.0, 1e5]).double()
    found = mixture_quantile(
        p,
        lambda y: torch.from_numpy(stats.poisson.cdf(y, rate)),
        rate,
        rate.sqrt(),
        whole=True,
    )
    np.testing.assert_array_equal(found, stats.poisson.ppf(p, rate))


@pytest.mark.parametrize(("centre", "spread"), [(5e7, 1e8), (1e61, 1e62), (1e235, torch.inf)])
def test_counts_spread_over_many_orders_of_magnitude_are_exact(centre, spread):
    rates = torch.tensor([[0.01], [3.0], [1e12], [4 * centre]], dtype=torch.float64)

    def cdf(y):
        return torch.special.gammaincc(y.clamp_min(0) + 1, rates).mean(0) * (y >= 0)

    centre, spread = torch.tensor([[centre], [spread]], dtype=torch.float64)
    for p in (0.1, 0.3, 0.45, 0.7):
        found = mixture_quantile(p, cdf, centre, spread, whole=True)
        assert cdf(found) >= p > cdf(torch.nextafter(found - 1, -torch.ones(1).double()))
    assert mixture_quantile(0.1, cdf, centre, spread, whole=True) == 0


def test_a_spread_of_no_use_is_done_without():
    cauchy = torch.distributions.Cauchy(torch.zeros(2).double(), 1.0)
    centre = torch.tensor([0.0, 1e3]).double()
    found = mixture_quantile(0.99, cauchy.cdf, centre, torch.tensor([torch.inf, 0.0]).double())
    np.testing.assert_allclose(found, stats.cauchy.ppf(0.99), rtol=1e-7)


@pytest.mark.parametrize("p", [0.05, 0.5, 0.8])
def test_newtons_steps_are_few(mixtures, monkeypatch, p):
    """Bisection alone gains a bit a step, which makes about thirty."""
    steps, erf = [], torch.erf
    monkeypatch.setattr(torch, "erf", lambda u: steps.append(len(u)) or erf(u))
    normal_mixture_quantile(p, *mixtures)
    assert 2 < len(steps) <= 20
