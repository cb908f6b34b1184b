"""Strict fixtures: a cleared parameter store, a fixed seed, validation on; warnings are errors (setup.cfg)."""

from contextlib import contextmanager

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


def process_state():
    """All of the process that a public call must leave as it was, as values that compare."""
    store = pyro.get_param_store()
    return {
        "random": torch.get_rng_state().tolist(),
        "parameters": {name: id(value) for name, value in store.named_parameters()},
        "settings": dict(pyro.settings.get()),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "validation": torch.distributions.Distribution._validate_args,
    }


@pytest.fixture
def process_unchanged():
    """Context in which the process must come out as it went in, with a parameter of the caller's in Pyro's store."""

    @contextmanager
    def unchanged():
        pyro.param("mine", torch.tensor(2.0))
        before = process_state()
        yield
        assert process_state() == before

    return unchanged


@pytest.fixture
def adds_alike():
    """Whether traced and eager steps add gradients up in the same order: with torch 2.13, not with 2.8."""
    return tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 13)


@pytest.fixture
def needs_same_sums(adds_alike):
    if not adds_alike:
        pytest.skip("with this torch traced and eager steps differ by rounding")
