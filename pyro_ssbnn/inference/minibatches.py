"""The minibatches of a run: which rows each step sees, in what order, changed by augmentation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from pyro_ssbnn.errors import DataError
from pyro_ssbnn.inference.options import TrainingOptions
from pyro_ssbnn.inference.preparation import Augmentation, augmented, placed
from pyro_ssbnn.inference.training_rows import TrainingRows
from pyro_ssbnn.likelihoods import Likelihood
from pyro_ssbnn.rows.digest import RowDigest
from pyro_ssbnn.rows.pools import minibatches
from pyro_ssbnn.rows.prefetching import sent_ahead
from pyro_ssbnn.rows.source import Source

__all__ = ["Minibatches", "minibatches_of", "row_order"]


def minibatches_of(
    rows: TrainingRows,
    likelihood: Likelihood,
    options: TrainingOptions,
    augment: Augmentation | None = None,
) -> Minibatches:
    """Minibatches of rows that are placed, in memory or read in pieces."""
    if rows.source is None:
        return Minibatches(rows.x, rows.y, options, augment)
    return StreamedMinibatches(rows, rows.source, likelihood, options, augment)


def epoch_seed(seed: int, epoch: int) -> int:
    """Seed of the order of an epoch (from 0)."""
    entropy = np.random.SeedSequence((seed % 2**64, epoch)).generate_state(1, np.uint32)
    return int(entropy[0])


def row_order(seed: int, epoch: int, like: Tensor) -> Tensor:
    """Order of the rows in an epoch (from 0), ``[N]``: it depends on seed and epoch alone, so that it can be had again.

    :param like: the data, ``[N, p]``, on the device where the order is wanted.
    """
    generator = torch.Generator(like.device).manual_seed(epoch_seed(seed, epoch))
    return torch.randperm(len(like), generator=generator, device=like.device)


class Minibatches:
    """The data of a run, step by step.

    :param x: predictors ``[N, p]`` on the device of the run.
    :param y: targets, there too.
    :param augment: changes the predictors of every minibatch.
    :param num_data: rows in all, where x and y are a sample.

    ``whole`` are all rows of the predictors left, ``num_data`` counts the rows. Of a source that is read in pieces x, y
    and ``whole`` are a sample. ``part`` are the rows of a minibatch that are given: those of this rank. ``digest`` is
    that of all rows that a source has given so far, where several ranks are to be given the same.
    """

    digest: RowDigest | None = None

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        options: TrainingOptions,
        augment: Augmentation | None = None,
        num_data: int | None = None,
    ) -> None:
        self.x, self.y, self.augment, self.seed = x, y, augment, options.seed
        self.num_data = len(x) if num_data is None else num_data
        self.rows = options.batch_rows(self.num_data)
        self.epoch_steps = options.epoch_steps(self.num_data)
        self._columns: Tensor | None = None  # predictors left, None for all
        self.whole = x
        self.part = slice(None)

    def keep(self, columns: Tensor | None) -> None:
        """Give only these predictors from now on, ``[kept]``; augmentation sees all of them."""
        self._columns = None if columns is None else columns.to(self.x.device)
        self.whole = self.x if self._columns is None else self.x.index_select(1, self._columns)

    def of_steps(self, first: int, last: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Minibatches of the steps from ``first`` to before ``last``, all of one epoch."""
        if self.rows == len(self.x):
            for _ in range(first, last):
                if self.augment is None:
                    yield self.whole[self.part], self.y[self.part]
                else:  # which may change its argument in place
                    yield self._changed(self.x[self.part].clone()), self.y[self.part]
            return
        epoch, start = divmod(first, self.epoch_steps)
        order = row_order(self.seed, epoch, self.x)
        # A random remainder waits for the next epoch.
        part = order[start * self.rows : (start + last - first) * self.rows]
        for minibatch in part.split(self.rows):
            yield self._taken(minibatch[self.part])

    def example(self) -> tuple[Tensor, Tensor]:
        """A minibatch of the shape of all."""
        return next(self.of_steps(0, 1))

    def _taken(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        y = self.y.index_select(0, rows)
        if self.augment is None:
            return self.whole.index_select(0, rows), y
        return self._changed(self.x.index_select(0, rows)), y

    def _changed(self, x: Tensor) -> Tensor:
        """Rows of all predictors as they are given: augmented, and of those left."""
        x = x if self.augment is None else augmented(self.augment, x)
        return x if self._columns is None else x.index_select(1, self._columns)


class StreamedMinibatches(Minibatches):
    """The data of a run that are read in pieces, in an order that seed and epoch decide.

    :param rows: the sample, placed.
    :param source: of all rows.
    """

    def __init__(
        self,
        rows: TrainingRows,
        source: Source,
        likelihood: Likelihood,
        options: TrainingOptions,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__(rows.x, rows.y, options, augment, rows.num_data)
        self.source, self._likelihood, self._options = source, likelihood, options
        self._epoch: Iterator[tuple[Tensor, Tensor]] = iter(())
        self._next = 0

    def of_steps(self, first: int, last: int) -> Iterator[tuple[Tensor, Tensor]]:
        """As those of rows in memory; what does not follow the step before is read again from its epoch's beginning."""
        epoch, start = divmod(first, self.epoch_steps)
        if start == 0 or first != self._next:
            self._epoch = self._of_epoch(epoch)
            for step in range(start):
                self._given(epoch, step)
        for step in range(start, start + last - first):
            x, y = (values[self.part] for values in self._given(epoch, step))
            self._next = epoch * self.epoch_steps + step + 1
            yield self._changed(x), y
        if last % self.epoch_steps == 0 and next(self._epoch, None) is not None:
            raise DataError(
                f"fit: the source gave {self.num_data:,} rows when it was first read, and more in epoch {epoch + 1};"
                " it must give the same rows each time."
            )

    def example(self) -> tuple[Tensor, Tensor]:
        """Rows of the sample."""
        return self._taken((torch.arange(self.rows, device=self.x.device) % len(self.x))[self.part])

    def _of_epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        seed = epoch_seed(self.seed, epoch)
        generator = torch.Generator().manual_seed(seed)
        on_host = minibatches(self.source.blocks(seed), self.rows, generator)
        for x, y in sent_ahead(self._noted(on_host), self.x.device):
            yield placed(self._likelihood, x, y, self._options)

    def _noted(self, given: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in given:
            if self.part != slice(None):  # there are other ranks
                self.digest = self.digest or RowDigest()
                self.digest.add(x, y)
            yield x, y

    def _given(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        found = next(self._epoch, None)
        if found is None:
            raise DataError(
                f"fit: the source gave {self.num_data:,} rows when it was first read, and in epoch {epoch + 1} only"
                f" {step * self.rows:,} to {(step + 1) * self.rows - 1:,}; it must give the same rows each time."
            )
        return found
