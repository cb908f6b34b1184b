"""Strict fixtures: a cleared parameter store, a fixed seed, validation on; warnings are errors (setup.cfg)."""

import pyro
import pytest
import torch


@pytest.fixture(autouse=True)
def _fresh_pyro():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)
    pyro.enable_validation(True)
    torch.set_num_threads(1)
    yield
    pyro.clear_param_store()
    pyro.enable_validation(True)


def assert_mean(samples, expected, sigmas=4.5):
    """Monte-Carlo means equal the expected values within their own standard errors.

    4.5 standard errors: a false alarm once in 150,000 comparisons.
    """
    mean, error = samples.mean(0), samples.std(0) / len(samples) ** 0.5
    assert ((mean - expected).abs() <= sigmas * error + 1e-12).all(), (mean, expected, error)


@pytest.fixture
def check_mean():
    return assert_mean
