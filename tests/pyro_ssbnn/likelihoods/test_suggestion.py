"""Suggested likelihoods: what simulated targets of each kind are taken for, and what the reason says."""

import numpy as np
import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.errors import DataError

RNG = np.random.default_rng(0)
N = 500
CASES = {
    "bernoulli": RNG.integers(0, 2, N),
    "poisson": RNG.poisson(3.0, N),
    "negative-binomial": RNG.negative_binomial(1, 0.2, N),
    "ordinal": 1 + RNG.binomial(4, 0.6, N),
    "gaussian": RNG.normal(40, 3, N),
    "student-t": RNG.standard_t(2, N),
    "weibull": np.column_stack([RNG.weibull(1.5, N), RNG.integers(0, 2, N)]),
}


@pytest.mark.parametrize("name", CASES)
def test_each_kind_is_taken_for_what_it_is(name):
    found = ss.suggest_likelihood(CASES[name])
    assert found.likelihood.name == name
    assert ss.suggest_likelihood(torch.as_tensor(CASES[name])) == found
    shift = name == "ordinal"
    found.likelihood.check_data(
        torch.as_tensor(CASES[name] - shift).float().to(torch.long if shift else torch.float32)
    )
    assert ("y - 1" in found.reason) == shift


def test_poisson_counts_are_rarely_taken_for_others():
    """The level of the test is 0.001 on either side; ten or more grades of a small mean are never all there."""
    names = [ss.suggest_likelihood(RNG.poisson(2.0, 200)).likelihood.name for _ in range(400)]
    assert names.count("poisson") >= 394  # binomial(400, 0.002): 7 or more others once in 10,000


def test_counts_get_a_unit_and_a_bound():
    y = CASES["negative-binomial"]
    found = ss.suggest_likelihood(y)
    assert found.likelihood.unit == y.mean()
    assert found.likelihood.largest == 10 * y.max()
    assert f"{y.var(ddof=1) / y.mean():.1f} times their mean" in found.reason


def test_known_counts_are_never_grades():
    grades = CASES["ordinal"]
    assert ss.suggest_likelihood(grades, counts=True).likelihood.name == "poisson"
    with pytest.raises(DataError, match="counts are whole numbers"):
        ss.suggest_likelihood([0.5, 1.0], counts=True)


def test_several_quantities_and_skewed_ones():
    assert ss.suggest_likelihood(RNG.normal(size=(N, 3))).likelihood.num_targets == 3
    assert ss.suggest_likelihood(1000 + RNG.integers(0, 30, N)).likelihood.name == "gaussian"
    assert "consider their logarithm" in ss.suggest_likelihood(RNG.lognormal(0, 2, N)).reason


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["a", "b"], "must hold numbers.*CategoricalLikelihood"),
        ([1.0, np.nan], "missing or infinite"),
        ([2.0, 2.0], "all y are 2"),
        (np.zeros((2, 2, 2)), r"must be \[N\] or \[N, K\]"),
    ],
)
def test_what_says_nothing_is_refused(y, message):
    with pytest.raises(DataError, match=message):
        ss.suggest_likelihood(y)
