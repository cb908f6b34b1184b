"""What every command shares: where it prints, how tables look, and package errors as one message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from pyro_ssbnn import errors

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "USER_ERROR",
    "errors_as_messages",
    "messages",
    "print_scores",
    "print_table",
    "results",
    "warn",
]

USER_ERROR = 2
"""Exit code when what the user gave cannot be used; the shell's own for a command misused."""

results = Console(highlight=False)
"""Standard output: what was asked for."""

messages = Console(stderr=True, highlight=False)
"""Standard error: how it goes, and what went wrong."""

# What the user can mend; OSError: no permission, no space left.
_EXPECTED = (OSError, *(getattr(errors, name) for name in errors.__all__ if name.endswith("Error")))
_SCORES = {
    "accuracy": ("accuracy", "share of rows, 1 is best"),
    "nll": ("negative log-likelihood", "nats per row, 0 is best"),
    "ece": ("calibration error (ECE)", "0 to 1, 0 is best"),
    "brier": ("Brier score", "squared error, 0 is best"),
    "rmse": ("RMSE", "target's own units"),
    "log_likelihood": ("log-likelihood", "nats per row, own units"),
    "coverage_50": ("50 % interval: coverage", "0.5 is calibrated"),
    "width_50": ("50 % interval: width", "mean, own units"),
    "coverage_90": ("90 % interval: coverage", "0.9 is calibrated"),
    "width_90": ("90 % interval: width", "mean, own units"),
}


@contextmanager
def errors_as_messages(debug: bool) -> Iterator[None]:
    """Print an error the user can mend as one red message and exit with code 2; with ``debug`` raise it."""
    try:
        yield
    except BrokenPipeError:  # «| head» has seen enough: typer's business
        raise
    except _EXPECTED as error:
        if debug:
            raise
        text = str(error) or type(error).__name__
        messages.print(f"[bold red]Error:[/] {escape(text)}", soft_wrap=True)
        raise typer.Exit(USER_ERROR) from error


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
    if isinstance(value, str):
        return value
    if float(value).is_integer() and abs(value) < 1e15:
        whole = isinstance(value, int) or type(value).__name__.startswith("int")
        return f"{int(value):,}" if whole else f"{value:.4g}"
    if value != value:
        return ""
    return f"{value:.4g}"
