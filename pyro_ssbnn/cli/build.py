"""Making a run: load, fit, look, prune, and write everything into one new folder."""

from __future__ import annotations

import platform
import warnings
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_ssbnn.analysis import inclusion_summary, to_arviz, write_netcdf
from pyro_ssbnn.analysis.netcdf import ArviZData
from pyro_ssbnn.cli import predictions
from pyro_ssbnn.cli.console import messages, results, warn
from pyro_ssbnn.cli.networks import NetworkChoice, build_network
from pyro_ssbnn.cli.pictures import PlotInputs, draw
from pyro_ssbnn.cli.run_folder import FORMAT, FORMAT_VERSION, RunFolder, creating
from pyro_ssbnn.cli.sources import LoadedData, SourceChoice, load
from pyro_ssbnn.cli.tables import print_layers, print_metrics
from pyro_ssbnn.data import Dataset, Preprocessing
from pyro_ssbnn.errors import CollapseWarning, SelectionError
from pyro_ssbnn.files.atomic import write_text
from pyro_ssbnn.files.compact import save_compact
from pyro_ssbnn.inference import Fit, TrainingOptions, fit, save_fit
from pyro_ssbnn.isolation import limited_to
from pyro_ssbnn.models import MLP
from pyro_ssbnn.posterior import PredictiveSummary, draw_posterior
from pyro_ssbnn.posterior.ensemble import Ensemble
from pyro_ssbnn.selection.pruning import Pruning, prune

__all__ = ["TEST_INTERVAL", "build_run"]

TEST_INTERVAL = 0.9
"""Probability of the intervals in ``test_predictions.csv``."""

_GRAIN = 32_768  # elements from which torch splits elementwise work (at::internal::GRAIN_SIZE)
_MOST_VALUES = 4_000_000  # rows x draws of predictions in posterior.nc
_FEW_STEPS = 2_000  # on digits the ELBO at 1,000 steps was twice as far down as at 4,400
_PACKAGES = ("pyro_ssbnn", "torch", "pyro-ppl", "arviz", "numpy", "pandas", "scikit-learn")


def build_run(
    data_choice: SourceChoice,
    network_choice: NetworkChoice,
    options: TrainingOptions,
    out: Path,
    overwrite: bool,
    num_draws: int,
    progress: bool,
    threads: int | None,
) -> None:
    """Fit and write a run folder, whole or not at all, then print what was found.

    :param progress: show the progress bar.
    :param threads: CPU threads of the training; None decides by the size of the layers.
    """
    data = load(data_choice)
    preprocessing = Preprocessing.fit(data.train)
    train = preprocessing.apply(data.train)
    model = build_network(network_choice, data.train, preprocessing)
    _announce(data, model)
    batch = options.batch_rows(len(train))
    threads = _enough_threads(model, batch) if threads is None else threads
    _announce_training(options, batch, len(train), threads)
    with limited_to(threads):
        result = _fitted(model, train, options, progress)
    messages.print("Drawing from the posterior, scoring, plotting ...", style="dim")
    with creating(out, overwrite) as folder:
        folder.write_json(folder.config_file, _config(data, preprocessing, result, num_draws))
        save_fit(result, folder.fit_file)
        result.history.to_frame().to_csv(folder.history_file)
        posterior = _posterior(result, preprocessing, data.train, train, num_draws)
        write_netcdf(posterior, folder.posterior_file)
        if model.description.gate_groups:
            inclusion_summary(result.guide, history=result.history).to_csv(folder.inclusion_file)
        metrics, table = _evaluate(folder, result, preprocessing, data, num_draws)
        folder.write_json(folder.metrics_file, metrics)
        digits = predictions.digits(preprocessing)
        write_text(folder.predictions_file, predictions.csv_text(table, digits, header=True))
        draw(PlotInputs(result, preprocessing, pd.DataFrame(table)), folder.plots)
    print_layers(result.guide)
    print_metrics(metrics)
    results.print(f"Run written to [bold]{out}[/]", soft_wrap=True)


def prune_into(
    folder: RunFolder, result: Fit, pruning: Pruning, target: Path | None = None
) -> None:
    """Write a pruned network and what pruning saved: into the run, or to a file with the report beside it."""
    network_file = folder.compact_file if target is None else target
    report_file = folder.pruning_file if target is None else target.with_suffix(".csv")
    save_compact(
        pruning.network,
        network_file,
        {"rule": pruning.selection.rule, "fit": result.model.to_config()},
    )
    pruning.report.to_csv(report_file)


