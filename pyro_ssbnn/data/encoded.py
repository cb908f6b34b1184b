"""Rows as a network sees them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Encoded"]


@dataclass(frozen=True, eq=False)
class Encoded:
    """Rows as a network sees them.

    :param x: ``[N, q]`` columns of the predictors, scaled; float64, or float32 for images.
    :param y: ``[N]`` targets, a regression's standardised.
    :param observed: ``[N]`` targets in their own units; labels for classes.
    :param sampled: rows in all, of which these are a sample; None where they are all.
    :param row: ``[N]`` places of the rows in the files they come from, where they are read in pieces.
    """

    x: Tensor
    y: Tensor
    observed: Tensor
    sampled: int | None = None
    row: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def total(self) -> int:
        """Rows in all."""
        return len(self) if self.sampled is None else self.sampled

    @property
    def together(self) -> int:
        """Rows that are predicted together."""
        return len(self)

    @property
    def given(self) -> tuple[Any, Any]:
        """What ``fit`` takes for x and y."""
        return self.x, self.y

    def sample(self, most: int) -> Encoded:
        """Rows that may be looked at together: all of them."""
        return self

    def parts(self) -> Iterator[Encoded]:
        """Rows that are predicted together: all of them."""
        yield self
