"""Closed-form quantiles of the slab scale against the formula at hand-set parameters, and against draws."""

import math

import numpy as np
import pytest
import torch

from pyro_ssbnn.analysis import slab_scale_quantiles
from pyro_ssbnn.analysis.scales import gate_logits, inclusion_probabilities
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.posterior.draws import draw_posterior
from pyro_ssbnn.priors import SSGHS, SSGL, SSIG

Z95 = 1.6448536269514722


def set_site(site, loc, scale):
    site.loc.data.fill_(loc)
    site.log_scale.data.fill_(math.log(scale))


def test_group_lasso_is_the_root_of_a_lognormal(build):
    _, guide = build([2], SSGL(inclusion=0.1))
    set_site(guide.hidden1.scales.variance, -1.0, 0.4)
    set_site(guide.get_submodule("global").penalty, 2.0, 0.3)
    got = slab_scale_quantiles(guide, "hidden1")
    m = guide.description.layer("hidden1").group_size
    loc = math.log(m + 1) - 2 - 1  # a variance counts from (m + 1) / penalty
    expected = [math.exp((loc + 0.5 * z) / 2) for z in (-Z95, 0, Z95)]
    np.testing.assert_allclose(got, np.tile(np.array(expected)[:, None], (1, 2)), rtol=1e-6)


def test_group_horseshoe_adds_the_logs_of_its_four_factors_and_caps(build):
    _, guide = build([2], SSGHS(inclusion=0.1, cap=2.0))
    set_site(guide.hidden1.scales.scale_a, 0.3, 0.1)
    set_site(guide.hidden1.scales.scale_b, -0.2, 0.2)
    set_site(guide.get_submodule("global").scale_a, -1.0, 0.3)
    set_site(guide.get_submodule("global").scale_b, 0.5, 0.4)
    x = np.exp(-0.4 + math.sqrt(0.01 + 0.04 + 0.09 + 0.16) * np.array([-Z95, 0, Z95]))
    expected = (1 / 4 + 1 / x) ** -0.5
    got = slab_scale_quantiles(guide, "hidden1")
    np.testing.assert_allclose(got[:, 1], expected, rtol=1e-6)


def test_gaussian_slab_scale_is_one(build):
    _, guide = build([3], SSIG(inclusion=0.1))
    np.testing.assert_array_equal(slab_scale_quantiles(guide, "hidden1", [0.2]), np.ones((1, 3)))


@pytest.mark.parametrize("cap", [1.0, None])
def test_quantiles_agree_with_posterior_draws(build, cap):
    prior = SSGHS(inclusion=0.1, cap=cap)
    model, guide = build([2], prior)
    set_site(guide.hidden1.scales.scale_a, 0.3, 0.6)
    draws = draw_posterior(model, guide, 20_000).latents
    local = {key: draws[f"hidden1.{key}"] for key in ("scale_a", "scale_b")}
    shared = {
        k.removeprefix("global."): v[:, None] for k, v in draws.items() if k.startswith("global.")
    }
    drawn = prior.slab_scale(local, shared).numpy()
    below = (drawn[None] < slab_scale_quantiles(guide, "hidden1")[:, None]).mean(1)
    np.testing.assert_allclose(below, np.tile([[0.05], [0.5], [0.95]], (1, 2)), atol=0.02)


def test_monte_carlo_repeats_and_leaves_the_random_state(build):
    _, guide = build([2], SSGHS(inclusion=0.1, cap=None))
    state = torch.get_rng_state()
    first = slab_scale_quantiles(guide, "hidden1", seed=3)
    np.testing.assert_array_equal(first, slab_scale_quantiles(guide, "hidden1", seed=3))
    assert (first != slab_scale_quantiles(guide, "hidden1", seed=4)).all()
    assert torch.equal(torch.get_rng_state(), state)


def test_logits_are_exact_where_probabilities_saturate(build):
    _, guide = build([2], logits={"hidden1": [-200.0, 200.0]})
    np.testing.assert_array_equal(gate_logits(guide, "hidden1"), [-200.0, 200.0])
    np.testing.assert_allclose(inclusion_probabilities(guide, "hidden1"), [0, 1], atol=1e-80)


@pytest.mark.parametrize("level", [0.0, 1.0, 1.2])
def test_levels_outside_0_1_are_refused(build, level):
    _, guide = build()
    with pytest.raises(ConfigurationError, match="levels must lie"):
        slab_scale_quantiles(guide, "hidden1", [0.5, level])


def test_unknown_and_ungated_groups_are_refused(build):
    _, guide = build()
    with pytest.raises(ConfigurationError, match="no layer is called 'hidden9'"):
        slab_scale_quantiles(guide, "hidden9")
    with pytest.raises(ConfigurationError, match="'output' has no gates"):
        gate_logits(guide, "output")
