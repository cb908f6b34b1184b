"""What the user names as data, before any of it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyro_ssbnn.cli.kinds import Format, TaskName

__all__ = ["SourceChoice"]


@dataclass(frozen=True)
class SourceChoice:
    """The user's choice of data.

    :param source: name of an embedded set, a file or a folder.
    :param format: None detects it.
    :param target: column to predict, of a table.
    :param task: None infers it, of a table.
    :param split: number of a UCI folder's standard split; None for a random split.
    :param test_fraction: share of rows held out; None for the source's own test set or a fifth; 0 for none.
    :param seed: of the random split.
    :param columns: what is said of a table's columns: options of :class:`~pyro_ssbnn.data.ColumnChoice`.
    :param delimiter: between the fields of a text file; None finds it.
    :param transform: map of a table's target, learnt from the training rows.
    :param groups: column of a table whose rows of the same value are held out together.
    :param more: further files of the same table.
    :param stream: whether a table is read in pieces; None decides by its size.
    """

    source: str
    format: Format | None = None
    target: str | None = None
    task: TaskName | None = None
    split: int | None = None
    test_fraction: float | None = None
    seed: int = 0
    columns: Mapping[str, Any] = field(default_factory=dict)
    delimiter: str | None = None
    groups: str | None = None
    transform: str = "none"
    more: tuple[str, ...] = ()
    stream: bool | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """All that was named."""
        return (self.source, *self.more)
