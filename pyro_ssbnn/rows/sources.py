"""Which data are read in pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from pyro_ssbnn.errors import DataError
from pyro_ssbnn.rows.arrays import ArraySource
from pyro_ssbnn.rows.loaders import DatasetSource, LoaderSource, stream_source
from pyro_ssbnn.rows.pools import POOL
from pyro_ssbnn.rows.source import Source

__all__ = ["Source", "source_of"]


def source_of(owner: str, x: Any, y: Any = None) -> Source | None:
    """Data as rows that are read in pieces; None for those that are to be in memory.

    Arrays mapped from a file of up to 32 MB are read as a whole, which is quicker and shuffles as well.

    :param owner: the public function, for the message.
    :param x: a source, a data set or loader of torch; or predictors ``[N, p]``.
    :param y: targets; None with data that bring their own.
    :raises DataError: for targets beside data that bring their own.
    """
    if isinstance(x, np.memmap) or (isinstance(x, Tensor) and _file_of(x) is not None):
        return ArraySource(x, y) if x.nbytes > POOL else None
    if not isinstance(x, Source | DataLoader | Dataset):
        return None
    if y is not None:
        raise DataError(
            f"{owner}: a {type(x).__name__} gives predictors and targets; leave y out, or put it into the data."
        )
    if isinstance(x, Source):
        return x
    if isinstance(x, DataLoader):
        return LoaderSource(x)
    if isinstance(x, IterableDataset):
        return stream_source(x)
    if isinstance(x, TensorDataset) and len(x.tensors) == 2:
        return ArraySource(x.tensors[0].flatten(1), x.tensors[1])
    return DatasetSource(x)


def _file_of(values: Tensor) -> str | None:
    try:
        return values.untyped_storage().filename
    except (AttributeError, NotImplementedError, RuntimeError):  # fake, sparse and older tensors
        return None
