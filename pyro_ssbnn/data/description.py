"""What a table's columns are: predictors with their encodings, closed ones, and those left out, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_ssbnn.data.column import Column
from pyro_ssbnn.data.facts import Facts
from pyro_ssbnn.data.predictors import (
    Factor,
    Predictor,
    predictor_from_dict,
    predictor_to_dict,
)
from pyro_ssbnn.data.table import Table
from pyro_ssbnn.data.wording import Problems, listed
from pyro_ssbnn.errors import ConfigurationError, DataError

__all__ = ["ColumnChoice", "TableDescription", "as_said", "described"]


@dataclass(frozen=True, kw_only=True)
class ColumnChoice:
    """What the user says of a table's columns; everything else is found from the values.

    :param columns: the predictors to use; None for all but the target.
    :param drop: columns to leave out.
    :param categorical: columns whose values are categories, also where they are numbers.
    :param date: columns whose values are dates, also where they are not written as ISO dates.
    :param missing: "impute", or "refuse" for an error where a predictor has missing values.
    :raises ConfigurationError: for another word for ``missing``.
    """

    columns: tuple[str, ...] | None = None
    drop: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    date: tuple[str, ...] = ()
    missing: str = "impute"

    def __post_init__(self) -> None:
        for name in ("columns", "drop", "categorical", "date"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        if self.missing not in ("impute", "refuse"):
            raise ConfigurationError(
                f"missing: expected 'impute' or 'refuse'; got {self.missing!r}."
            )

    def check(self, table: Table) -> None:
        """Raise :class:`DataError` for columns that are not there, or are said to be two things."""
        for option in ("columns", "drop", "categorical", "date"):
            given = list(getattr(self, option) or ())
            table.require(given, f" ({table.option(option, given)})")
        both = sorted(set(self.categorical) & set(self.date))
        if both:
            raise DataError(f"columns {listed(both)} cannot be both categories and dates.")

    def candidates(self, table: Table, target: str | None) -> list[str]:
        """Columns that may be predictors, in the table's order."""
        chosen = table.names if self.columns is None else self.columns
        return [
            name
            for name in table.names
            if name in chosen and name not in self.drop and name != target
        ]


@dataclass(frozen=True)
class TableDescription:
    """The predictors of a table, learnt from the training rows.

    :param predictors: those in the network, in the table's order.
    :param closed: predictors that tell the model nothing, and why: constant over the training rows. They are outside
        the network: their gates are closed.
    :param left_out: columns that are no predictors, and why.
    :param identifier: the column that says which row is which, if one was found.
    :param missing: "impute" or "refuse".
    """

    predictors: tuple[Predictor, ...]
    closed: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    identifier: str | None = None
    missing: str = "impute"

    @classmethod
    def fit(
        cls,
        table: Table,
        target: str | None = None,
        choice: ColumnChoice | None = None,
        problems: Problems | None = None,
    ) -> TableDescription:
        """Learn from the training rows, and from them only.

        :param target: a column that is no predictor.
        :param problems: where to note what is wrong with columns; by default they are told at once.
        :raises DataError: for columns that cannot be used, and a table without any that can.
        """
        choice = choice or ColumnChoice()
        noted = Problems(table.name) if problems is None else problems
        with noted.gathering():
            choice.check(table)
        facts = {
            name: partial(_facts, table, name, choice) for name in choice.candidates(table, target)
        }
        found = described(facts, target, choice, noted)
        if problems is None:
            noted.tell()
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """Predictors in the network."""
        return tuple(p.name for p in self.predictors)

    @property
    def widths(self) -> tuple[int, ...]:
        """Columns of each predictor in the network."""
        return tuple(len(p.columns) for p in self.predictors)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the network's columns."""
        return tuple(column for p in self.predictors for column in p.columns)

    @property
    def has_gaps(self) -> bool:
        """Whether the training rows had missing values: the target then spreads more where they are missing."""
        return any(p.marks_missing for p in self.predictors)

    @property
    def written_columns(self) -> list[str]:
        """Columns that are words or dates: pieces of a file must not guess what they are."""
        words = [p.name for p in self.predictors if isinstance(p, Factor) or p.origin is not None]
        return words if self.identifier is None else [*words, self.identifier]

    @property
    def notes(self) -> list[str]:
        """What was done with columns that a user may not expect, one sentence each."""
        kinds: dict[str, list[str]] = {}
        for p in self.predictors:
            if isinstance(p, Factor):
                kinds.setdefault("categories, one predictor each", []).append(
                    f"{p.name} ({len(p.levels)} levels)"
                )
            elif p.origin is not None:
                kinds.setdefault("dates, as days since the first", []).append(p.name)
            if p.marks_missing:
                kinds.setdefault("missing values, filled in within the fit", []).append(p.name)
        for names, why in ((self.closed, "closed"), (self.left_out, "left out")):
            for name, reason in names.items():
                kinds.setdefault(f"{why}, {reason}", []).append(name)
        return [f"{what}: {', '.join(names)}" for what, names in kinds.items()]

    def encode(self, table: Table) -> Tensor:
        """Columns of the network, ``[N, q]`` float64.

        :raises DataError: for predictors that are absent, or hold values that cannot be used; all of them are told.
        """
        problems = Problems(table.name)
        parts: list[Any] = []
        if not len(table):
            raise DataError(f"{table.name}: expected at least one row, found none.")
        with problems.gathering():
            table.require(self.names, ", which the model needs")
        for predictor in self.predictors if not problems.found else ():
            with problems.gathering():
                column = table.column(predictor.name)
                if self.missing == "refuse":
                    _refuse_missing(column, table)
                parts.append(predictor.encode(column, table))
        problems.tell()
        return torch.from_numpy(np.concatenate(parts, axis=1))

    def to_dict(self) -> dict[str, Any]:
        """A plain record that JSON keeps exactly."""
        record = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            **record,
            "predictors": [predictor_to_dict(p) for p in self.predictors],
            "closed": dict(self.closed),
            "left_out": dict(self.left_out),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> TableDescription:
        """Rebuild from :meth:`to_dict`; DataError when an entry is missing."""
        try:
            predictors = tuple(predictor_from_dict(p) for p in stored["predictors"])
            return cls(**{**stored, "predictors": predictors})
        except (KeyError, TypeError) as error:
            raise DataError(
                f"TableDescription.from_dict: not a record of to_dict ({error!r})."
            ) from error


