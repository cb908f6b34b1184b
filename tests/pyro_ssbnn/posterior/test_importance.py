"""Leave-one-out by importance sampling, against the normal mean, whose answer is known."""

import numpy as np
from scipy.stats import norm

from pyro_ssbnn.posterior.importance import leave_one_out_density


def test_the_density_of_a_row_left_out_is_the_normal_means():
    """With y_i ~ N(m, 1) and a flat prior, y_i given the others is N(their mean, 1 + 1 / (n - 1))."""
    random = np.random.default_rng(0)
    n, draws = 40, 20_000
    y = random.normal(size=n)
    m = y.mean() + random.normal(size=(draws, 1)) / np.sqrt(n)
    found, k = leave_one_out_density(norm.logpdf(y, m, 1.0))
    others = (y.sum() - y) / (n - 1)
    expected = norm.logpdf(y, others, np.sqrt(1 + 1 / (n - 1)))
    assert k.max() < 0.5
    np.testing.assert_allclose(found, expected, atol=0.01)
    seen = np.log(np.exp(norm.logpdf(y, m, 1.0)).mean(0))
    assert (seen - expected).mean() > 0.005  # what the row itself adds, and the weights take back