def _announce(data: LoadedData, model: MLP) -> None:
    train, description = data.train, model.description
    rows = data.record["rows"]
    widths = "-".join(str(g.size) for g in (description.inputs, *description.groups))
    gates = ", ".join(f"{g.name} {g.inclusion:.3g}" for g in description.gate_groups) or "no gates"
    results.print(
        f"[bold]Data[/]     {rows['train']:,} training rows, {rows['test']:,} test rows ({data.record['test_rows']});"
        f" {train.num_features:,} predictors; {train.task} of '{train.target_name}'"
        f"{f' ({train.num_classes} classes)' if train.num_classes else ''}",
        markup=True,
        soft_wrap=True,
    )
    results.print(
        f"[bold]Network[/]  {widths}, {model.activation}, prior {model.prior.name}; prior inclusion: {gates}",
        soft_wrap=True,
    )


def _enough_threads(model: MLP, batch: int) -> int:
    """One thread where torch would not split the elementwise work anyway: then a second one only costs waiting."""
    groups = model.description.groups
    largest = max(max(batch * g.size, g.size * g.group_size) for g in groups)
    return 1 if largest < _GRAIN else torch.get_num_threads()


def _announce_training(options: TrainingOptions, batch: int, num_data: int, threads: int) -> None:
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


def _fitted(model: MLP, train: Dataset, options: TrainingOptions, progress: bool) -> Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)  # said below, louder
        result = fit(model, train.x, train.y, options, progress=progress)
    result.guide.to("cpu")
    if result.collapsed:
        warn(
            "Collapse",
            f"No node of {', '.join(result.collapsed)} is active (inclusion above 1/2): the selected network predicts a"
            " constant. If the data hold a signal: lower --gate-rate, lengthen --kl-warmup, train for more --epochs"
            " with a smaller --batch-size, or raise --inclusion.",
        )
    return result


def _config(
    data: LoadedData, preprocessing: Preprocessing, result: Fit, num_draws: int
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in _PACKAGES}},
        "source": data.record,
        "seed": result.options.seed,
        "draws": num_draws,
        "network": result.model.to_config(),
        "options": result.options.to_config(),
        "preprocessing": preprocessing.to_dict(),
    }


def _posterior(
    result: Fit, preprocessing: Preprocessing, train: Dataset, scaled: Dataset, num_draws: int
) -> ArviZData:
    """Draws with predictions for the training rows (for model checks and leave-one-out), unless too many."""
    x: Tensor | None = scaled.x
    y: Tensor | None = scaled.y
    if len(train) * num_draws > _MOST_VALUES:
        messages.print(
            f"posterior.nc is written without predictions for the training rows: {len(train):,} rows x {num_draws}"
            f" draws are more than {_MOST_VALUES:,} values.",
            soft_wrap=True,
        )
        x = y = None
    seed = result.options.seed
    draws = draw_posterior(result.model, result.guide, num_draws, x=x, y=y, seed=seed)
    draws = predictions.in_own_units(draws, preprocessing)
    data = to_arviz(result.model, result.guide, draws, y=None if y is None else train.y)
    data.attrs["rows"] = "training"
    data.attrs["units"] = (
        "predictions, observations and log-likelihood: the target's own; latents: those of the standardised data"
    )
    return data


def _evaluate(
    folder: RunFolder,
    result: Fit,
    preprocessing: Preprocessing,
    data: LoadedData,
    num_draws: int,
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Scores of the full and the pruned network, and the full one's predictions; prunes on the way."""
    rows = data.train if data.test is None else data.test
    # Classes in the order of the training data, of which a small test set may lack some.
    scaled = preprocessing.apply(rows)
    options = {"num_draws": num_draws, "seed": result.options.seed, "rows": len(rows)}
    asked = predictions.quantiles(preprocessing, TEST_INTERVAL, scored=True)

    def scored(ensemble: Ensemble) -> tuple[PredictiveSummary, dict[str, float]]:
        summary = ensemble.summary(scaled.x, scaled.y, asked)
        running = predictions.RunningScores(preprocessing)
        running.add(summary, scaled.y)
        return summary, running.result()

    summary, scores = scored(predictions.full_ensemble(result, **options))
    metrics: dict[str, Any] = {
        "rows": "training" if data.test is None else "test",
        "number_of_rows": len(rows),
        "collapsed": result.collapsed,
        "full": scores,
    }
    table = {
        "observed": predictions.observed_column(rows),
        **predictions.columns(summary, preprocessing, TEST_INTERVAL),
    }
    try:
        pruning = prune(result.model, result.guide)
    except SelectionError as error:
        warn("No pruned network", str(error))
        return metrics, table
    prune_into(folder, result, pruning)
    pruned = predictions.pruned_ensemble(pruning.network, result, **options)
    metrics["pruned"] = scored(pruned)[1]
    return metrics, table
