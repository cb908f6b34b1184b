"""``pyro-ssbnn fit``: from data to a run folder."""

from __future__ import annotations

import sys
from dataclasses import fields

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

_T = TrainingOptions()


def fit(
    context: typer.Context,
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
    epochs: o.Epochs = _T.epochs,
    batch_size: o.BatchSize = None,
    seed: o.Seed = _T.seed,
    optimizer: o.Optimizer = _T.optimizer,
    mean_rate: o.MeanRate = _T.mean_rate,
    momentum: o.Momentum = _T.momentum,
    scale_rate: o.ScaleRate = _T.scale_rate,
    latent_rate: o.LatentRate = _T.latent_rate,
    gate_rate: o.GateRate = _T.gate_rate,
    kl_warmup: o.KlWarmup = _T.kl_warmup,
    decay_after: o.DecayAfter = _T.decay_after,
    milestones: o.Milestones = [*_T.milestones],  # noqa: B006
    milestone_factor: o.MilestoneFactor = _T.milestone_factor,
    clip_norm: o.ClipNorm = _T.clip_norm,
    num_particles: o.NumParticles = _T.num_particles,
    local_reparameterization: o.LocalReparameterization = _T.local_reparameterization,
    temperature: o.Temperature = _T.temperature,
    hard_gates: o.HardGates = _T.hard_gates,
    initial_inclusion: o.InitialInclusion = _T.initial_inclusion,
    patience: o.Patience = _T.patience,
    min_delta: o.MinDelta = _T.min_delta,
    remove_below: o.RemoveBelow = _T.remove_below or 0.0,
    remove_after: o.RemoveAfter = _T.remove_after,
    compile: o.Compile = _T.compile,
    device: o.Device = _T.device,
    dtype: o.Dtype = _T.dtype,
    threads: o.Threads = None,
    out: o.Out,
    overwrite: o.Overwrite = False,
    draws: o.Draws = 200,
    progress: o.Progress = None,
    debug: o.Debug = False,
) -> None:
    """Fit a network to data and write a run folder: fit, posterior draws, inclusion, scores, plots, pruned network.

    Columns of tables and regression targets are standardised by the training rows; predictions and scores are in the
    target's own units.
    """
    with errors_as_messages(debug):
        check_free(
            out, overwrite
        )  # before the torch import: wrong at once is better than wrong later
        # Whatever a field of TrainingOptions is called, so is its option.
        chosen = {f.name: context.params[f.name] for f in fields(_T)}
        training = TrainingOptions(**{**chosen, "remove_below": remove_below or None})
        data = SourceChoice(source, format, target, task, split, test_fraction, seed)
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
            build_run(data, network, training, out, overwrite, draws, shown, threads)
        except KeyboardInterrupt:
            messages.print(
                f"[bold red]Interrupted:[/] nothing was written to {out}.", soft_wrap=True
            )
            raise typer.Exit(INTERRUPTED) from None
