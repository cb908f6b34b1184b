"""``pyro-ssbnn summary`` and ``pyro-ssbnn plot``: looking at a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyro_ssbnn.cli import options as o
from pyro_ssbnn.cli.console import errors_as_messages, results, warn
from pyro_ssbnn.cli.kinds import Picture, PlotKind
from pyro_ssbnn.cli.run_folder import RunFolder
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
    debug: o.Debug = False,
) -> None:
    """Print a run: data, active nodes by layer, the likeliest nodes, predictors, scores.

    Inclusion is the posterior probability that a node is in the network; the log Bayes factor is its evidence
    (posterior against prior odds, natural logarithm); the slab scale is the posterior median of the node's weight
    scale, a standard deviation.
    """
    with errors_as_messages(debug):
        folder = RunFolder(run)
        folder.read_config()  # wrong folders are told before the torch import
        if fdr is not None and not 0 <= fdr < 1:
            raise ConfigurationError(f"--fdr: expected a rate from 0 to below 1; got {fdr:g}.")
        from pyro_ssbnn.cli import tables

        config, result, _ = folder.load()
        metrics = folder.read_metrics()
        source = config["source"]
        results.print(
            f"[bold]Run[/]      {run}: {source['source']}, {source['task']} of '{source['target']}';"
            f" prior {result.model.prior.name}; {len(result.history)} epochs in"  # type: ignore[attr-defined]
            f" {result.history.seconds[-1]:.0f} s",
            soft_wrap=True,
        )
        tables.print_layers(result.guide)
        if result.collapsed:
            warn("Collapse", f"No node of {', '.join(result.collapsed)} is active.")
        tables.print_nodes(result.guide, result.history, every)
        if predictors or result.model.description.inputs.gated:
            tables.print_predictors(result.guide, result.history, every)
        if fdr is not None:
            tables.print_error_control(result.guide, fdr, every)
        tables.print_metrics(metrics)


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
    debug: o.Debug = False,
) -> None:
    """Draw diagnostic plots: ELBO, inclusion by epoch and by node, scales, predictors, reliability."""
    with errors_as_messages(debug):
        folder = RunFolder(run)
        folder.read_config()
        from pyro_ssbnn.cli.pictures import PlotInputs, draw

        _, result, preprocessing = folder.load()
        inputs = PlotInputs(result, preprocessing, folder.read_predictions())
        for file in draw(inputs, folder.plots if out is None else out, kind, format):
            results.print(str(file), soft_wrap=True)
