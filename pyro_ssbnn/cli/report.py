"""``pyro-ssbnn report``: all there is of a run on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyro_ssbnn.cli import options as o
from pyro_ssbnn.cli.console import messages, results
from pyro_ssbnn.cli.run_folder import RunFolder
from pyro_ssbnn.cli.streams import LOOKED_AT
from pyro_ssbnn.cli.typed import check_suffix
from pyro_ssbnn.errors import DataError

if TYPE_CHECKING:
    from pyro_ssbnn.analysis import Report
    from pyro_ssbnn.data import Encoded, EncodedRows, Preprocessing
    from pyro_ssbnn.inference import Fit, Mixture
    from pyro_ssbnn.results import Results

__all__ = ["report", "run_results"]


def report(
    run: o.Run,
    out: Annotated[
        Path | None,
        typer.Option(help="HTML file to write. Default: RUN/report.html.", show_default=False),
    ] = None,
) -> None:
    """Write a report: one HTML file that opens offline, in light and dark, and can be printed.

    Data, verdicts of 'diagnose' (taken from the run where it was diagnosed, made now where not), inclusion of the
    predictors, what they do, calibration, scores beside simpler models, training, the network before and after
    pruning, latency where 'bench' has measured it, and the command that made it all.
    """
    check_suffix(out, ".html")
    folder = RunFolder(run)
    folder.read_config()
    from pyro_ssbnn.results.page import write_report

    config, result, preprocessing = folder.load_answer()
    train, test = _rows(folder, config, preprocessing)
    messages.print("Looking at the fit ...", style="dim")
    checks = folder.read_checks()
    if checks is None and train is not None:
        checks = _checked(folder, result, preprocessing, train, test, config["seed"])
    looked_at = [None if rows is None else rows.sample(LOOKED_AT) for rows in (train, test)]
    found = run_results(folder, config, result, preprocessing, looked_at[0], looked_at[1], checks)
    target = folder.report_file if out is None else out
    write_report(found, target)
    results.print(f"Written to [bold]{target}[/]", soft_wrap=True)


def run_results(
    folder: RunFolder,
    config: dict[str, Any],
    result: Fit | Mixture,
    preprocessing: Preprocessing,
    train: Encoded | None = None,
    test: Encoded | None = None,
    checks: Report | None = None,
) -> Results:
    """What a run's folder holds of its fit."""
    import pandas as pd

    from pyro_ssbnn.files.untrusted import unpacking
    from pyro_ssbnn.results import Results

    tables = {}
    for name, file, index in (
        ("pruning", folder.pruning_file, 0),
        ("latency", folder.latency_file, None),
    ):
        if file.is_file():
            with unpacking(file, "the table"):
                tables[name] = pd.read_csv(file, index_col=index)
    source, versions = config["source"], config.get("versions", {})
    facts = {
        "data": source["source"],
        "test rows": str(source.get("test_rows", "")),
        "seed": str(config["seed"]),
        "posterior draws": f"{config['draws']:,}",
        "made": str(config.get("created", "")),
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
    }
    metrics = folder.read_metrics() if folder.metrics_file.is_file() else None
    return Results(
        result,
        preprocessing,
        train,
        test,
        metrics,
        checks,
        facts={name: text for name, text in facts.items() if text},
        command=str(config.get("command", "")),
        num_draws=config["draws"],
        joint=folder.read_joint(),
        **tables,
    )


def _rows(
    folder: RunFolder, config: dict[str, Any], preprocessing: Preprocessing
) -> tuple[Encoded | EncodedRows | None, Encoded | EncodedRows | None]:
    """The run's rows, where its data are still there."""
    from pyro_ssbnn.cli.sources import load_again

    try:
        data = load_again(config["source"], config["seed"])
        return data.encoded(preprocessing, folder.data)
    except DataError as error:
        messages.print(
            f"The report is made without effects, calibration and checks: {error}",
            markup=False,
            soft_wrap=True,
        )
        return None, None


def _checked(
    folder: RunFolder,
    result: Fit | Mixture,
    preprocessing: Preprocessing,
    train: Encoded | EncodedRows,
    test: Encoded | EncodedRows | None,
    seed: int,
) -> Report:
    from pyro_ssbnn.analysis import diagnose
    from pyro_ssbnn.results.checks import with_data_checks

    held_out = None if test is None else test.given
    report = diagnose(result, *train.given, held_out=held_out, seed=seed)
    metrics = folder.read_metrics() if folder.metrics_file.is_file() else None
    return with_data_checks(report, preprocessing, metrics)
