"""``pyro-ssbnn diagnose``: whether a run can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pyro_ssbnn.cli import options as o
from pyro_ssbnn.cli.console import messages, results
from pyro_ssbnn.cli.run_folder import RunFolder
from pyro_ssbnn.cli.typed import check_suffix, numbers

if TYPE_CHECKING:
    from pyro_ssbnn.analysis import Report

__all__ = ["diagnose"]

_STYLES = {"ok": "green", "note": "cyan", "warning": "bold yellow"}


def diagnose(
    run: o.Run,
    restarts: Annotated[
        int,
        typer.Option(
            min=1,
            max=1_000,
            help="Fits to compare, the run's own among them; each costs what it cost. 1: none. Those of a run of"
            " several are compared anyway.",
        ),
    ] = 1,
    jobs: Annotated[
        int | None,
        o.counted(
            o.MOST_THREADS,
            "Restarts at a time, each in a process of its own. Default: one after another.",
        ),
    ] = None,
    temperatures: Annotated[
        str,
        typer.Option(
            metavar="0.25,1",
            help="Continue the run at these temperatures of the gates' relaxation, a quarter of its epochs each, and"
            " once more at its own. Default: none.",
        ),
    ] = "",
    certify: Annotated[
        bool,
        typer.Option(
            "--certify/--no-certify",
            help="Put the exact inclusion probabilities beside the run's, where few gates are undecided.",
        ),
    ] = False,
    budget: Annotated[
        float, typer.Option(min=1.0, max=86_400.0, help="Seconds that --certify may sample.")
    ] = 60.0,
    draws: Annotated[int, typer.Option(min=100, max=o.MOST_DRAWS, help="Posterior draws.")] = 1000,
    out: Annotated[
        Path | None,
        typer.Option(help="JSON file to write. Default: RUN/diagnostics.json.", show_default=False),
    ] = None,
    progress: o.Progress = None,
) -> None:
    """Check a run: has it converged, does it predict data like the data, do restarts agree, what does it hang on?

    Reads the run's data again; its test rows, where it has some, judge the predictions. Only warnings say that the run
    should not be trusted as it is; notes are for the reader.
    """
    chosen = numbers("--temperatures", temperatures, _positive, "positive numbers such as 0.25,1")
    check_suffix(out, ".json")
    folder = RunFolder(run)
    config = folder.read_config()
    from pyro_ssbnn import analysis
    from pyro_ssbnn.cli.sources import load_again
    from pyro_ssbnn.files.atomic import write_text
    from pyro_ssbnn.results.checks import with_data_checks

    _, answer, preprocessing = folder.load_answer()
    metrics = folder.read_metrics() if folder.metrics_file.is_file() else None
    data = load_again(config["source"], config["seed"])
    train, test = data.encoded(preprocessing, folder.data)
    messages.print("Drawing from the posterior, checking ...", style="dim")
    report = analysis.diagnose(
        answer,
        *train.given,
        held_out=None if test is None else test.given,
        restarts=restarts,
        temperatures=chosen,
        certify=budget if certify else None,
        num_draws=draws,
        seed=config["seed"],
        progress=messages.is_terminal if progress is None else progress,
        n_jobs=jobs,
    )
    report = with_data_checks(report, preprocessing, metrics)
    target = folder.diagnostics_file if out is None else out
    write_text(target, report.to_json())
    _print(report)
    if certify:
        _print_exact(report["exact answer"].values["table"])
    results.print(f"Written to [bold]{target}[/]", soft_wrap=True)


def _print(report: Report) -> None:
    table = Table(show_lines=True)
    table.add_column("check", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("what was seen, and what to do")
    for check in report:
        text = escape(check.finding)
        if check.advice:
            text += f"\n[dim]{escape(check.advice)}[/]"
        style = _STYLES[check.verdict]
        table.add_row(escape(check.name), f"[{style}]{check.verdict}[/]", text)
    results.print(table)
    number = len(report.warnings)
    if number:
        results.print(f"[bold yellow]{number} of {len(report)} checks warn.[/]")
    else:
        results.print("No check warns.")


def _print_exact(rows: Mapping[str, Mapping[str, float]]) -> None:
    """Exact beside variational, of what is undecided."""
    columns = {"variational": ".3f", "exact": ".3f", "error": ".3f", "r_hat": ".2f"}
    table = Table()
    table.add_column("undecided")
    for column in columns:
        table.add_column(column, justify="right")
    for name, row in rows.items():
        table.add_row(escape(name), *(f"{row[c]:{form}}" for c, form in columns.items()))
    results.print(table)


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise ValueError
    return value
