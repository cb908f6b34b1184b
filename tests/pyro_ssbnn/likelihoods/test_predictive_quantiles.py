"""Distribution functions and quantiles of predictions, likelihood by likelihood."""

import numpy as np
import pytest
import torch
from pyro import distributions as dist
from scipy import stats

from pyro_ssbnn import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    GaussianLikelihood,
    Likelihood,
    PoissonLikelihood,
)
from pyro_ssbnn.errors import ConfigurationError

DRAWS, ROWS = 50, 6


def test_gaussian_with_noise_of_its_own_in_each_draw():
    likelihood = GaussianLikelihood()
    f = torch.randn(DRAWS, ROWS, 1).double()
    latents = {"noise.variance": torch.rand(DRAWS, 1).double() + 0.1}
    found = likelihood.quantile(0.05, f, latents)
    scale = latents["noise.variance"].sqrt()
    mass = stats.norm.cdf(found, f[..., 0], scale).mean(0)
    np.testing.assert_allclose(mass, 0.05, rtol=1e-7)
    np.testing.assert_allclose(likelihood.cdf(found, f, latents).mean(0), 0.05, rtol=1e-7)


def test_one_set_of_weights_shares_the_noise_among_the_rows():
    likelihood = GaussianLikelihood(num_targets=2)
    f = torch.randn(1, ROWS, 2).double()
    latents = {"noise.variance": torch.rand(DRAWS, 1, 2).double() + 0.1}
    shared = likelihood.quantile(0.9, f, latents)
    each = likelihood.quantile(0.9, f.expand(DRAWS, -1, -1), latents)
    torch.testing.assert_close(shared, each, rtol=0, atol=1e-7)
    assert shared.shape == (ROWS, 2)


@pytest.mark.parametrize("p", [0.05, 0.5, 0.95])
def test_counts_are_the_smallest_that_reach_the_probability(p):
    likelihood = PoissonLikelihood()
    f = 2 * torch.randn(DRAWS, ROWS, 1).double()
    found = likelihood.quantile(p, f, {})
    rate = f[..., 0].exp()
    assert (stats.poisson.cdf(found, rate).mean(0) >= p).all()
    assert (stats.poisson.cdf(found - 1, rate).mean(0) < p).all()
    below = likelihood.cdf(torch.tensor([-1.0, 2.7]).double(), f[:1, :1], {})
    np.testing.assert_allclose(below[0], [0.0, stats.poisson.cdf(2, rate[0, 0])])


def test_the_default_searches_by_the_distribution_function():
    """Bisection of the base class and Newton's method of the Gaussian agree."""
    likelihood = GaussianLikelihood(scale=0.3)
    f = torch.randn(DRAWS, ROWS, 1).double()
    found = Likelihood.quantile(likelihood, 0.2, f, {})
    torch.testing.assert_close(found, likelihood.quantile(0.2, f, {}), rtol=0, atol=1e-7)


def test_a_distribution_without_a_distribution_function_says_what_to_give():
    class StudentT(Likelihood):
        def distribution(self, f, latents):
            return dist.StudentT(5.0, f.squeeze(-1))

        def mean(self, f, latents):
            return f.squeeze(-1)

    with pytest.raises(ConfigurationError, match=r"StudentT has no distribution function.* cdf\("):
        StudentT().quantile(0.5, torch.zeros(3, 4, 1).double(), {})


def test_classes_have_no_quantiles():
    for likelihood in (BernoulliLikelihood(), CategoricalLikelihood(3)):
        assert likelihood.predicts_classes
    assert not GaussianLikelihood().predicts_classes
