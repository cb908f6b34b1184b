"""``pyro-ssbnn summary`` and ``pyro-ssbnn plot``: looking at a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from pyro_ssbnn.cli import options as o
from pyro_ssbnn.cli.console import messages, results, warn
from pyro_ssbnn.cli.kinds import Picture, PlotKind
from pyro_ssbnn.cli.run_folder import RunFolder, finish_command, resume_command
from pyro_ssbnn.errors import ConfigurationError

__all__ = ["plot", "summary"]


def summary(
    run: o.Run,
    predictors: Annotated[
        bool,
        typer.Option(
            "--predictors", help="Also the predictors: their inclusion, or their weights' size."
        ),
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Every node and predictor, not only the likeliest.")
    ] = False,
    fdr: Annotated[
        float | None,
        typer.Option(
            metavar="LEVEL",
            help="Also what a Bayesian false discovery rate of at most LEVEL (0.1, say) keeps in each layer and among"
            " the predictors, with the expected number of errors and the posterior of the model's size.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print it as JSON, for other programs.")
    ] = False,
) -> None:
    """Print a run: data, active nodes by layer, the likeliest nodes, predictors, scores.

    Inclusion is the posterior probability that a node is in the network; the log Bayes factor is its evidence
    (posterior against prior odds, natural logarithm); the slab scale is the posterior median of the node's weight
    scale, a standard deviation.
    """
    folder = RunFolder(run)
    config = folder.read_config(unfinished=True)  # wrong folders are told before the torch import
    if fdr is not None and not 0 <= fdr < 1:
        raise ConfigurationError(f"--fdr: expected a rate from 0 to below 1; got {fdr:g}.")
    state = folder.state
    if not folder.has_checkpoint:
        _print_state(folder, state, "training had not begun", as_json)
        return
    from pyro_ssbnn.cli import tables

    config, answer, _ = folder.load_answer(unfinished=True)
    result = answer.best
    metrics = folder.read_metrics() if folder.metrics_file.exists() or state is None else None
    source, history = config["source"], result.history
    planned = result.options.num_epochs(result.num_data)
    told = f"{history.epoch:g} of {planned:,} epochs"
    if answer is result and config.get("fits", 1) > 1:
        told += f" of the first of {config['fits']} fits"
    if as_json:
        _print_state(folder, state, told, as_json, tables.as_record(answer, metrics))
        return
    seconds = history.seconds[-1] if len(history) else 0.0
    results.print(
        f"[bold]Run[/]      {escape(str(run))}: {escape(source['source'])}, {source['task']} of"
        f" '{escape(source['target'])}'; prior {result.model.prior.name};"  # type: ignore[attr-defined]
        f" {len(history)} epochs in {seconds:.0f} s",
        soft_wrap=True,
    )
    if state is not None:
        _print_state(folder, state, told)
    tables.print_fits(answer)
    tables.print_layers(answer.guide)
    if answer.collapsed:
        warn("Collapse", f"No node of {', '.join(answer.collapsed)} is active.")
    tables.print_nodes(result.guide, history, every)
    if predictors or result.model.description.inputs.gated:
        tables.print_predictors(answer.guide, history, every)
        joint = folder.read_joint()
        if joint is not None:
            tables.print_joint(joint)
    if fdr is not None:
        tables.print_error_control(result.guide, fdr, every)
    if metrics is not None:
        tables.print_metrics(metrics)


def _print_state(
    folder: RunFolder,
    state: Mapping[str, Any] | None,
    told: str,
    as_json: bool = False,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Say how far a run is, and what goes on with it."""
    trained = state is None or state["trained"]
    failed = {} if state is None else state["failed"]
    command = "" if state is None else (finish_command if trained else resume_command)(folder.path)
    if as_json:
        kind = "finished" if state is None else "trained" if trained else "training"
        line = {"run": str(folder.path), "state": kind, "done": told, "next": command}
        typer.echo(json.dumps({**line, "failed": failed, **(record or {})}, allow_nan=False))
        return
    what = "trained, but not all that is made of it is there" if trained else f"{told} are done"
    messages.print(f"[bold yellow]Unfinished:[/] {what}. Go on: {escape(command)}", soft_wrap=True)
    for name, why in failed.items():
        messages.print(f"  {name}: {why}", markup=False, soft_wrap=True)


def plot(
    run: o.Run,
    kind: Annotated[
        list[PlotKind] | None,
        typer.Option(
            metavar="KIND",
            help="Plot to draw: elbo, inclusion-history, inclusion, scales, predictors (needs --input-gates),"
            " reliability (needs classes) or band (needs a single predictor); may be repeated. Default: all there"
            " are for this run.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to. Default: RUN/plots.", show_default=False),
    ] = None,
    format: Annotated[Picture, typer.Option("--format", help="File format.")] = Picture.png,
) -> None:
    """Draw diagnostic plots: ELBO, inclusion by epoch and by node, scales, predictors, reliability."""
    folder = RunFolder(run)
    folder.read_config()
    from pyro_ssbnn.cli.pictures import PlotInputs, draw

    _, result, preprocessing = folder.load()
    inputs = PlotInputs(result, preprocessing, folder.read_predictions())
    for file in draw(inputs, folder.plots if out is None else out, kind, format):
        results.print(str(file), soft_wrap=True)
