"""Priors: their sites, their scales in distribution, limits, and bad hyperparameters."""

import math

import pyro
import pytest
import torch
from pyro import poutine

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.priors import (
    SSGHS,
    SSGL,
    SSIG,
    Gaussian,
    GroupHorseshoe,
    GroupLasso,
    TheoryInclusion,
    from_config,
    theory_inclusion,
)

N = 100_000
LIKE = torch.zeros((), dtype=torch.float64)


def draw_scales(prior, group_size=5, size=N):
    """Prior draws of t, ``[size]``, each with network-wide latents of its own."""
    with pyro.plate("draws", size, dim=-2), pyro.plate("nodes", 1, dim=-1):
        shared = prior.sample_shared("global", LIKE)
        local = prior.sample_local("hidden1", group_size, shared, LIKE)
    return prior.slab_scale(local, shared).flatten()


def check_quantiles(draws, cdf):
    """The empirical distribution function lies within 4.5 standard errors of the exact one."""
    for q in torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9]):
        at = draws.quantile(q.double()) if len(draws) < 1e6 else draws.sort().values[int(q * N)]
        exact = cdf(at.item())
        assert abs(exact - q.item()) < 4.5 * math.sqrt(q * (1 - q) / N)


@pytest.mark.parametrize("scale", [1.0, 0.2])
def test_horseshoe_scales_are_products_of_half_cauchys_without_the_cap(scale, check_mean):
    """s tau of two half-Cauchys of scales A and 1: log of it has mean log A and variance 2 pi^2/4."""
    draws = draw_scales(GroupHorseshoe(global_scale=scale, cap=1e30)).log()
    check_mean(draws, torch.tensor(math.log(scale), dtype=torch.float64))
    check_mean((draws - math.log(scale)).square(), torch.tensor(math.pi**2 / 2).double())


def test_the_product_form_is_the_half_cauchy():
    """With tau alone (s = 1 fixed by hand) the distribution function is (2/pi) atan(t)."""
    prior = GroupHorseshoe(cap=1e30)
    one = torch.ones((), dtype=torch.float64)
    with pyro.plate("nodes", N):
        local = prior.sample_local("hidden1", 5, {}, LIKE)
    draws = prior.slab_scale(local, {"scale_a": one, "scale_b": one})
    check_quantiles(draws, lambda t: 2 / math.pi * math.atan(t))


def test_horseshoe_cap_bounds_the_scale_and_its_limits():
    prior = GroupHorseshoe(cap=0.3)
    # <= : a scale far above the cap rounds to the cap itself
    assert (draw_scales(prior) <= 0.3 * (1 + 1e-12)).all()
    one = torch.ones((), dtype=torch.float64)
    shared = {"scale_a": one, "scale_b": one}
    for tau2, expected in [(1e-16, 1e-8), (1e16, 0.3), (1.0, 0.3 / math.sqrt(1.09))]:
        local = {"scale_a": tau2 * one, "scale_b": one}
        assert prior.slab_scale(local, shared).item() == pytest.approx(expected, rel=1e-7)


def test_random_cap_is_a_squared_scale():
    prior = GroupHorseshoe(cap=None)
    one = torch.ones((), dtype=torch.float64)
    shared = {"scale_a": 1e12 * one, "scale_b": one, "cap": 9 * one}
    assert prior.slab_scale({"scale_a": one, "scale_b": one}, shared).item() == pytest.approx(
        3.0, rel=1e-9
    )


def test_group_lasso_is_the_multivariate_laplace_given_its_penalty(check_mean):
    """For p(w) ~ exp(-penalty ||w||) on R^m the norm is Gamma(m, penalty)."""
    m, penalty = 5, 1.7
    prior = GroupLasso()
    shared = {"penalty": torch.tensor(penalty**2, dtype=torch.float64)}
    with pyro.plate("nodes", N):
        t = prior.slab_scale(prior.sample_local("hidden1", m, shared, LIKE), shared)
    norm = t * torch.randn(N, m, dtype=torch.float64).norm(dim=-1)
    check_mean(norm, torch.tensor(m / penalty).double())
    check_mean(norm.square(), torch.tensor(m * (m + 1) / penalty**2).double())


