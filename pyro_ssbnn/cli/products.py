"""What is made of a fit: tables, scores, draws, the pruned network, plots; each whatever happens to another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from pyro_ssbnn.analysis import inclusion_summary, predictor_law, to_arviz, write_netcdf
from pyro_ssbnn.analysis.predictor_law import has_predictor_law, in_reasonable_time
from pyro_ssbnn.cli.console import messages, warn
from pyro_ssbnn.cli.pictures import PlotInputs, available, draw
from pyro_ssbnn.cli.reporting import in_words
from pyro_ssbnn.cli.run_folder import RunFolder
from pyro_ssbnn.cli.sources import LoadedData
from pyro_ssbnn.cli.streams import StreamedData
from pyro_ssbnn.data import Encoded, EncodedRows, Preprocessing
from pyro_ssbnn.errors import SelectionError
from pyro_ssbnn.files.atomic import replacing, write_text
from pyro_ssbnn.files.compact import save_compact
from pyro_ssbnn.inference import Fit, Mixture
from pyro_ssbnn.posterior import PredictiveSummary, draw_posterior
from pyro_ssbnn.results import predictions
from pyro_ssbnn.results.scores import INTERVAL, scores
from pyro_ssbnn.selection.joint import credible_sets
from pyro_ssbnn.selection.pruning import Pruning, prune

__all__ = ["Making", "make", "prune_into"]

_MOST_VALUES = 4_000_000  # rows x draws of predictions in posterior.nc
_log = logging.getLogger(__name__)


@dataclass
class Making:
    """What products are made from.

    :param answer: the run's fit, or its fits together.
    :param load: reads the run's data, in their own units; called when they are first needed.
    """

    folder: RunFolder
    answer: Fit | Mixture
    preprocessing: Preprocessing
    num_draws: int
    load: Callable[[], LoadedData | StreamedData]

    @property
    def result(self) -> Fit:
        """The fit, of several the best: of which there are a history, single nodes and a pruned network."""
        return self.answer.best

    @cached_property
    def data(self) -> LoadedData | StreamedData:
        """The run's rows in their own units."""
        return self.load()

    @cached_property
    def rows(self) -> tuple[Encoded | EncodedRows, Encoded | EncodedRows | None]:
        """Training and test rows as the network sees them."""
        return self.data.encoded(self.preprocessing, self.folder.data)

    @cached_property
    def plots(self) -> PlotInputs:
        """What plots are drawn from."""
        return PlotInputs(self.result, self.preprocessing, self.folder.read_predictions())


def make(making: Making, failed: Mapping[str, str]) -> dict[str, str]:
    """Make what is not there; what fails is told, and the rest is made all the same.

    :param failed: what could not be made before; it is made anew.
    :returns: why what failed now did, by the name of its file.
    """
    trouble: dict[str, str] = {}
    for name, product in _PRODUCTS.items():
        if name in failed or not (making.folder.path / name).exists():
            _attempt(name, partial(product, making), trouble)
    for kind in available(making.plots) if "test_predictions.csv" not in trouble else []:
        name = f"plots/{kind.value}.png"
        if name in failed or not (making.folder.path / name).exists():
            _attempt(name, partial(draw, making.plots, making.folder.plots, [kind]), trouble)
    return trouble


def _attempt(name: str, product: Callable[[], Any], trouble: dict[str, str]) -> None:
    try:
        product()
        _log.info("%s: done", name)
    except Exception as error:
        trouble[name] = in_words(error)
        _log.error("%s: %s", name, trouble[name], exc_info=error)
        messages.print(f"Not made: {name}: {trouble[name]}", markup=False, soft_wrap=True)


def prune_into(
    folder: RunFolder, result: Fit, pruning: Pruning, target: Path | None = None
) -> None:
    """Write a pruned network and what pruning saved: into the run, or to a file with the report beside it."""
    network_file = folder.compact_file if target is None else target
    report_file = folder.pruning_file if target is None else target.with_suffix(".csv")
    notes = {"rule": pruning.selection.rule, "fit": result.model.to_config()}
    save_compact(pruning.network, network_file, notes)
    write_text(report_file, pruning.report.to_csv())


def _history(making: Making) -> None:
    write_text(making.folder.history_file, making.result.history.to_frame().to_csv())


