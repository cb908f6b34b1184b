"""One column of a table as numbers, days or words, whatever library it came from."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal

import narwhals as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["Column", "Kind", "column_of", "word_of"]

Kind = Literal["number", "bool", "date", "text", "other"]

_DAY = 86_400_000_000  # microseconds
_ISO_DATE = r"\d{4}-\d{1,2}-\d{1,2}([T ].*)?"


@dataclass(frozen=True, eq=False)
class Column:
    """Values of N rows.

    :param name: of the column.
    :param kind: what the values are; "other" is what no network can read (lists, complex numbers).
    :param values: ``[N]``: float64 for numbers, 0 and 1 for bools, days since 1970 for dates, NaN where missing; str
        for text, None where missing.
    :param whole: whether they are whole numbers.
    :param written: whether they came as text, also where it can be read as numbers or dates.
    """

    name: str
    kind: Kind
    values: NDArray[Any]
    whole: bool = False
    written: bool = False

    def __len__(self) -> int:
        return len(self.values)

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Where there is no value, ``[N]``."""
        return np.asarray(pd.isna(self.values), dtype=bool)

    @property
    def words(self) -> NDArray[np.object_]:
        """Values as text, ``[N]``, None where missing: ``3`` for 3.0, ``True``, ``2020-05-17`` for days."""
        if self.kind == "text":
            return self.values
        return np.asarray([word_of(v, self.kind) for v in self.values], dtype=object)

    def as_text(self) -> Column:
        """The same values as words."""
        return replace(self, kind="text", values=self.words, whole=False)

    def parsed(self) -> Column:
        """Text read as numbers or ISO dates where all of it can be; anything else as it is."""
        if self.kind != "text" or self.missing.all():
            return self
        numbers = self.as_numbers()
        if not np.isnan(numbers[~self.missing]).any():
            return replace(self, kind="number", values=numbers, whole=_all_whole(numbers))
        present = pd.Series(self.values[~self.missing], dtype=object)
        if present.str.fullmatch(_ISO_DATE).all():
            days = self.as_days()
            if not np.isnan(days[~self.missing]).any():
                return replace(self, kind="date", values=days)
        return self

    def as_numbers(self) -> NDArray[np.float64]:
        """Values as numbers, ``[N]``, NaN where they are none."""
        if self.kind != "text":
            return np.asarray(self.values, dtype=np.float64)
        text = pd.Series(self.values, dtype=object)
        return pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)

    def as_days(self) -> NDArray[np.float64]:
        """Values as days since 1970, ``[N]``, NaN where they are no dates; numbers are taken for days."""
        if self.kind != "text":
            return np.asarray(self.values, dtype=np.float64)
        text = pd.Series(self.values, dtype=object)
        times = pd.to_datetime(text, errors="coerce", format="mixed", utc=True)
        return _days(times.dt.tz_localize(None).to_numpy())


def column_of(values: nw.Series[Any], name: str) -> Column:
    """Read a column of a frame."""
    kind = values.dtype
    if kind.is_numeric():
        numbers = values.cast(nw.Float64()).to_numpy().astype(np.float64)
        gaps = np.isnan(numbers).any()
        whole = kind.is_integer() or bool(
            gaps and _all_whole(numbers)
        )  # pandas has no gaps in integers
        return Column(name, "number", numbers, whole)
    if isinstance(kind, nw.Date | nw.Datetime):
        if getattr(kind, "time_zone", None):
            values = values.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
        return Column(name, "date", _days(values.cast(nw.Datetime("us")).to_numpy()))
    if isinstance(kind, nw.Duration):
        micros = values.dt.total_microseconds().to_numpy().astype(np.float64)
        return Column(name, "number", micros / _DAY)
    if isinstance(kind, nw.Categorical | nw.Enum):
        values = values.cast(nw.String())
    items = np.asarray(
        [None if pd.api.types.is_scalar(v) and pd.isna(v) else v for v in values.to_list()],
        dtype=object,
    )
    return _of_items(items, name)


def _of_items(items: NDArray[np.object_], name: str) -> Column:
    """A column of Python objects."""
    present = [v for v in items if v is not None]
    if _all_are(present, (bool, np.bool_)):
        return Column(name, "bool", np.asarray([np.nan if v is None else float(v) for v in items]))
    if _all_are(present, (Real,)):
        numbers = np.asarray([np.nan if v is None else float(v) for v in items])
        return Column(
            name, "number", numbers, _all_whole(numbers) and _all_are(present, (int, np.integer))
        )
    if _all_are(present, (datetime.date, np.datetime64)):
        return Column(name, "date", _days(np.asarray(items, dtype="datetime64[us]")))
    if all(isinstance(v, str | Real) for v in present):
        words = [None if v is None else str(v).strip() for v in items]
        return Column(name, "text", np.asarray(words, dtype=object), written=True)
    return Column(name, "other", items)


def word_of(value: Any, kind: Kind = "number") -> str | None:
    """A number, bool or day in a word; None for NaN."""
    if value is None or value != value:
        return None
    if kind == "bool":
        return str(bool(value))
    if kind == "date":
        moment = np.datetime64("1970-01-01T00:00:00", "us") + np.timedelta64(
            round(value * _DAY), "us"
        )
        return str(moment).removesuffix("T00:00:00.000000")
    return (
        str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(float(value))
    )


def _days(times: NDArray[Any]) -> NDArray[np.float64]:
    micros = times.astype("datetime64[us]")
    return np.where(np.isnat(micros), np.nan, micros.astype(np.int64) / _DAY)


def _all_whole(numbers: NDArray[np.float64]) -> bool:
    present = numbers[~np.isnan(numbers)]
    return bool(len(present) and (present == np.round(present)).all())


def _all_are(items: Sequence[object], kinds: tuple[type, ...]) -> bool:
    return bool(items) and all(isinstance(v, kinds) for v in items)
