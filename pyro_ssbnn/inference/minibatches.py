"""The minibatches of a run: which rows each step sees, in what order, changed by augmentation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pyro_ssbnn.inference.options import TrainingOptions
from pyro_ssbnn.inference.preparation import Augmentation, augmented

__all__ = ["Minibatches", "row_order"]


def row_order(seed: int, epoch: int, like: Tensor) -> Tensor:
    """Order of the rows in an epoch (from 0), ``[N]``: it depends on seed and epoch alone, so that it can be had again.

    :param like: the data, ``[N, p]``, on the device where the order is wanted.
    """
    entropy = np.random.SeedSequence((seed % 2**64, epoch)).generate_state(1, np.uint32)
    generator = torch.Generator(like.device).manual_seed(int(entropy[0]))
    return torch.randperm(len(like), generator=generator, device=like.device)


class Minibatches:
    """The data of a run, step by step.

    :param x: predictors ``[N, p]`` on the device of the run.
    :param y: targets, there too.
    :param augment: changes the predictors of every minibatch.

    ``whole`` are all rows of the predictors left.
    """

    def __init__(
        self, x: Tensor, y: Tensor, options: TrainingOptions, augment: Augmentation | None = None
    ) -> None:
        self.x, self.y, self.augment, self.seed = x, y, augment, options.seed
        self.rows = options.batch_rows(len(x))
        self.epoch_steps = options.epoch_steps(len(x))
        self._columns: Tensor | None = None  # predictors left, None for all
        self.whole = x

    def keep(self, columns: Tensor | None) -> None:
        """Give only these predictors from now on, ``[kept]``; augmentation sees all of them."""
        self._columns = None if columns is None else columns.to(self.x.device)
        self.whole = self.x if self._columns is None else self.x.index_select(1, self._columns)

    def of_steps(self, first: int, last: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Minibatches of the steps from ``first`` to before ``last``, all of one epoch."""
        if self.rows == len(self.x):
            for _ in range(first, last):
                # An augmentation may change its argument in place.
                yield (self._changed(self.x.clone()) if self.augment else self.whole), self.y
            return
        epoch, start = divmod(first, self.epoch_steps)
        order = row_order(self.seed, epoch, self.x)
        # A random remainder waits for the next epoch.
        part = order[start * self.rows : (start + last - first) * self.rows]
        for rows in part.split(self.rows):
            x = self.x if self.augment else self.whole
            yield self._changed(x.index_select(0, rows)), self.y.index_select(0, rows)

    def _changed(self, x: Tensor) -> Tensor:
        if self.augment is None:
            return x
        x = augmented(self.augment, x)
        return x if self._columns is None else x.index_select(1, self._columns)
