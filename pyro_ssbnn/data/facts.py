"""What must be known of a column to decide what it is, of rows that come together or piece by piece."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_ssbnn.data.column import Column, Kind, word_of
from pyro_ssbnn.data.dataset import LARGEST
from pyro_ssbnn.data.predictors import Factor, Number, finite_numbers
from pyro_ssbnn.data.table import Table
from pyro_ssbnn.errors import DataError

__all__ = ["FEW", "Facts", "Reading"]

FEW = 20  # different values that make categories of a column that is partly text
_UNNAMED = re.compile(r"|unnamed|Unnamed: \d+|__index_level_\d+__")
_OF_ROWS = re.compile(
    r"(?i)(row|obs|case|record|sample)?[ _.]?(id|ids|index|names?|no|nr|num|number)?|.*[_. ]id|.+I[dD]"
)


class Facts:
    """Facts of a column; of several pieces the moments are put together by Chan, Golub and LeVeque's update.

    :param name: of the column.
    :param kind: of its values, in all pieces.
    :param most: different values that are told apart; of more only whether those were all different.
    :param counts: whether different numbers are counted; words always are.
    """

    def __init__(
        self, name: str, kind: Kind, most: float = math.inf, *, counts: bool = False
    ) -> None:
        self.name, self.kind, self.most = name, kind, most
        self.counts = counts or kind in ("text", "bool") or may_number_rows(name)
        self.rows = self.absent = 0
        self.low, self.high = math.inf, -math.inf
        self.mean = self.sd = math.nan
        self.whole = True
        self.different: set[Any] = set()
        self.among = 0
        """Present values that were looked at for different ones: all, or those until there were too many."""
        self.numbers = 0
        """Words that can be read as numbers."""
        self._trouble: tuple[Column, Table] | None = None

    @classmethod
    def of(cls, column: Column, table: Table, *, counts: bool = False) -> Facts:
        """Facts of a column that is there as a whole."""
        facts = cls(column.name, column.kind, counts=counts)
        facts.add(column, table)
        return facts

    def add(self, column: Column, table: Table) -> None:
        """Take in a piece.

        :param table: where it comes from, for messages.
        """
        absent = column.missing
        present = column.values[~absent]
        self.rows += len(column)
        self.absent += int(absent.sum())
        if self.kind == "text":
            read = int((~np.isnan(column.as_numbers())).sum())
            self.numbers += read
            if self._trouble is None and read < len(present):
                self._trouble = (column, table)
        elif len(present):
            self._add_numbers(present, column, table)
        if self.counts and len(self.different) <= self.most:
            self.different.update(present.tolist())
            self.among += len(present)

    def _add_numbers(self, present: NDArray[Any], column: Column, table: Table) -> None:
        low, high = float(present.min()), float(present.max())
        before = self.rows - self.absent - len(present)
        self.low, self.high = min(low, self.low), max(high, self.high)
        self.whole = self.whole and column.whole
        if max(abs(low), abs(high)) > LARGEST:
            self._trouble = self._trouble or (column, table)
            return
        mean, sd = float(np.nanmean(column.values)), float(np.nanstd(column.values))
        if before:
            number = before + len(present)
            share, apart = len(present) / number, mean - self.mean
            squares = (1 - share) * self.sd**2 + share * sd**2 + share * (1 - share) * apart**2
            mean, sd = self.mean + share * apart, math.sqrt(squares)
        self.mean, self.sd = mean, sd

    @property
    def tells_nothing(self) -> str | None:
        """Why a column is the same in all rows, None where it is not."""
        if self.absent == self.rows:
            return "without any value"
        if self.absent:
            return None
        if self.kind == "text":
            return "the same in all training rows" if len(self.different) == 1 else None
        if not math.isfinite(self.high - self.low):
            return None  # is told later
        # Differences in the last places are rounding: of 0.3 and 0.1 + 0.2, say.
        rounding = 8 * np.finfo(np.float64).eps * max(abs(self.low), abs(self.high))
        same = self.high - self.low <= rounding or self.sd <= np.finfo(np.float32).tiny
        return "the same in all training rows" if same else None

    @property
    def names_rows(self) -> str | None:
        """Why a column says which row is which, and no more; None where it is a predictor."""
        different, number = len(self.different), self.among
        if self.rows - self.absent == number:
            number = self.rows
        if self.rows < 3 or self.kind in ("bool", "date"):
            return None
        if self.kind == "text":
            if self.numbers:
                return None  # numbers among which there is text
            named = different == number or different > max(FEW, number // 2)
            return "a name for each row" if named else None
        if not self.counts or different < number or self.absent:
            return None
        if _UNNAMED.fullmatch(self.name):
            return "numbers the rows"
        return "numbers the rows" if self.all_whole else None

    @property
    def all_whole(self) -> bool:
        """Whether the values seen as different ones are whole numbers."""
        return all(math.isfinite(v) and v == round(v) for v in self.different)

    @property
    def levels(self) -> tuple[str, ...]:
        """Different values in words: numbers and dates by size, words alphabetically.

        :raises DataError: where there are too many to be told apart.
        """
        if len(self.different) > self.most:
            raise DataError(
                f"column {self.name!r}: more than {self.most:,.0f} different values, too many for categories that are"
                f" read in pieces. Leave the column out, or group its values."
            )
        if self.kind == "text":
            return tuple(sorted(self.different))
        values = self.different if self.counts else {self.low}  # a number that is one value
        return tuple(str(word_of(v, self.kind)) for v in sorted(values))

    @property
    def is_mixed(self) -> bool:
        """Whether numbers and text are in one column, of too many different values for categories."""
        return self.numbers > 0 and len(self.different) > FEW

    def factor(self) -> Factor:
        """The column as a category."""
        return Factor(self.name, self.levels, self.absent > 0)

    def number(self) -> Number:
        """The column as a number, or as days since the first.

        :raises DataError: for values that are no finite numbers.
        """
        if self._trouble is not None:
            finite_numbers(*self._trouble)  # says where they are
        dates = self.kind == "date"
        origin = float(np.floor(self.low)) if dates else 0.0
        day = word_of(origin, "date") if dates else None
        return Number(self.name, self.mean - origin, self.sd, self.absent > 0, day)


class Reading:
    """A column that comes piece by piece: facts of all that it can be read as so far.

    :param name: of the column.
    :param most: see :class:`Facts`.
    :param counts: whether different numbers are counted.
    :param parses: whether text may turn out to be numbers or dates.
    """

    def __init__(self, name: str, most: float, *, counts: bool, parses: bool) -> None:
        self.name, self.most, self.counts, self.parses = name, most, counts, parses
        self._facts: dict[Kind, Facts] = {}

    def add(self, column: Column, table: Table) -> None:
        """Take in a piece; what it cannot be read as the column is not.

        :raises DataError: for a piece of another kind than those before.
        """
        kinds: list[Kind] = [column.kind]
        if column.kind == "text" and self.parses:
            kinds = ["number", "date", "text"]
        if not self._facts:
            self._facts = {k: Facts(self.name, k, self.most, counts=self.counts) for k in kinds}
        if column.kind not in kinds or not set(kinds) & self._facts.keys():
            raise DataError(
                f"column {self.name!r}: holds {column.kind} values at {table.rows([0])}, and others before."
            )
        parsed = column.parsed() if self.parses else column
        nothing = bool(column.missing.all())
        for kind in list(self._facts):
            if kind == column.kind:
                self._facts[kind].add(column, table)
            elif nothing:
                gaps = np.full(len(column), np.nan)
                self._facts[kind].add(replace(column, kind=kind, values=gaps), table)
            elif kind == parsed.kind:
                self._facts[kind].add(parsed, table)
            else:
                del self._facts[kind]

    @property
    def facts(self) -> Facts:
        """Of numbers or dates where all could be read so, otherwise of what the values are."""
        return next(iter(self._facts.values()))


def may_number_rows(name: str) -> bool:
    """Whether a column of whole numbers that are all different numbers the rows, by its name."""
    return bool(_UNNAMED.fullmatch(name) or _OF_ROWS.fullmatch(name))
