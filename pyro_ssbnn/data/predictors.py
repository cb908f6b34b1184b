r"""What a column becomes in the network: a number one standardised column, a factor one for each of its levels.

All columns of a predictor stand under one gate. A factor of K levels has K columns, none of them a reference:

.. math:: \sqrt{K/(K - 1)}\,(1[x = k] - 1/K),\qquad k = 1, \ldots, K;

with two levels one column of -1 and 1, which is the same prior. A row's squared norm is 1, as a standardised number's
is on average, so that factors and numbers enter the first layer with the same prior variance. The columns of a row add
up to 0: columns of 0 and 1 would add up to 1, with which equal weights are a second bias, and the gate of a factor
without any effect stays open for it. A level that the training rows did not have is a row of zeros: it is the mean of
the levels, which is the prior mean of a level's effect.

**Missing values** of the training rows get a column of their own, 1 where the value is missing, and the value itself is
set to the training mean. What the network adds for a missing value is then learned, node by node, with the rest of the
posterior, and right also where values are missing for a reason; an imputation from the other predictors would need a
model of them and assume that there is no such reason. Where the training rows had none, a missing value is taken for
the mean.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_ssbnn.data.column import Column, word_of
from pyro_ssbnn.data.dataset import LARGEST
from pyro_ssbnn.data.table import Table
from pyro_ssbnn.errors import DataError

__all__ = [
    "Factor",
    "Number",
    "Predictor",
    "finite_numbers",
    "levels_of",
    "predictor_from_dict",
    "predictor_to_dict",
]


@dataclass(frozen=True)
class Number:
    """A number, or a date as days since the first of the training rows.

    :param name: of the column.
    :param loc: mean of the training values; of dates, days since ``origin``.
    :param scale: their standard deviation (divisor N).
    :param marks_missing: whether a second column marks missing values.
    :param origin: first day of the training rows, where it is a date.
    """

    name: str
    loc: float
    scale: float
    marks_missing: bool = False
    origin: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of its columns."""
        return (self.name, f"{self.name} missing") if self.marks_missing else (self.name,)

    def encode(self, column: Column, table: Table) -> NDArray[np.float64]:
        """Columns ``[N, width]``.

        :raises DataError: for values that are no finite numbers, or no dates.
        """
        if self.origin is not None:
            values = column.as_days() - _day(self.origin)
            _check_read(column, values, table, "dates")
        else:
            values = finite_numbers(column, table)
        scaled = (values - self.loc) / self.scale
        return _marked(np.nan_to_num(scaled)[:, None], column.missing, self.marks_missing)

    def decode(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values in their own units (days since the origin) of scaled ones."""
        return scaled * self.scale + self.loc

    def rescale(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inverse of :meth:`decode`."""
        return (values - self.loc) / self.scale


@dataclass(frozen=True)
class Factor:
    """A category.

    :param name: of the column.
    :param levels: of the training rows: numbers by size, words alphabetically.
    :param marks_missing: whether a further column marks missing values.
    """

    name: str
    levels: tuple[str, ...]
    marks_missing: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of its columns."""
        named = [f"{self.name}={level}" for level in self.levels]
        named = named[1:] if self.paired else named
        return (*named, f"{self.name} missing") if self.marks_missing else tuple(named)

    @property
    def paired(self) -> bool:
        """Whether two levels share one column of -1 and 1."""
        return len(self.levels) == 2

    def encode(self, column: Column, table: Table) -> NDArray[np.float64]:
        """Columns ``[N, width]``; zeros for levels that were not there, and for missing values."""
        code = {level: i for i, level in enumerate(self.levels)}
        codes = np.asarray([code.get(word, len(code)) for word in column.words])
        return _marked(self._coded[codes], column.missing, self.marks_missing)

    @property
    def settings(self) -> dict[str, NDArray[np.float64]]:
        """Columns ``[width]`` of a row of each level, of a missing value where these are marked, and of a new level."""
        known = _marked(self._coded, np.zeros(len(self.levels) + 1, bool), self.marks_missing)
        found = dict(zip((*self.levels, "another level"), known, strict=True))
        if self.marks_missing:
            found["missing"] = np.append(np.zeros(known.shape[1] - 1), 1.0)
        return found

    @property
    def _coded(self) -> NDArray[np.float64]:
        """Levels, and at the end an unknown one, in columns."""
        count = len(self.levels)
        hits = np.eye(count + 1, count)
        if self.paired:
            return hits[:, 1:] - hits[:, :1]
        if count > 2:
            hits[:-1] = (hits[:-1] - 1 / count) * math.sqrt(count / (count - 1))
        return hits


Predictor = Number | Factor


def predictor_from_dict(stored: dict[str, Any]) -> Predictor:
    """Rebuild from :func:`predictor_to_dict`; ValueError for what is no number or word where one belongs."""
    options = dict(stored)
    kind = options.pop("kind")
    words = [options["name"], *options.get("levels", ())]
    numbers = [options[name] for name in ("loc", "scale") if kind != "factor"]
    if not all(isinstance(word, str) for word in words) or not all(
        isinstance(number, int | float) for number in numbers
    ):
        raise ValueError(f"a predictor of {words[:3]} and {numbers}: expected words and numbers")
    if kind == "factor":
        return Factor(**{**options, "levels": tuple(options["levels"])})
    return Number(**options)


def predictor_to_dict(predictor: Predictor) -> dict[str, Any]:
    """A plain record."""
    kind = "factor" if isinstance(predictor, Factor) else "number"
    record = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(predictor).items()}
    return {"kind": kind, **record}


def levels_of(column: Column) -> tuple[str, ...]:
    """Different values in words: numbers and dates by size, words alphabetically."""
    present = column.values[~column.missing]
    if column.kind == "text":
        return tuple(sorted(set(present)))
    return tuple(str(word_of(v, column.kind)) for v in np.unique(present))


def _marked(
    values: NDArray[np.float64], missing: NDArray[np.bool_], marks: bool
) -> NDArray[np.float64]:
    return np.column_stack([values, missing.astype(float)]) if marks else values


def finite_numbers(column: Column, table: Table) -> NDArray[np.float64]:
    """Numbers ``[N]``, NaN where missing; raises :class:`DataError` for text and infinite values."""
    values = column.as_numbers()
    _check_read(column, values, table, "numbers")
    infinite = np.flatnonzero(np.abs(values) > LARGEST)
    if len(infinite):
        raise DataError(
            f"column {column.name!r} is infinite, or too large for single precision, in {len(infinite)} rows"
            f" ({table.rows(infinite.tolist())}, value {values[infinite[0]]}). Correct or drop them, or take"
            f" logarithms."
        )
    return values


def _check_read(column: Column, values: NDArray[np.float64], table: Table, what: str) -> None:
    """Raise :class:`DataError` where a value is there, but could not be read."""
    wrong = np.flatnonzero(np.isnan(values) & ~column.missing)
    if len(wrong):
        first = column.words[wrong[0]]
        advice = table.option("categorical" if what == "numbers" else "drop", [column.name])
        meaning = (
            "if the column holds categories" if what == "numbers" else "to leave the column out"
        )
        raise DataError(
            f"column {column.name!r}: expected {what}, found text in {len(wrong)} of {len(column)} rows, first"
            f" {first!r} at"
            f" {table.rows(wrong[:1].tolist())}. Correct the value, or say {advice} {meaning}."
        )


def _day(word: str) -> float:
    return float(np.datetime64(word, "D").astype(int))