def described(
    columns: Mapping[str, Callable[[], Facts]],
    target: str | None,
    choice: ColumnChoice,
    problems: Problems,
) -> TableDescription:
    """What columns are, by facts of their training rows.

    :param columns: candidates, and what gives their facts.
    :param target: for the message.
    :param problems: where to note what is wrong with columns.
    """
    predictors: list[Predictor] = []
    closed: dict[str, str] = {}
    left_out: dict[str, str] = {}
    identifier = None
    before = len(problems.found)
    for name, facts_of in columns.items():
        with problems.gathering():
            facts = facts_of()
            forced = choice.columns is not None or name in (*choice.categorical, *choice.date)
            why = None if forced else facts.names_rows
            if why:
                left_out[name] = why
                identifier = identifier or name
            elif nothing := facts.tells_nothing:
                closed[name] = nothing
            else:
                predictors.append(_predictor(facts, choice))
    if not predictors and len(problems.found) == before:
        told = "; ".join(f"{name!r}: {why}" for name, why in {**closed, **left_out}.items())
        beside = f" beside the target {target!r}" if target else ""
        problems.found.append(
            f"expected predictors{beside}, found none ({told or 'no other column'})."
        )
    return TableDescription(tuple(predictors), closed, left_out, identifier, choice.missing)


def _facts(table: Table, name: str, choice: ColumnChoice) -> Facts:
    """Facts of a column as what it is, or is said to be."""
    column = as_said(table, name, choice)
    said = name in (*choice.categorical, *choice.date)
    counts = name in choice.categorical
    return Facts.of(column if said else column.parsed(), table, counts=counts)


def as_said(table: Table, name: str, choice: ColumnChoice) -> Column:
    """A column as it was read, or as the user says that it is to be read."""
    column = table.column(name)
    if column.kind == "other":
        first = next(v for v in column.values if v is not None)
        raise DataError(
            f"column {name!r} holds {type(first).__name__} objects, which are neither numbers, words nor dates."
            f" Leave it"
            f" out: {table.option('drop', [name])}."
        )
    if choice.missing == "refuse":
        _refuse_missing(column, table)
    if name in choice.categorical:
        return column.as_text() if column.kind != "number" else column
    if name in choice.date:
        days = column.as_days()
        wrong = np.flatnonzero(np.isnan(days) & ~column.missing)
        if len(wrong):
            raise DataError(
                f"column {name!r}: expected dates, found {column.words[wrong[0]]!r} at"
                f" {table.rows(wrong[:1].tolist())}."
                " Correct the value."
            )
        return Column(name, "date", days)
    return column


def _predictor(facts: Facts, choice: ColumnChoice) -> Predictor:
    if facts.kind == "bool" or facts.name in choice.categorical:
        return facts.factor()
    if facts.kind == "text":
        return facts.number() if facts.is_mixed else facts.factor()
    number = facts.number()
    return number if number.scale > 0 else facts.factor()  # one value, or missing


def _refuse_missing(column: Column, table: Table) -> None:
    absent = np.flatnonzero(column.missing)
    if len(absent):
        raise DataError(
            f"column {column.name!r} has missing values in {len(absent)} rows ({table.rows(absent.tolist())}). Drop"
            f" those"
            f" rows or fill in the values, or let the fit do so: {table.option('missing', 'impute')}."
        )
