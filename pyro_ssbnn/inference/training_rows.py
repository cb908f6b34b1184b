"""Rows to fit to: tensors, or a source that is read in pieces and a sample of its rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pyro_ssbnn.checks import check_rows, tensor_of
from pyro_ssbnn.errors import DataError
from pyro_ssbnn.inference.guards import check_data, require_network
from pyro_ssbnn.inference.options import TrainingOptions
from pyro_ssbnn.inference.preparation import placed
from pyro_ssbnn.rows.digest import RowDigest
from pyro_ssbnn.rows.sampling import RowSample
from pyro_ssbnn.rows.source import Source
from pyro_ssbnn.rows.sources import source_of
from pyro_ssbnn.structure.network import Network

__all__ = ["SAMPLE", "Rows", "TrainingRows", "require_in_memory", "sampled", "training_rows"]

Rows = Source | DataLoader[Any] | Dataset[Any]
"""What is read in pieces: see :mod:`pyro_ssbnn.rows`."""

SAMPLE = 20_000
"""Rows of a source that are kept in memory, for whatever looks at the data as a whole."""

_BYTES = 2**28  # of these rows, where they are wide
_FEWEST = 1_000


@dataclass(frozen=True)
class TrainingRows:
    """Rows to fit to.

    :param x: predictors ``[N, p]``; of a source those of a uniform sample of its rows.
    :param y: their targets.
    :param num_data: rows in all.
    :param source: gives them all, in pieces; None where x and y are all of them.
    :param digest: of all rows of a source, in its own order.
    """

    x: Tensor
    y: Tensor
    num_data: int
    source: Source | None = None
    digest: RowDigest | None = None

    def told_apart(self) -> tuple[int, int, int]:
        """What tells these rows from others, or from the same in another order."""
        digest = self.digest
        if digest is None:
            digest = RowDigest()
            digest.add(self.x, self.y)
        return digest.value

    def placed(self, model: Network, options: TrainingOptions) -> TrainingRows:
        """The same rows on the device and in the dtype of a run, targets as the likelihood scores them."""
        x, y = placed(model.likelihood, self.x, self.y, options)
        return replace(self, x=x, y=y)


def training_rows(owner: str, model: Network, x: Any, y: Any, most: int = SAMPLE) -> TrainingRows:
    """Data as rows to fit to, all of them checked; a source is read once for it.

    :param owner: the public function, for the message.
    :param x: predictors ``[N, p]``, or what :func:`~pyro_ssbnn.rows.source_of` takes for a source.
    :param y: targets; None with a source.
    :param most: rows of a source to keep.
    :raises DataError: for data that do not fit the model.
    """
    require_network(owner, model)
    source = source_of(owner, x, y)
    if source is not None:
        return sampled(owner, model, source, most)
    x = tensor_of(owner, "x", x, model.description.inputs.column_names)
    y = None if y is None else tensor_of(owner, "y", y)
    check_data(owner, model, x, y)
    return TrainingRows(x, y, len(x))


def sampled(owner: str, model: Network, source: Source, most: int = SAMPLE) -> TrainingRows:
    """A source with a sample of its rows, all of them checked.

    :raises DataError: for rows that do not fit the model, or fewer than two.
    """
    names = model.description.inputs.column_names
    sample: RowSample | None = None
    digest = RowDigest()
    seen = 0
    for x, y in source.blocks():
        last = seen + len(x)
        where = f"{owner}, rows {seen:,} to {last - 1:,} of the source"
        if y is None:
            raise DataError(f"{owner}: the source gives no targets; give them with the predictors.")
        check_rows(where, x, y, names)
        model.likelihood.check_data(y)
        if sample is None:
            room = _BYTES // (x.shape[1] * x.element_size())
            sample = RowSample(min(most, max(_FEWEST, room)))
        sample.add(x, y)
        digest.add(x, y)
        seen = last
    if sample is None or seen < 2:
        raise DataError(f"{owner}: at least two rows of data are needed; the source gave {seen}.")
    x, y = sample.rows()
    return TrainingRows(x, y, seen, source, digest)


def require_in_memory(owner: str, x: object) -> None:
    """Raise :class:`DataError` for rows that are read in pieces, where they are needed together."""
    if source_of(owner, x) is not None:
        raise DataError(
            f"{owner}: needs all rows in memory, and a {type(x).__name__} is read in pieces; fit, fine_tune,"
            " fit_several, predict_blocks and diagnose take it. Give tensors x and y of a sample of its rows."
        )