@pytest.mark.parametrize(
    ("prior", "sites"),
    [
        (Gaussian(), []),
        (SSIG(), []),
        (SSGL(), ["global.penalty", "hidden1.variance"]),
        (
            SSGHS(),
            ["global.scale_a", "global.scale_b", "hidden1.scale_a", "hidden1.scale_b"],
        ),
        (
            GroupHorseshoe(cap=None),
            [
                "global.scale_a",
                "global.scale_b",
                "global.cap",
                "hidden1.scale_a",
                "hidden1.scale_b",
            ],
        ),
    ],
)
def test_sites_have_readable_names(prior, sites):
    def sample():
        shared = prior.sample_shared("global", LIKE)
        prior.sample_local("hidden1", 3, shared, LIKE)

    assert list(poutine.trace(sample).get_trace().stochastic_nodes) == sites


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SSIG(scale=0.0), "scale must be a positive"),
        (lambda: SSIG(scale=float("nan")), "scale must be a positive"),
        (lambda: SSGL(penalty_rate=-1.0), "penalty_rate must be a positive"),
        (lambda: SSGHS(global_scale=float("inf")), "global_scale must be a positive"),
        (lambda: SSGHS(cap=-1.0), "cap must be a positive"),
        (lambda: SSIG(inclusion=0.0), "strictly between 0 and 1"),
        (lambda: SSIG(inclusion=(0.1, 1.0)), "strictly between 0 and 1"),
        (lambda: SSIG(inclusion=None), "needs an inclusion probability"),
        (lambda: Gaussian(inclusion=0.5), "has no gates"),
        (lambda: TheoryInclusion(0), "number of observations"),
        (lambda: TheoryInclusion(10, constant=0.0), "constant must be positive"),
        (lambda: theory_inclusion([3, 2], 10), "at least one hidden layer"),
        (lambda: theory_inclusion([9999, 2, 1], 10, constant=1.0), "underflows"),
        (lambda: from_config({"name": "spike"}), "expected one of"),
        (lambda: from_config({"name": "ss-ig", "width": 3}), "width"),
    ],
)
def test_bad_hyperparameters_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


@pytest.mark.parametrize(
    "prior",
    [
        Gaussian(scale=0.3),
        SSIG(inclusion=(0.1, 0.2)),
        SSGL(penalty_concentration=3.0),
        SSGHS(cap=None, inclusion=TheoryInclusion(100)),
        GroupLasso(),
        GroupHorseshoe(global_scale=0.1),
    ],
)
def test_records_make_the_same_prior_again(prior):
    import json

    assert from_config(json.loads(json.dumps(prior.to_config()))) == prior


def test_theory_inclusion_gives_the_published_values():
    """784-400-400-10 on n = 60,000: about 1.5e-3 and 2.3e-3."""
    first, second = theory_inclusion([784, 400, 400, 10], 60_000)
    assert first == pytest.approx(1.5e-3, rel=0.05)
    assert second == pytest.approx(2.3e-3, rel=0.05)


def test_theory_inclusion_tends_to_one_over_the_width_as_the_constant_falls():
    assert theory_inclusion([50, 20, 7, 1], 1000, constant=1e-30) == pytest.approx([1 / 20, 1 / 7])


def test_theory_inclusion_falls_with_n_and_with_fan_in():
    a = theory_inclusion([50, 20, 1], 1000, constant=1e-6)[0]
    assert theory_inclusion([50, 20, 1], 10**9, constant=1e-6)[0] < a
    assert theory_inclusion([80, 20, 1], 1000, constant=1e-6)[0] < a
