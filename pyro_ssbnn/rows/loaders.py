"""Torch's data sets and loaders as rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset

from pyro_ssbnn.errors import DataError
from pyro_ssbnn.isolation import exclusive
from pyro_ssbnn.rows.source import Block, Source

__all__ = ["DatasetSource", "LoaderSource"]

_ROWS = 256  # fetched together
_ANY = 0  # seed where nobody asked for an order


class LoaderSource(Source):
    """Batches of a loader, in the loader's order, which follows the seed where it shuffles.

    What the loader, its sampler and its data set draw from torch's generator depends on the seed alone, and moves no
    other random numbers; a generator of the loader's own goes its own way, so that no run can be repeated.

    :param loader: gives pairs of predictors, ``[n, p]`` or ``[n, ...]``, which are flattened, and targets.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader

    def blocks(self, seed: int | None = None) -> Iterator[Block]:
        """As the loader gives them."""
        return _blocks(self.loader, _ANY if seed is None else seed)


class DatasetSource(Source):
    """Rows of a data set that knows its length, one by one: in any order, eight bytes a row for it.

    For workers and pinned memory give a ``DataLoader``.

    :param dataset: gives pairs of predictors, ``[p]`` or ``[...]``, which are flattened, and a target.
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def blocks(self, seed: int | None = None) -> Iterator[Block]:
        """Blocks of 256 rows, all of them shuffled."""
        order: Any = range(len(self))
        if seed is not None:
            order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        batches = BatchSampler(map(int, order), _ROWS, drop_last=False)
        return _blocks(
            DataLoader(self.dataset, batch_sampler=batches), _ANY if seed is None else seed
        )


def stream_source(dataset: IterableDataset[Any]) -> LoaderSource:
    """Rows of a data set that is read from its beginning, in its own order."""
    return LoaderSource(DataLoader(dataset, batch_size=_ROWS))


def _blocks(batches: Iterable[Any], seed: int) -> Iterator[Block]:
    for batch in _drawn_apart(batches, seed):
        pair = isinstance(batch, tuple | list) and len(batch) == 2
        if not pair or not all(isinstance(part, Tensor) for part in batch):
            held = (
                f"{len(batch)} parts" if isinstance(batch, tuple | list) else type(batch).__name__
            )
            raise DataError(
                f"a data set or loader must give pairs of predictors and targets, numbers both; got {held}. Wrap it in"
                " one that gives x and y."
            )
        x, y = batch
        yield x.flatten(1), y


def _drawn_apart(items: Iterable[Any], seed: int) -> Iterator[Any]:
    """Items whose making draws from torch's generator as if it had been seeded; the caller's numbers are left alone."""
    state = torch.Generator().manual_seed(seed).get_state()
    iterator = None
    while True:
        with exclusive():
            before = torch.get_rng_state()
            torch.set_rng_state(state)
            try:
                iterator = iter(items) if iterator is None else iterator
                item = next(iterator)
            except StopIteration:
                return
            finally:
                state = torch.get_rng_state()
                torch.set_rng_state(before)
        yield item
