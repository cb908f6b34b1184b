"""What is learnt of a table that is read in pieces, in one pass: what ``Preprocessing.fit`` learns of a whole one.

Moments are exact but for rounding, and categories complete, as long as a column has no more than 20,000 different
words. A column of more whose first ones were all different is a name for each row. Everything else is refused by name.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch

from pyro_ssbnn.data.column import Column
from pyro_ssbnn.data.dataset import Task
from pyro_ssbnn.data.description import ColumnChoice, as_said, described
from pyro_ssbnn.data.facts import Facts, Reading
from pyro_ssbnn.data.preprocessing import Preprocessing, target_column
from pyro_ssbnn.data.remarks import copies, warn_of_copies
from pyro_ssbnn.data.scaling import TargetScaling
from pyro_ssbnn.data.table import Table
from pyro_ssbnn.data.target import encode_target
from pyro_ssbnn.data.transforms import Transform
from pyro_ssbnn.data.wording import Problems
from pyro_ssbnn.errors import DataError

__all__ = ["Survey"]

_MOST = 20_000  # different values of a column that are told apart


class Survey:
    """Learn a table's description and its target from pieces of the training rows.

    :param target: name of a column.
    :param task: None finds it.
    :param choice: what is said of the columns.
    :param transform: of the target: "none" or "log".
    :raises DataError: for a transform that is learnt of all targets together.
    """

    def __init__(
        self,
        target: str,
        task: Task | None = None,
        choice: ColumnChoice | None = None,
        transform: str = "none",
    ) -> None:
        if transform not in ("none", "log"):
            raise DataError(
                f"target {target!r}: {transform} is fitted to all targets together, and these are read in pieces. Take"
                " log, or none; or fit to a part of the rows that is in memory."
            )
        self.target, self.task, self.transform = target, task, transform
        self.choice = choice or ColumnChoice()
        self.rows = 0
        self._table: Table | None = None  # the first piece, for messages
        self._copies: list[str] = []  # columns that equal the target so far
        self._columns: dict[str, Reading] = {}
        self._problems: Problems | None = None
        self._target = Reading(target, _MOST, counts=True, parses=False)
        self._mapped = Facts(target, "number", counts=False)

    def add(self, table: Table) -> None:
        """Take in some training rows, whose targets are known.

        :raises DataError: where the pieces before were of another kind.
        """
        if self._table is None or self._problems is None:
            self._begin(table)
        self.rows += len(table)
        problems = Problems(table.name)
        for name, reading in list(self._columns.items()):
            with problems.gathering():
                reading.add(as_said(table, name, self.choice), table)
        with problems.gathering():
            column = table.column(self.target)
            self._target.add(column, table)
            if self.transform != "none":
                y = torch.tensor(column.as_numbers())
                values = Transform.fit(self.transform, y, self.target)(y).numpy()
                self._mapped.add(Column(self.target, "number", values), table)
        problems.tell()
        self._copies = copies(table, self._copies, column.values)

    def _begin(self, table: Table) -> None:
        self._table, self._problems = table.take(np.arange(1)), Problems(table.name)
        with self._problems.gathering():
            self.choice.check(table)
        with self._problems.gathering():
            target_column(table, self.target)
        self._problems.tell()
        self._copies = self.choice.candidates(table, self.target)
        for name in self._copies:
            said = name in self.choice.categorical or name in self.choice.date
            counts = name in self.choice.categorical
            self._columns[name] = Reading(name, _MOST, counts=counts, parses=not said)

    def preprocessing(self) -> Preprocessing:
        """What was learnt.

        :raises DataError: everything that is wrong with predictors and target, in one message.
        """
        table, problems = self._table, self._problems
        if table is None or problems is None or self.rows < 2:
            raise DataError(
                f"the data: expected at least two rows with a target, found {self.rows}."
            )
        facts = {name: partial(getattr, of, "facts") for name, of in self._columns.items()}
        description = described(facts, self.target, self.choice, problems)
        with problems.gathering():
            task, classes, scaling = self._of_target(table)
        problems.tell()
        same = [name for name in self._copies if name in description.names]
        warn_of_copies(table.name, same, self.target)
        return Preprocessing(description, scaling, description.names, self.target, task, classes)

    def _of_target(self, table: Table) -> tuple[Task, tuple[str, ...], TargetScaling]:
        """Task, classes and scaling, as of a column that holds each of the different values."""
        facts = self._target.facts
        whole = len(facts.different) <= _MOST
        task = self.task
        if not whole:
            if facts.kind == "text" or task in ("binary", "classification"):
                raise DataError(
                    f"target {self.target!r}: more than {_MOST:,} different values, which look like names of rows and"
                    " not of classes. Choose another target."
                )
            task = task or "regression"
            if task == "count" and (facts.low < 0 or not facts.all_whole):
                values = np.asarray(sorted(facts.different))
                encode_target(Column(self.target, "number", values), task, table)  # says why not
            return task, (), self._scaling(facts, task)
        words = sorted(facts.different)
        # As often as makes them values that come again, if they do.
        often = 1 if facts.kind == "text" and len(words) > facts.among // 2 else 3
        held = np.asarray(words * often, dtype=object if facts.kind == "text" else np.float64)
        column = Column(self.target, facts.kind, held, facts.whole, facts.kind == "text")
        _, task, classes = encode_target(
            column, task, replace(table, positions=np.zeros(len(held), np.int64))
        )
        return task, classes, self._scaling(facts, task)

    def _scaling(self, facts: Facts, task: Task) -> TargetScaling:
        if task != "regression":  # which also refuses a transform
            return TargetScaling.fit(torch.zeros(1), task, self.target, self.transform)
        if facts.kind == "text":
            raise DataError(
                f"target {self.target!r}: is text in this source, and is to be a number. Write it as numbers."
            )
        number = facts.number()  # refuses what is not finite
        if facts.tells_nothing:
            ends = torch.tensor([facts.low, facts.low], dtype=torch.float64)
            TargetScaling.fit(ends, task, self.target)  # says so
        if self.transform == "none":
            return TargetScaling(number.loc, number.scale)
        return TargetScaling(self._mapped.mean, self._mapped.sd, Transform(self.transform))
