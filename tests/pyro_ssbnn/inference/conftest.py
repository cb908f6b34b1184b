"""What tests of steps ask of torch."""

import pytest
import torch


@pytest.fixture
def adds_alike():
    """Whether traced and eager steps add gradients up in the same order: with torch 2.13, not with 2.8."""
    return tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 13)


@pytest.fixture
def needs_same_sums(adds_alike):
    if not adds_alike:
        pytest.skip("with this torch traced and eager steps differ by rounding")
