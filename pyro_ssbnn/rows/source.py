"""What rows that are read in pieces must give."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from torch import Tensor

__all__ = ["Block", "Source"]

Block = tuple[Tensor, Tensor | None]
"""Predictors ``[n, p]`` and targets ``[n]`` (``[n, K]`` for several; None where there are none) of some rows."""


class Source(ABC):
    """Rows that are read in pieces. A subclass says how; all rows must have the same columns.

    A run can be repeated, and resumed bit by bit, where the same seed gives the same blocks.
    """

    @abstractmethod
    def blocks(self, seed: int | None = None) -> Iterator[Block]:
        """All rows once, some at a time, in CPU tensors that nobody else changes.

        :param seed: of their order, where the source can be read in any; None for the order in which they stand.
        """
