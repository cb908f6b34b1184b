"""``pyro-ssbnn fit``: from data to a run folder."""

from __future__ import annotations

from typing import Any

import typer

from pyro_ssbnn.cli import data_options as d
from pyro_ssbnn.cli import options as o
from pyro_ssbnn.cli.console import messages
from pyro_ssbnn.cli.kinds import NetworkKind, TransformName
from pyro_ssbnn.cli.launcher import follows
from pyro_ssbnn.cli.networks import NetworkChoice
from pyro_ssbnn.cli.sources import SourceChoice
from pyro_ssbnn.cli.training_options import option, with_training_options
from pyro_ssbnn.cli.typed import command_line, is_given, names
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference.options import TrainingOptions

__all__ = ["fit"]

_HOW = {"resume", "threads", "jobs", "draws", "progress", "checkpoint_every", "debug", "log_file"}


@with_training_options
def fit(
    context: typer.Context,
    source: d.Sources = None,
    *,
    format: d.SourceFormat = None,
    target: d.Target = None,
    task: d.TaskOption = None,
    test_fraction: d.TestFraction = None,
    split: d.Split = None,
    columns: d.Columns = None,
    drop: d.Drop = None,
    categorical: d.Categorical = None,
    date: d.Date = None,
    missing: d.Missing = "impute",
    delimiter: d.Delimiter = None,
    stream: d.Stream = None,
    groups: d.Groups = None,
    transform_target: d.TransformTarget = TransformName.none,
    network: o.Network = NetworkKind.mlp,
    hidden: o.Hidden = None,
    activation: o.Activation = None,
    input_gates: o.InputGates = None,
    input_inclusion: o.InputInclusion = None,
    linear: o.Linear = None,
    noise_scale: o.NoiseScale = None,
    prior: o.PriorOption = None,
    inclusion: o.Inclusion = None,
    slab_scale: o.SlabScale = None,
    global_scale: o.GlobalScale = None,
    cap: o.Cap = None,
    fits: o.Fits = 1,
    jobs: o.Jobs = None,
    threads: o.Threads = None,
    out: o.Out = None,
    overwrite: o.Overwrite = False,
    resume: o.Resume = None,
    checkpoint_every: o.CheckpointEvery = 60.0,
    draws: o.Draws = None,
    progress: o.Progress = None,
    **training: Any,
) -> None:
    """Fit a network to data and write a run folder: fit, posterior draws, inclusion, scores, plots, pruned network.

    Columns of tables and regression targets are standardised by the training rows; predictions and scores are in the
    target's own units. The fit is saved as it is trained: a run that was stopped goes on with --resume.
    """
    training["remove_below"] = training["remove_below"] or None
    given = {name for name in context.params if is_given(context, name)}
    shown = messages.is_terminal if progress is None else progress
    if follows():
        from pyro_ssbnn.cli.launched import follow

        raise typer.Exit(follow(training["device"]))
    if resume is not None:
        fixed = given - _HOW - training.keys()
        if fixed:
            raise ConfigurationError(
                f"--resume: {', '.join(sorted(map(option, fixed)))} cannot be given: data, network and folder are"
                " those of the run."
            )
        from pyro_ssbnn.cli import build

        output = build.Output(draws, threads, shown, checkpoint_every, jobs=jobs)
        changes = {name: training[name] for name in given & training.keys()}
        raise typer.Exit(build.resume_run(resume, changes, output))
    if not source or out is None:
        absent = "SOURCE" if not source else "--out"
        raise ConfigurationError(
            f"{absent} is missing: pyro-ssbnn fit SOURCE --out RUN, or pyro-ssbnn fit --resume RUN."
        )
    # Before the torch import: wrong at once is better than wrong later.
    chosen = TrainingOptions(**training)
    if missing not in ("impute", "refuse"):
        raise ConfigurationError(f"--missing: expected impute or refuse; got {missing!r}.")
    of_table = {
        "columns": names(columns),
        "drop": names(drop) or (),
        "categorical": names(categorical) or (),
        "date": names(date) or (),
        "missing": missing,
    }
    where = (source[0], format, target, task, split, test_fraction, chosen.seed)
    how = (groups, transform_target.value, tuple(source[1:]), stream)
    data = SourceChoice(*where, of_table, delimiter, *how)
    choice = NetworkChoice(
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
        task,
        linear,
        network,
    )
    from pyro_ssbnn.cli.lifecycle import check_free

    check_free(out, overwrite)
    from pyro_ssbnn.cli import build

    typed = command_line(context)
    output = build.Output(draws, threads, shown, checkpoint_every, typed, fits, jobs)
    raise typer.Exit(build.build_run(data, choice, chosen, output, out, overwrite))