def _inclusion(making: Making) -> None:
    answer = making.answer
    several = isinstance(answer, Mixture)
    description = answer.model.description
    if description.inputs.gated if several else description.gate_groups:
        history = None if isinstance(answer, Mixture) else answer.history
        table = inclusion_summary(answer.guide, history=history)
        table = table.rename(index=predictions.harmless)
        write_text(making.folder.inclusion_file, table.to_csv())


def _joint(making: Making) -> None:
    """Predictors weighed jointly, by the rows that were fitted to; not where they are read in pieces."""
    if isinstance(making.answer, Mixture) or not has_predictor_law(making.result.model):
        return
    train, _ = making.rows
    if isinstance(train, Encoded):
        if not in_reasonable_time(making.result, len(train.x)):
            messages.print(
                "joint.csv is not written: with so many rows, and so many nodes and predictors open, to weigh sets of"
                " predictors would take longer than the fit. pyro_ssbnn.predictor_law does it when asked.",
                soft_wrap=True,
            )
            return
        law = predictor_law(making.result, train.x, train.y)
        places = {m: (n, one) for n, one in enumerate(credible_sets(law), 1) for m in one.members}
        table = law.summary()
        held = [places.get(row) for row in range(len(table))]
        table["credible_set"] = [None if one is None else one[0] for one in held]
        table["set_inclusion"] = [None if one is None else one[1].probability for one in held]
        table = table.astype({"credible_set": "Int64"})
        table = table.rename(index=predictions.harmless)
        write_text(making.folder.joint_file, table.to_csv())


def _pruned(making: Making) -> None:
    try:
        pruning = prune(making.result.model, making.result.guide)
    except SelectionError as error:
        warn("No pruned network", str(error))
        return
    prune_into(making.folder, making.result, pruning)


def _scores(making: Making) -> None:
    """Predictions for the test rows, and scores of the full and the pruned network."""
    answer, preprocessing = making.answer, making.preprocessing
    # Classes in the order of the training data, of which a small test set may lack some.
    train, test = making.rows
    labels = making.data.labels(preprocessing)
    network = making.folder.load_compact() if making.folder.compact_file.exists() else None
    digits = predictions.digits(preprocessing)
    with (
        replacing(making.folder.predictions_file) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as stream,
    ):

        def write(part: Encoded, summary: PredictiveSummary) -> None:
            table = {
                **({"row": part.row} if labels is None else labels),
                "observed": predictions.observed_column(part.observed, preprocessing.class_names),
                **predictions.columns(summary, preprocessing, INTERVAL),
            }
            stream.write(predictions.csv_text(table, digits, header=not stream.tell()))

        metrics = scores(answer, preprocessing, train, test, network, making.num_draws, write)
    making.folder.write_json(making.folder.metrics_file, metrics)


def _posterior(making: Making) -> None:
    """Draws with predictions for the training rows (for model checks and leave-one-out), unless too many."""
    answer, (train, _) = making.answer, making.rows
    scaled = train if isinstance(train, Encoded) else None
    if len(train) * making.num_draws > _MOST_VALUES:
        messages.print(
            f"posterior.nc is written without predictions for the training rows: {len(train):,} rows x"
            f" {making.num_draws} draws are more than {_MOST_VALUES:,} values.",
            soft_wrap=True,
        )
        scaled = None
    x, y, observed = (None,) * 3 if scaled is None else (scaled.x, scaled.y, scaled.observed)
    seed = answer.options.seed
    draws = draw_posterior(answer.model, answer.guide, making.num_draws, x=x, y=y, seed=seed)
    draws = predictions.in_own_units(draws, making.preprocessing, observed)
    data = to_arviz(answer.model, answer.guide, draws, y=observed)
    data.attrs["rows"] = "training"
    data.attrs["units"] = (
        "predictions, observations and log-likelihood: the target's own; latents: those of the standardised data"
        + ("; mean: the median under each draw" * (not making.preprocessing.target.map.is_identity))
    )
    write_netcdf(data, making.folder.posterior_file)


_PRODUCTS: dict[str, Callable[[Making], None]] = {
    "history.csv": _history,
    "inclusion.csv": _inclusion,
    "joint.csv": _joint,
    "compact.safetensors": _pruned,
    "metrics.json": _scores,
    "posterior.nc": _posterior,
}
