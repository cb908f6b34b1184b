"""Weights of several fits: optima that are known, limits, and errors of bounds."""

import math

import numpy as np
import pytest
import torch

from pyro_ssbnn import (
    MLP,
    SSIG,
    Fit,
    GaussianLikelihood,
    History,
    StructuredGuide,
    TrainingOptions,
)
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference.evaluation import Bound
from pyro_ssbnn.inference.stacking import bound_weights, left_out_densities, stacking_weights


def bound(elbo, error=0.0):
    return Bound(elbo, error, elbo, 0.0, 100)


def test_rows_that_only_one_fit_explains_give_it_their_share():
    log_density = np.array([[0.0, -800.0]] * 3 + [[-800.0, 0.0]])
    np.testing.assert_allclose(stacking_weights(log_density), [0.75, 0.25], atol=1e-12)


@pytest.mark.parametrize(("share", "ratio"), [(0.7, 4.0), (0.55, 20.0), (0.5, 3.0)])
def test_two_fits_that_each_explain_some_rows_better_have_a_closed_form(share, ratio):
    """Maximum of s log(1 + w (r - 1)) + (1 - s) log(r - w (r - 1)): w = (s r - 1 + s) / (r - 1)."""
    rows = 100
    first = round(share * rows)
    log_density = np.zeros((rows, 2))
    log_density[:first, 0] = log_density[first:, 1] = math.log(ratio)
    expected = (share * ratio - 1 + share) / (ratio - 1)
    shifted = log_density + np.random.default_rng(0).normal(size=(rows, 1))  # of a row: no matter
    assert stacking_weights(shifted)[0] == pytest.approx(expected, abs=1e-4)


def test_the_optimum_satisfies_its_conditions_and_no_other_weights_do_better():
    random = np.random.default_rng(1)
    log_density = random.normal(size=(200, 5))
    weights = stacking_weights(log_density)

    def score(w):
        return np.log(np.exp(log_density) @ w).sum()

    density = np.exp(log_density)
    gain = (density / (density @ weights)[:, None]).mean(0)
    assert weights.sum() == pytest.approx(1.0, abs=1e-12)
    assert gain.max() < 1 + 1e-8
    others = random.dirichlet(np.ones(5), size=500)
    assert max(score(other) for other in others) <= score(weights) + 1e-6
    assert score(weights) >= max(score(np.eye(5)[k]) for k in range(5))


def test_a_fit_that_is_better_everywhere_takes_all():
    log_density = np.random.default_rng(2).normal(size=(50, 1)) + np.array([[0.0, -1.0, -2.0]])
    np.testing.assert_allclose(stacking_weights(log_density), [1.0, 0.0, 0.0], atol=1e-6)


def test_bounds_without_errors_are_their_softmax():
    np.testing.assert_allclose(
        bound_weights([bound(-3.0), bound(-3.0 - math.log(3.0))]), [0.75, 0.25], atol=1e-12
    )
    np.testing.assert_allclose(bound_weights([bound(0.0), bound(-60.0)]), [1.0, 0.0], atol=1e-20)


def test_errors_of_bounds_bring_weights_together():
    """Averaged over normal errors: that of two equal bounds is a half, and far ones are not told apart by noise."""
    sharp, vague = (bound_weights([bound(0.0, e), bound(-4.0, e)])[0] for e in (0.0, 6.0))
    assert sharp == pytest.approx(1 / (1 + math.exp(-4.0)))
    assert 0.5 < vague < 0.8
    assert bound_weights([bound(0.0, 3.0)] * 2)[0] == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("wrong", [np.zeros(3), np.zeros((0, 2)), [[0.0, math.nan]]])
def test_what_is_no_matrix_of_densities_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="stacking_weights: log_density"):
        stacking_weights(wrong)


def test_of_many_rows_so_many_are_scored(monkeypatch):
    """The densities of a sample of the rows, which is one of the rows themselves: each of them once at most."""
    net = MLP(3, [4], prior=SSIG(inclusion=0.5), likelihood=GaussianLikelihood())
    fit = Fit(net, StructuredGuide(net), TrainingOptions(), History(), 30)
    x, y = torch.randn(30, 3), torch.randn(30)
    whole = left_out_densities([fit], x, y, num_draws=400, seed=1)[:, 0]
    monkeypatch.setattr("pyro_ssbnn.inference.stacking._ROWS", 8)
    some = left_out_densities([fit], x, y, num_draws=400, seed=1)[:, 0]
    nearest = np.abs(some[:, None] - whole).argmin(1)
    assert len(set(nearest)) == len(some) == 8
    np.testing.assert_allclose(some, whole[nearest], rtol=1e-5)
