"""Tables of any library: pandas, polars, pyarrow, NumPy, or a mapping of columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_ssbnn.data.column import Column, column_of
from pyro_ssbnn.data.wording import check_different, did_you_mean, listed, python_option
from pyro_ssbnn.errors import DataError

__all__ = ["Table"]

_UNNAMED = "unnamed"


@dataclass(frozen=True, eq=False)
class Table:
    """Named columns of N rows.

    :param frame: the data, as narwhals sees them.
    :param name: path of the file, or what the user calls the table, for messages.
    :param unit: what rows are called in messages: "line" of a file, "row" of a frame.
    :param numbers: the line or the label of each row of the source, looked up only where a message needs it.
    :param positions: of these rows in the source, ``[N]``, from 0; None for all of them in their order.
    :param option: how options are said where the table came from: ``task='count'`` or ``--task count``.

    >>> table = Table.of({"dose": [1.0, None], "group": ["a", "b"]})
    >>> len(table), table.names, table.column("dose").missing.tolist()
    (2, ('dose', 'group'), [False, True])
    """

    frame: nw.DataFrame[Any]
    name: str = "the table"
    unit: str = "row"
    numbers: Sequence[object] = ()
    positions: NDArray[np.int64] | None = None
    option: Callable[[str, object], str] = python_option
    _read: dict[str, Column] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, data: Any, *, names: Sequence[str] | None = None, name: str = "the table") -> Table:
        """Look at data as a table; nothing is copied that need not be.

        :param data: a pandas, polars or pyarrow frame (or what narwhals takes for one), a mapping of columns, or an
            array or tensor ``[N, p]``.
        :param names: of the columns of an array, ``x1``, ``x2``, ... by default.
        :param name: what to call the table in messages.
        :raises DataError: for anything else, columns of the same name, or names of several levels.
        """
        if isinstance(data, Table):
            return data
        if isinstance(data, pd.DataFrame):
            return cls(_named(data, name), name, "row", list(data.index))
        if isinstance(data, Mapping):
            return cls.of(pd.DataFrame(dict(data)), name=name)
        try:
            frame = nw.from_native(data, eager_only=True)
        except TypeError:
            return cls.of(_of_array(data, names, name), name=name)
        check_different(name, frame.columns)
        return cls(frame, name, "row", range(len(frame)))

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.frame.columns)

    def column(self, name: str) -> Column:
        """One column, read once.

        :raises DataError: when there is none of that name.
        """
        if name not in self._read:
            self.require([name])
            self._read[name] = column_of(self.frame[name], name)
        return self._read[name]

    def require(self, names: Sequence[str], what: str = "") -> None:
        """Raise :class:`DataError` unless all these columns are there.

        :param what: they are, or who needs them; said after their names.
        """
        absent = [name for name in names if name not in self.names]
        if absent:
            none = "is no column" if len(absent) == 1 else "are no columns"
            others = [name for name in self.names if name not in names]
            raise DataError(
                f"there {none} {listed(absent)}{what}; the columns are {listed(self.names, most=20)}."
                f"{did_you_mean(absent[0], others)}"
            )

    def rows(self, indices: Sequence[int]) -> str:
        """Name some rows: ``lines 3, 7 and 9 more``."""
        own = self.places
        shown = [self.numbers[own[i]] if len(self.numbers) else own[i] for i in indices[:5]]
        more = f" and {len(indices) - 5} more" if len(indices) > 5 else ""
        return f"{self.unit}{'s' if len(indices) > 1 else ''} {listed(shown)}{more}"

    @property
    def places(self) -> NDArray[np.int64]:
        """Positions of the rows in the source, ``[N]``, from 0."""
        return np.arange(len(self)) if self.positions is None else self.positions

    def with_target(self, target: str) -> tuple[Table, int]:
        """The rows whose target is known, and how many are not.

        :raises DataError: when there is no such column.
        """
        known = ~self.column(target).missing
        return (self, 0) if known.all() else (self.take(np.flatnonzero(known)), int((~known).sum()))

    def take(self, indices: NDArray[np.int64]) -> Table:
        """Some rows, in the order given."""
        rows = self.frame[indices.tolist(), :]
        return replace(self, frame=rows, positions=self.places[indices], _read={})


def _named(frame: pd.DataFrame, name: str) -> nw.DataFrame[Any]:
    """A frame whose columns are named by different strings (a copy of the header, not of the data)."""
    if frame.columns.nlevels > 1:
        raise DataError(
            f"{name}: expected one row of column names, found {frame.columns.nlevels} levels. Join them into one name"
            " each."
        )
    names = [str(column) if str(column).strip() else _UNNAMED for column in frame.columns]
    check_different(name, names)
    return nw.from_native(frame.set_axis(names, axis=1), eager_only=True)


def _of_array(data: Any, names: Sequence[str] | None, name: str) -> pd.DataFrame:
    array = np.asarray(data)
    if array.ndim != 2 or array.dtype.names:
        raise DataError(
            f"{name}: expected a table: a pandas, polars or pyarrow frame, a mapping of columns, or an array [N,"
            f" p]; got"
            f" {type(data).__name__} of shape {list(array.shape)}."
        )
    if array.dtype.kind == "c":
        raise DataError(
            f"{name}: complex numbers; give real and imaginary part, or modulus and phase, as columns of their own."
        )
    columns = [f"x{i + 1}" for i in range(array.shape[1])] if names is None else list(names)
    return pd.DataFrame(array, columns=columns)
