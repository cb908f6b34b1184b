"""``pyro-ssbnn fit``: from data to a run folder."""

from __future__ import annotations

import sys
from typing import Any

import typer

from pyro_ssbnn.cli import options as o
from pyro_ssbnn.cli.console import errors_as_messages, messages
from pyro_ssbnn.cli.kinds import PriorName
from pyro_ssbnn.cli.networks import NetworkChoice
from pyro_ssbnn.cli.run_folder import check_free
from pyro_ssbnn.cli.sources import SourceChoice
from pyro_ssbnn.inference.options import TrainingOptions

__all__ = ["INTERRUPTED", "fit"]

INTERRUPTED = 130
"""Exit code after Ctrl-C, as the shell counts it: 128 + SIGINT."""


@o.with_training_options
def fit(
    source: o.Source,
    *,
    format: o.SourceFormat = None,
    target: o.Target = None,
    task: o.TaskOption = None,
    test_fraction: o.TestFraction = None,
    split: o.Split = None,
    hidden: o.Hidden = "64,32",
    activation: o.Activation = "silu",
    input_gates: o.InputGates = None,
    input_inclusion: o.InputInclusion = None,
    noise_scale: o.NoiseScale = None,
    prior: o.PriorOption = PriorName.ss_ghs,
    inclusion: o.Inclusion = None,
    slab_scale: o.SlabScale = None,
    global_scale: o.GlobalScale = None,
    cap: o.Cap = None,
    threads: o.Threads = None,
    out: o.Out,
    overwrite: o.Overwrite = False,
    draws: o.Draws = 200,
    progress: o.Progress = None,
    debug: o.Debug = False,
    **training: Any,
) -> None:
    """Fit a network to data and write a run folder: fit, posterior draws, inclusion, scores, plots, pruned network.

    Columns of tables and regression targets are standardised by the training rows; predictions and scores are in the
    target's own units.
    """
    with errors_as_messages(debug):
        check_free(
            out, overwrite
        )  # before the torch import: wrong at once is better than wrong later
        training["remove_below"] = training["remove_below"] or None
        chosen = TrainingOptions(**training)
        data = SourceChoice(source, format, target, task, split, test_fraction, chosen.seed)
        network = NetworkChoice(
            hidden,
            activation,
            prior,
            inclusion,
            slab_scale,
            global_scale,
            cap,
            input_gates,
            input_inclusion,
            noise_scale,
        )
        from pyro_ssbnn.cli.build import build_run

        shown = sys.stderr.isatty() if progress is None else progress
        try:
            build_run(data, network, chosen, out, overwrite, draws, shown, threads)
        except KeyboardInterrupt:
            messages.print(
                f"[bold red]Interrupted:[/] nothing was written to {out}.", soft_wrap=True
            )
            raise typer.Exit(INTERRUPTED) from None
