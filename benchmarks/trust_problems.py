"""The small problems of ``benchmarks/trust.py``: data, networks and which predictors act."""

from __future__ import annotations

import torch
from torch import Tensor

import pyro_ssbnn as ss

__all__ = ["CASES", "EFFECTS", "GUIDES", "KINDS", "PRIORS", "ROWS", "make_network", "simulate"]

PRIORS = {
    "ss-ig": (ss.Gaussian(), ss.SSIG(inclusion=0.5)),
    "ss-gl": (ss.GroupLasso(), ss.SSGL(inclusion=0.5)),
    "ss-ghs": (ss.GroupHorseshoe(), ss.SSGHS(inclusion=0.5)),
}
EFFECTS = {
    "strong": [1.5, -1.0, 0, 0, 0, 0],
    "weak": [0.35, -0.3, 0.25, 0, 0, 0],
    "correlated": [1.0, 0, 0.5, 0.5, 0, 0],
    "null": [0.0] * 6,
}
KINDS = {
    "strong": ["strong"] * 2 + ["null"] * 4,
    "weak": ["weak"] * 3 + ["null"] * 3,
    "correlated": ["correlated"] * 4 + ["null"] * 2,
    "null": ["null"] * 6,
    "network": ["strong"] * 2 + ["null"] * 2,
}
CASES = tuple(KINDS)
GUIDES = ("default", "cooled", "matched", "coupled")
ROWS, TEST_ROWS = 50, 500


def predictors(case: str, rows: int, generator: torch.Generator) -> Tensor:
    """Predictors ``[rows, p]`` of a case."""
    x = torch.randn(rows, len(KINDS[case]), generator=generator, dtype=torch.float64)
    if case == "correlated":
        x[:, 1] = 0.95 * x[:, 0] + (1 - 0.95**2) ** 0.5 * x[:, 1]
        x[:, 3] = 0.8 * x[:, 2] + 0.6 * x[:, 3]
    return x


def truth(case: str, x: Tensor) -> tuple[Tensor, float]:
    """Expected targets, and the noise's standard deviation."""
    if case == "network":
        return 2 * torch.tanh(1.5 * x[:, 0]) - 1.5 * torch.tanh(1.5 * x[:, 1] - 0.5), 0.5
    return x @ torch.tensor(EFFECTS[case], dtype=torch.float64), 1.0


def simulate(case: str, sets: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x ``[n, p]``, targets ``[sets, n]``, and fresh rows of both, ``[T, p]``, ``[sets, T]``."""
    generator = torch.Generator().manual_seed(1 + CASES.index(case))
    x, fresh = (predictors(case, rows, generator) for rows in (ROWS, TEST_ROWS))
    drawn = []
    for rows in (x, fresh):
        mean, noise = truth(case, rows)
        shape = (sets, len(rows))
        drawn.append(mean + noise * torch.randn(shape, generator=generator, dtype=torch.float64))
    return x, drawn[0], fresh, drawn[1]


def make_network(case: str, prior: str) -> ss.MLP:
    """The network of a case."""
    dense, gated = PRIORS[prior]
    likelihood = ss.GaussianLikelihood()
    if case == "network":
        return ss.MLP(
            4, [3], prior=gated, likelihood=likelihood, activation="tanh", input_inclusion=0.3
        )
    return ss.MLP(
        6, [], prior=dense, output_prior=dense, likelihood=likelihood, input_inclusion=0.3
    )
