"""Simulated data of ``benchmarks/selection.py``, and what each method reports of a data set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["REAL", "TEST_ROWS", "Data", "data_set", "rmse", "rule_record", "simulate"]

REAL = frozenset(range(5))
"""Columns of the predictors that matter."""

TEST_ROWS = 1_000
TEST_SEED = 1_000_000  # far from any seed of training data


class Data(NamedTuple):
    """Predictors and targets to fit to, and others to predict."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor


def simulate(n: int, seed: int, predictors: int = 2_000) -> tuple[Tensor, Tensor, Tensor]:
    """Predictors ``[n, predictors]``, targets ``[n]`` and their noiseless values ``[n]``."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(n, 1, generator=generator)
    x = (torch.randn(n, predictors, generator=generator) + common) / 2**0.5
    x1, x2, x3, x4, x5 = x[:, :5].T
    f = 5 * x2 / (1 + x1**2) + 5 * torch.sin(x3 * x4) + 2 * x5
    return x, f + torch.randn(n, generator=generator), f


def data_set(n: int, seed: int, predictors: int = 2_000) -> Data:
    """Training data of a seed, and test data of another."""
    x, y, _ = simulate(n, seed, predictors)
    x_test, y_test, _ = simulate(TEST_ROWS, TEST_SEED + seed, predictors)
    return Data(x, y, x_test, y_test)


def rmse(prediction: Tensor | NDArray, target: Tensor) -> float:
    """Root mean squared error."""
    return float((torch.as_tensor(prediction) - target).square().mean().sqrt())


def rule_record(selected: Iterable[int], error: float) -> dict:
    """Record of one rule: columns selected, and the test error."""
    return {"selected": [int(j) for j in selected], "rmse": error}
