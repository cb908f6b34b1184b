"""``pyro-ssbnn prune`` and ``pyro-ssbnn predict``: using a run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from pyro_ssbnn.cli import options as o
from pyro_ssbnn.cli.console import messages, print_scores, printable, results
from pyro_ssbnn.cli.kinds import NetworkName
from pyro_ssbnn.cli.networks import parse_nodes
from pyro_ssbnn.cli.run_folder import RunFolder
from pyro_ssbnn.cli.typed import check_suffix
from pyro_ssbnn.errors import ConfigurationError

if TYPE_CHECKING:
    from pyro_ssbnn.data import Preprocessing
    from pyro_ssbnn.posterior.ensemble import Ensemble

__all__ = ["predict", "prune"]


def prune(
    run: o.Run,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Keep the nodes (and gated predictors) whose inclusion lies above; 0.5, the default, is the"
            " median probability model."
        ),
    ] = None,
    nodes: Annotated[
        str | None,
        typer.Option(
            metavar="hidden1=20,hidden2=10",
            help="Keep so many of the likeliest nodes instead; layers not named keep to 0.5. One number stands for"
            " every hidden layer; predictors are 'input'.",
        ),
    ] = None,
    draws: Annotated[
        int | None,
        o.counted(
            o.MOST_DRAWS,
            "Keep so many posterior draws of the weights, for honest intervals. Default: only their posterior mean.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File of the pruned network (.safetensors), its report beside it (.csv). Default: RUN's own,"
            " compact.safetensors and pruning.csv, replaced.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Cut the network down to its selected nodes: smaller, faster, plain PyTorch (pyro_ssbnn.load_compact)."""
    if threshold is not None and nodes is not None:
        raise ConfigurationError("--threshold and --nodes contradict each other: give one.")
    wanted = None if nodes is None else parse_nodes(nodes)
    check_suffix(out, ".safetensors")
    folder = RunFolder(run)
    folder.read_config()
    from pyro_ssbnn.cli.products import prune_into
    from pyro_ssbnn.cli.tables import print_pruning
    from pyro_ssbnn.selection import prune as cut
    from pyro_ssbnn.selection import select

    config, result, _ = folder.load()
    inclusion = result.guide.inclusion()
    selection = select(inclusion, threshold=0.5 if threshold is None else threshold, nodes=wanted)
    pruning = cut(result.model, result.guide, selection, num_draws=draws, seed=config["seed"])
    prune_into(folder, result, pruning, out)
    if out is None:  # these scores were another network's
        metrics = folder.read_metrics()
        if metrics.pop("pruned", None) is not None:
            folder.write_json(folder.metrics_file, metrics)
        _name_outdated(folder)
    print_pruning(pruning.report, selection.rule)
    kind = "posterior mean weights" if draws is None else f"{draws} posterior draws"
    results.print(
        f"Pruned network ({kind}) written to [bold]{folder.compact_file if out is None else out}[/]",
        soft_wrap=True,
    )


def _name_outdated(folder: RunFolder) -> None:
    made = {"bench": folder.latency_file, "export": folder.onnx_file}
    for command, file in made.items():
        if file.is_file():
            messages.print(
                f"{file.name} is still of the earlier pruned network: pyro-ssbnn {command} {folder.path}",
                soft_wrap=True,
                markup=False,
            )


def predict(
    run: o.Run,
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="CSV file with the predictors' columns (others are not looked at; the target may be there), a file of"
            " IDX images, or a source as 'fit' takes it.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="CSV file to write. Default: standard output.", show_default=False),
    ] = None,
    network: Annotated[
        NetworkName,
        typer.Option(help="full: average over posterior draws; pruned: RUN's compact.safetensors."),
    ] = NetworkName.full,
    interval: Annotated[
        float,
        typer.Option(help="Probability of the predictive intervals (numeric targets), 0 to 1."),
    ] = 0.9,
    threads: Annotated[
        int | None,
        o.counted(
            o.MOST_THREADS,
            "CPU threads. Default: one for networks too small to gain from more, otherwise torch's own choice.",
        ),
    ] = None,
    progress: o.Progress = None,
) -> None:
    """Predict new rows, in the target's own units.

    Numeric targets: mean, sd (of the predictive distribution), lower, upper. Classes: the predicted class, and the
    probability of each. Where DATA hold the target, scores are printed too.
    A file's rows are read, predicted and written piece by piece: memory does not grow with their number.
    """
    if not 0 < interval < 1:
        raise ConfigurationError(f"--interval must lie strictly between 0 and 1; got {interval}.")
    folder = RunFolder(run)
    config = folder.read_config()
    from pyro_ssbnn.cli.announcing import SMALL
    from pyro_ssbnn.cli.new_data import ROWS
    from pyro_ssbnn.isolation import limited_to
    from pyro_ssbnn.results import predictions

    config, answer, preprocessing = folder.load_answer()
    options = {"num_draws": config["draws"], "seed": config["seed"], "rows": ROWS}
    if network is NetworkName.full:
        ensemble = predictions.full_ensemble(answer, preprocessing, **options)
    else:
        pruned = folder.load_compact()
        ensemble = predictions.pruned_ensemble(pruned, answer.best, preprocessing, **options)
    shown = messages.is_terminal if progress is None else progress
    if threads is None and answer.model.description.multiply_adds < SMALL:
        threads = 1
    with limited_to(threads):
        count, scores, why = _predict_rows(ensemble, preprocessing, data, interval, out, shown)
    if out is not None:
        messages.print(f"{count:,} predictions written to [bold]{out}[/]", soft_wrap=True)
    if why:
        messages.print(f"No scores: {why}", soft_wrap=True, markup=False)
    elif scores is not None and out is not None:
        print_scores(f"Scores on the {count:,} rows of {data}", {network.value: scores})


def _predict_rows(
    ensemble: Ensemble,
    preprocessing: Preprocessing,
    data: str,
    interval: float,
    out: Path | None,
    progress: bool,
) -> tuple[int, dict[str, float] | None, str]:
    """Predict and write piece by piece; returns the number of rows, their scores, and why there are none."""
    from tqdm import tqdm

    from pyro_ssbnn.cli.new_data import read_rows
    from pyro_ssbnn.results import predictions

    running, digits = predictions.RunningScores(preprocessing), predictions.digits(preprocessing)
    why, count = "", 0
    bar = tqdm(disable=not progress, unit=" rows", unit_scale=True, leave=False)
    with bar, _writing(out) as stream:
        for rows in read_rows(data, preprocessing):
            asked = predictions.quantiles(preprocessing, interval, rows.y is not None)
            summary = ensemble.summary(rows.x, rows.y, asked)
            observed = {} if rows.observed is None else {"observed": rows.observed}
            found = predictions.columns(summary, preprocessing, interval)
            table = {**rows.labels, **observed, **found}
            stream.write(predictions.csv_text(table, digits, header=not count))
            why = why or rows.why_no_scores
            if rows.y is not None and not why:
                running.add(summary, rows.y)
            count += len(rows.x)
            bar.total = round(count / rows.share)
            bar.update(len(rows.x))
    return count, running.result() if running.count and not why else None, why


class _Terminal(StringIO):
    """Standard output where it is a terminal: names from files cannot command it."""

    def write(self, text: str) -> int:
        return sys.stdout.write(printable(text))


@contextmanager
def _writing(out: Path | None) -> Iterator[TextIO]:
    """A stream to standard output, or to a file that is there once all is written."""
    from pyro_ssbnn.files.atomic import replacing

    if out is None:
        yield _Terminal() if sys.stdout.isatty() else sys.stdout
        return
    with replacing(out) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        yield stream
