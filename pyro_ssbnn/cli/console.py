"""Where every command prints, and how tables look; what comes from data and files is cleaned on its way there."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

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
    """A console on which names from data and files change nothing but the text: control characters are written out."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a text of a string with markup."""
        return super().render_str(printable(text), **options)


results = CleanConsole(highlight=False)
"""Standard output: what was asked for."""

messages = CleanConsole(stderr=True, highlight=False)
"""Standard error: how it goes, and what went wrong."""

_CONTROLS = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
_SCORES = {
    "accuracy": ("accuracy", "share of rows, 1 is best"),
    "nll": ("negative log-likelihood", "nats per row, 0 is best"),
    "ece": ("calibration error (ECE)", "0 to 1, 0 is best"),
    "brier": ("Brier score", "squared error, 0 is best"),
    "rmse": ("RMSE", "target's own units"),
    "r2": ("R^2", "share of the variance, 1 is best"),
    "log_likelihood": ("log-likelihood", "nats per row, own units"),
    "coverage_50": ("50 % interval: coverage", "0.5 is calibrated"),
    "width_50": ("50 % interval: width", "mean, own units"),
    "coverage_90": ("90 % interval: coverage", "0.9 is calibrated"),
    "width_90": ("90 % interval: width", "mean, own units"),
}


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
    table.add_column(escape(headers.get("", "")), no_wrap=True)
    for name in columns:
        table.add_column(escape(headers[name]), justify="right")
    for label, row in zip(frame.index, frame[columns].itertuples(index=False), strict=True):
        table.add_row(escape(str(label)), *(escape(_cell(value)) for value in row))
    _print_titled(title, table)
    if note:
        results.print(note, style="dim", markup=False)


def print_scores(title: str, columns: Mapping[str, Mapping[str, float]]) -> None:
    """Print scores with what each means, one column for each network."""
    table = Table()
    table.add_column("score", no_wrap=True)
    for name in columns:
        table.add_column(escape(name), justify="right")
    table.add_column("meaning")
    first = next(iter(columns.values()))
    for key in first:
        label, meaning = _SCORES.get(key, (key, ""))
        values = (_cell(scores[key]) if key in scores else "" for scores in columns.values())
        table.add_row(label, *values, meaning)
    _print_titled(title, table)


def _print_titled(title: str, table: Table) -> None:
    results.print()
    results.print(title, style="bold", markup=False)
    results.print(table)


def _cell(value: Any) -> str:
    if isinstance(value, bool) or type(value).__name__ == "bool":  # NumPy's, too
        return "yes" if value else "no"
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if float(value).is_integer() and abs(value) < 1e15:
        whole = isinstance(value, int) or type(value).__name__.startswith("int")
        return f"{int(value):,}" if whole else f"{value:.4g}"
    if value != value:
        return ""
    return f"{value:.4g}"
