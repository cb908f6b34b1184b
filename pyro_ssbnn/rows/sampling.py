"""A uniform sample of rows that come block by block, in memory for the sample alone."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["RowSample"]


class RowSample:
    """Rows drawn without replacement: each gets a random key, those of the smallest keys are kept.

    :param most: rows to keep; of fewer all are kept.
    :param seed: of the keys.
    """

    def __init__(self, most: int, seed: int = 0) -> None:
        self.most, self.seen = most, 0
        self._generator = torch.Generator().manual_seed(seed)
        self._limit = 1.0  # no key above it is among the smallest
        self._kept: list[tuple[Tensor, ...]] = []
        self._number = 0

    def add(self, *columns: Tensor) -> None:
        """Take in a block.

        :param columns: tensors of the same number of rows, such as x and y.
        """
        number = len(columns[0])
        self.seen += number
        keys = torch.rand(number, generator=self._generator, dtype=torch.float64)
        chosen = (keys < self._limit).nonzero().squeeze(1)
        if len(chosen):
            parts = (keys, *columns)
            self._kept.append(tuple(part.index_select(0, chosen) for part in parts))
            self._number += len(chosen)
        if self._number > 2 * self.most:
            self._compact()

    def rows(self) -> tuple[Tensor, ...]:
        """The sample of each column, in random order."""
        self._compact()
        return self._kept[0][1:] if self._kept else ()

    def _compact(self) -> None:
        if not self._kept:
            return
        parts = [torch.cat(held) for held in zip(*self._kept, strict=True)]
        smallest = parts[0].argsort()[: self.most]
        self._kept = [tuple(part.index_select(0, smallest) for part in parts)]
        self._number = len(smallest)
        if self._number == self.most:
            self._limit = float(self._kept[0][0][-1])
