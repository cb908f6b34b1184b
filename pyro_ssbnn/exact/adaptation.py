"""What the warm-up of the sampler adapts: step sizes and a diagonal metric.

Tensors lead with ``[T, G, C]``: temperatures, data sets, chains; what is adapted is shared by the chains.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["RunningVariance", "StepSize"]


class StepSize:
    """Dual averaging of log step sizes ``[T, G, 1]`` (Hoffman and Gelman 2014, algorithm 5)."""

    def __init__(self, start: Tensor, target: float) -> None:
        self.target = target
        self.restart(start)

    def restart(self, start: Tensor) -> None:
        """Forget all but the present sizes."""
        self.centre = (10 * start).log()
        self.size, self.average = start, torch.zeros_like(start)
        self.error, self.count = torch.zeros_like(start), 0

    def update(self, acceptance: Tensor) -> None:
        """Learn from one trajectory's acceptance probability, ``[T, G, 1]``."""
        self.count += 1
        rate = 1 / (self.count + 10)
        self.error = (1 - rate) * self.error + rate * (self.target - acceptance)
        log_size = self.centre - math.sqrt(self.count) / 0.05 * self.error
        forget = self.count**-0.75
        self.average = forget * log_size + (1 - forget) * self.average
        self.size = log_size.exp()

    def freeze(self) -> None:
        """Keep the averaged sizes from now on."""
        self.size = self.average.exp()


class RunningVariance:
    """Running variance of points ``[T, G, C, dim]`` over iterations and chains (Welford)."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, torch.zeros(()), torch.zeros(())

    def update(self, points: Tensor) -> None:
        """Add one iteration's points, every chain an observation."""
        for chain in points.unbind(2):
            self.count += 1
            change = chain - self.mean
            self.mean = self.mean + change / self.count
            self.squares = self.squares + change * (chain - self.mean)

    def variance(self) -> Tensor:
        """Variance ``[T, G, 1, dim]``, shrunk towards a small constant as in Stan."""
        weight = self.count / (self.count + 5)
        raw = self.squares / max(self.count - 1, 1)
        return (weight * raw + 1e-3 * (1 - weight)).unsqueeze(2)
