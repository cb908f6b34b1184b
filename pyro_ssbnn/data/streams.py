"""Tables of any size: files that are read in pieces, and their rows as a network sees them, on disk."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_ssbnn.data.dataset import Task
from pyro_ssbnn.data.description import ColumnChoice
from pyro_ssbnn.data.encoded_rows import EncodedRows, write_encoded
from pyro_ssbnn.data.pieces import TableFiles
from pyro_ssbnn.data.preprocessing import Preprocessing, target_column
from pyro_ssbnn.data.survey import Survey
from pyro_ssbnn.data.table import Table
from pyro_ssbnn.data.wording import Problems, python_option
from pyro_ssbnn.errors import DataError
from pyro_ssbnn.rows.sampling import RowSample

__all__ = ["TableStream"]

_HELD_OUT = 0.2
_ENOUGH = 50_000  # rows held out unless the user says otherwise: more tell no more
_SAMPLE = 20_000


class _Piece(NamedTuple):
    """Rows of a piece whose target is known."""

    table: Table
    row: NDArray[np.int64]
    held_out: NDArray[np.bool_]
    unknown: int


class TableStream:
    """A table in files that are read in pieces.

    The files are read twice (text three times): once to learn from the training rows what
    :meth:`Preprocessing.fit` learns of a table in memory, and once to write the rows as the network sees them.

    :param files: parquet, feather or text, one or many with the same columns.
    :param target: name of the column to predict; rows without it are left out.
    :param task: what is predicted; None finds it.
    :param choice: what is said of the columns.
    :param transform: of the target: "none" or "log".
    :param test_fraction: share of rows held out, each drawn by itself; None holds out a fifth, but about 50,000 rows
        at most.
    :param seed: of the draw.
    :param groups: column whose rows of the same value are held out together; no predictor.
    :param delimiter: between the fields of text; None finds it.
    :param option: how options are said in messages.
    :raises DataError: everything that is wrong with the files, when it comes to it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "prices.csv"
    ...     _ = file.write_text("size,kind,price\\n" + "1.5,a,10\\n2.5,b,19.5\\n" * 50)
    ...     stream = TableStream([file], target="price", test_fraction=0)
    ...     train, test = stream.encoded(Path(folder) / "rows")
    ...     print(len(train), stream.preprocessing.feature_names)
    100 ('size', 'kind')
    """

    def __init__(
        self,
        files: Sequence[str | Path],
        target: str,
        *,
        task: Task | None = None,
        choice: ColumnChoice | None = None,
        transform: str = "none",
        test_fraction: float | None = None,
        seed: int = 0,
        groups: str | None = None,
        delimiter: str | None = None,
        option: Callable[[str, object], str] = python_option,
    ) -> None:
        if test_fraction is not None and not 0 <= test_fraction < 1:
            raise DataError(
                f"TableStream: test_fraction must lie in [0, 1); got {test_fraction}. 0 holds out nothing."
            )
        self._files, self._delimiter = files, delimiter
        self.target, self.task, self.transform = target, task, transform
        self.choice = choice or ColumnChoice()
        if groups is not None:
            dropped = tuple(dict.fromkeys((*self.choice.drop, groups)))
            self.choice = replace(self.choice, drop=dropped)
        self.test_fraction, self.seed, self.groups, self.option = (
            test_fraction,
            seed,
            groups,
            option,
        )

    @cached_property
    def files(self) -> TableFiles:
        """The files, looked at."""
        return TableFiles(self._files, self._delimiter)

    @property
    def preprocessing(self) -> Preprocessing:
        """What was learnt of the training rows."""
        return self._surveyed[0]

    @property
    def rows(self) -> dict[str, int]:
        """Numbers of rows: ``train``, ``test``, and ``without_target``, which are left out."""
        return self._surveyed[1]

    @property
    def targets(self) -> Tensor:
        """Numbers of a sample of the training targets, in own units; NaN where they are words."""
        return self._surveyed[2]

    @cached_property
    def fraction(self) -> float:
        """Share of the rows that is held out."""
        if self.test_fraction is not None:
            return self.test_fraction
        return min(_HELD_OUT, _ENOUGH / max(1, self.files.num_rows))

    def encoded(
        self,
        folder: str | Path,
        preprocessing: Preprocessing | None = None,
        rows: Mapping[str, int] | None = None,
    ) -> tuple[EncodedRows, EncodedRows | None]:
        """Training and held-out rows as the network sees them, from a folder that is written if it is not there.

        :param folder: of the rows, four bytes a column and sixteen more a row. It may be removed and written again.
        :param preprocessing: of an earlier survey; None makes one.
        :param rows: of that survey, too.
        """
        folder = Path(folder)
        prepared = preprocessing or self.preprocessing
        if not folder.exists():
            found = self.rows if rows is None else rows
            parts = {name: found[name] for name in ("train", "test")}
            columns = sum(prepared.widths or ())
            write_encoded(folder, parts, columns, self._encoded_pieces(prepared))
        train, test = (EncodedRows.open(folder, name, prepared) for name in ("train", "test"))
        return train, test if len(test) else None

    @cached_property
    def _surveyed(self) -> tuple[Preprocessing, dict[str, int], Tensor]:
        survey = Survey(self.target, self.task, self.choice, self.transform)
        sample = RowSample(_SAMPLE)
        rows = {"train": 0, "test": 0, "without_target": 0}
        for piece in self._pieces():
            rows["without_target"] += piece.unknown
            rows["test"] += int(piece.held_out.sum())
            train = np.flatnonzero(~piece.held_out)
            rows["train"] += len(train)
            if len(train):
                table = piece.table if len(train) == len(piece.row) else piece.table.take(train)
                survey.add(table)
                sample.add(torch.tensor(table.column(self.target).as_numbers()))
        return survey.preprocessing(), rows, sample.rows()[0]

    def _pieces(self) -> Iterator[_Piece]:
        """All rows, always the same ones held out."""
        drawn = np.random.default_rng(self.seed)
        before = 0
        for table, _ in self.files.pieces():
            table = replace(table, option=self.option)
            number = len(table)
            out = drawn.random(number) < self.fraction
            problems = Problems(table.name)
            with problems.gathering():
                target_column(table, self.target)
            with problems.gathering():
                if self.groups is not None:
                    out = self._groups_held_out(table)
            problems.tell()
            known = ~table.column(self.target).missing
            row = before + np.flatnonzero(known)
            before += number
            if known.any():
                held = table if known.all() else table.take(np.flatnonzero(known))
                yield _Piece(held, row, out[known], int((~known).sum()))
            else:
                yield _Piece(table.take(np.arange(0)), row, out[known], number)

    def _groups_held_out(self, table: Table) -> NDArray[np.bool_]:
        """Whole groups, each by a hash of its value and the seed."""
        code, words = pd.factorize(table.column(str(self.groups)).words.astype(str))
        most = self.fraction * 2**32
        out = [zlib.crc32(f"{self.seed} {word}".encode()) < most for word in words]
        return np.asarray(out, dtype=bool)[code]

    def _encoded_pieces(self, prepared: Preprocessing) -> Iterator[tuple[str, Any, Any, Any]]:
        for table, row, out, _ in self._pieces():
            if not len(row):
                continue
            x, y = prepared.encode(table).numpy(), prepared.encode_target(table).numpy()
            for name, mask in (("train", ~out), ("test", out)):
                yield name, x[mask], y[mask], row[mask]
