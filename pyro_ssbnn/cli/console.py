"""Where every command prints, and how tables look; what comes from data and files is cleaned on its way there."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pyro_ssbnn.display import cell

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "messages",
    "print_scores",
    "print_table",
    "printable",
    "results",
    "warn",
]


class CleanConsole(Console):
    """A console on which names from data and files change nothing but the text: control characters are written out.

    A reader that has seen enough (``fit ... | head``) ends the printing, not the work.
    """

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, as long as someone reads."""
        try:
            super().print(*objects, **options)
        except BrokenPipeError:
            self._stop()

    def on_broken_pipe(self) -> None:
        """What rich, from 13.8 on, calls in place of raising."""
        self._stop()

    def _stop(self) -> None:
        self.quiet = True
        with suppress(OSError, ValueError):  # what is still in its buffer goes nowhere, too
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, self.file.fileno())
            os.close(nothing)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a text of a string with markup."""
        return super().render_str(printable(text), **options)


results = CleanConsole(highlight=False, emoji=False)
"""Standard output: what was asked for."""

messages = CleanConsole(stderr=True, highlight=False, emoji=False)
"""Standard error: how it goes, and what went wrong."""

_CONTROLS = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def printable(text: str) -> str:
    r"""Text whose control characters (escapes of terminals, changes of direction) are written out.

    >>> print(printable(chr(27) + "[2J clears the screen"))
    \x1b[2J clears the screen
    """
    if text.isprintable():
        return text
    return "".join(
        repr(mark)[1:-1] if unicodedata.category(mark) in _CONTROLS and mark != "\n" else mark
        for mark in text
    )


def warn(title: str, text: str) -> None:
    """Print a warning that cannot be overlooked, on standard error."""
    messages.print(
        Panel(escape(text), title=f"[bold]{escape(title)}", style="bold yellow", title_align="left")
    )


def print_table(
    title: str, frame: pd.DataFrame, headers: Mapping[str, str], note: str = ""
) -> None:
    """Print some columns of a frame, its index first.

    :param headers: what each column to print is called; ``""`` stands for the index.
    :param note: said below the table.
    """
    table = Table()
    columns = [name for name in headers if name]
    table.add_column(escape(headers.get("", "")), overflow="fold", min_width=8)
    for name in columns:
        table.add_column(
            escape(headers[name]), justify="right", min_width=_least(headers[name], frame[name])
        )
    for label, row in zip(frame.index, frame[columns].itertuples(index=False), strict=True):
        table.add_row(escape(str(label)), *(escape(cell(value)) for value in row))
    _print_titled(title, table)
    if note:
        results.print(note, style="dim", markup=False)


def _least(header: str, values: pd.Series) -> int:
    """Width that neither a number nor a word of the header is cut to."""
    words = [word for value in values for word in cell(value).split()] + header.split()
    return max(map(len, words), default=1)


def print_scores(title: str, columns: Mapping[str, Mapping[str, float]]) -> None:
    """Print scores with what each means, one column for each network."""
    from pyro_ssbnn.results.predictions import SCORES

    table = Table()
    table.add_column("score")
    for name in columns:
        table.add_column(escape(name), justify="right", min_width=max(map(len, name.split())))
    table.add_column("meaning")
    first = next(iter(columns.values()))
    for key in first:
        label, meaning = SCORES.get(key, (key, ""))
        values = (cell(scores[key]) if key in scores else "" for scores in columns.values())
        table.add_row(label, *values, meaning)
    _print_titled(title, table)


def _print_titled(title: str, table: Table) -> None:
    results.print()
    results.print(title, style="bold", markup=False)
    results.print(table)
