"""What a run says of itself before it trains: data, network, steps."""

from __future__ import annotations

import torch
from rich.markup import escape

from pyro_ssbnn.cli.console import messages, results
from pyro_ssbnn.cli.sources import LoadedData
from pyro_ssbnn.cli.streams import StreamedData
from pyro_ssbnn.data import Preprocessing
from pyro_ssbnn.inference import TrainingOptions
from pyro_ssbnn.models import GatedNetwork

__all__ = ["SMALL", "announce", "announce_training", "enough_threads"]

SMALL = 10**5
"""Multiply-adds a row, below which several threads wait for each other more than they compute."""

_GRAIN = 32_768  # elements from which torch splits elementwise work (at::internal::GRAIN_SIZE)
_SHOWN = 6  # layers whose priors are named
_FEW_STEPS = 2_000  # on digits the ELBO at 1,000 steps was twice as far down as at 4,400


def announce(
    data: LoadedData | StreamedData, preprocessing: Preprocessing, model: GatedNetwork
) -> None:
    """Print what is fitted to what."""
    description, classes = model.description, len(preprocessing.class_names)
    rows, unknown = data.record["rows"], data.record.get("without_target")
    widths = "-".join(str(g.size) for g in (description.inputs, *description.layers))
    priors = [f"{g.name} {g.prior_in_words}" for g in description.gate_groups]
    left_out = len(priors) - _SHOWN
    priors[3 : 3 + max(0, left_out)] = [f"... {left_out} layers ..."] if left_out > 1 else []
    gates = ", ".join(priors) or "no gates"
    results.print(
        f"[bold]Data[/]     {rows['train']:,} training rows, {rows['test']:,} test rows ({data.record['test_rows']});"
        f" {description.inputs.size:,} predictors; {preprocessing.task} of '{escape(preprocessing.target_name)}'"
        f"{f' ({classes} classes)' if classes else ''}"
        f"{f'; {unknown:,} rows without a target left out' if unknown else ''}",
        soft_wrap=True,
    )
    for note in preprocessing.notes:
        results.print(f"         {escape(note)}", soft_wrap=True)
    results.print(
        f"[bold]Network[/]  {widths}, {model.activation}, likelihood {model.likelihood.name}, prior {model.prior.name};"
        f" prior inclusion: {gates}",
        soft_wrap=True,
    )


def enough_threads(model: GatedNetwork, batch: int) -> int:
    """One thread where torch would not split the elementwise work anyway: then a second one only costs waiting."""
    groups = model.description.groups
    largest = max(max(batch * g.size, g.size * g.group_size) for g in groups)
    return 1 if largest < _GRAIN else torch.get_num_threads()


def announce_training(options: TrainingOptions, batch: int, num_data: int, threads: int) -> None:
    """Print how long it is trained."""
    epochs = options.num_epochs(num_data)
    steps = epochs * (num_data // batch)
    results.print(
        f"[bold]Training[/] {epochs:,} epochs, {steps:,} steps of {batch:,} rows,"
        f" {threads} CPU thread{'s' if threads > 1 else ''}",
        soft_wrap=True,
    )
    if steps < _FEW_STEPS:
        messages.print(
            f"[yellow]Few steps:[/] gates and weights need some thousands of steps, these are {steps:,}. Take more"
            " --epochs or a smaller --batch-size unless this is a trial.",
            soft_wrap=True,
        )
