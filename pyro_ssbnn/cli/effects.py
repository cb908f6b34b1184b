"""``pyro-ssbnn effects``: what the predictors of a run do to its target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyro_ssbnn.cli import options as o
from pyro_ssbnn.cli.console import messages, print_table, results
from pyro_ssbnn.cli.kinds import Picture
from pyro_ssbnn.cli.run_folder import RunFolder
from pyro_ssbnn.cli.typed import check_suffix
from pyro_ssbnn.errors import ConfigurationError

if TYPE_CHECKING:
    import pandas as pd

    from pyro_ssbnn.analysis import Effect
    from pyro_ssbnn.data import Preprocessing
    from pyro_ssbnn.inference import Fit, Mixture

__all__ = ["effects"]

_MOST = 10  # predictors of which effects are shown unless they are named
_HEADERS = {
    "": "predictor",
    "lowest": "lowest mean",
    "at_lowest": "at",
    "highest": "highest mean",
    "at_highest": "at",
}
_PAIRS = {
    "": "pair",
    "mean": "standard deviation",
    "share": "share of variance",
    "probability": "probability",
}
_SHARE = "probability: that the share of the variance is above 0.01."


def effects(
    run: o.Run,
    predictor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"Predictor to look at; may be repeated. Default: those that are selected, the {_MOST} likeliest.",
            show_default=False,
        ),
    ] = None,
    accumulated: Annotated[
        bool,
        typer.Option(
            "--accumulated/--partial",
            help="Accumulated local effects, which keep to the data where predictors go together, or partial"
            " dependence.",
        ),
    ] = False,
    interactions: Annotated[
        bool, typer.Option("--interactions", help="Also which pairs of them act together.")
    ] = False,
    level: Annotated[
        float, typer.Option(min=0.01, max=0.999, help="Probability of the band around the mean.")
    ] = 0.9,
    draws: Annotated[int, typer.Option(min=10, max=o.MOST_DRAWS, help="Posterior draws.")] = 200,
    out: Annotated[
        Path | None,
        typer.Option(help="CSV file to write. Default: RUN/effects.csv.", show_default=False),
    ] = None,
    format: Annotated[Picture, typer.Option("--format", help="Of the plot.")] = Picture.png,
) -> None:
    """Show what predictors do: the mean of the target along each, with the posterior's band.

    Reads the run's data again. Writes every value with its mean and band, and a plot of all beside it.
    """
    check_suffix(out, ".csv")
    folder = RunFolder(run)
    config = folder.read_config()
    from pyro_ssbnn import analysis
    from pyro_ssbnn.cli.pictures import draw_effects
    from pyro_ssbnn.cli.sources import load_again
    from pyro_ssbnn.cli.streams import LOOKED_AT
    from pyro_ssbnn.files.atomic import write_text

    _, answer, preprocessing = folder.load_answer()
    names = _chosen(answer, preprocessing, predictor)
    data = load_again(config["source"], config["seed"])
    x = data.encoded(preprocessing, folder.data)[0].sample(LOOKED_AT).x
    x = x.to(next(answer.guide.parameters()))
    of = analysis.accumulated_effects if accumulated else analysis.partial_dependence
    settings = {"preprocessing": preprocessing, "num_draws": draws, "seed": config["seed"]}
    messages.print("Drawing from the posterior ...", style="dim")
    found = [of(answer.model, answer.guide, x, name, **settings) for name in names]
    print_table(found[0].kind.capitalize(), _extremes(found), _HEADERS)
    if interactions and len(names) > 1:
        pairs = analysis.interactions(answer.model, answer.guide, x, names, **settings)
        _print_pairs(pairs)
    target = folder.effects_file if out is None else out
    write_text(target, _rows(found, level).to_csv(index=False, float_format="%.7g"))
    picture = target.with_suffix(f".{format.value}")
    draw_effects(found, picture)
    results.print(f"Written to [bold]{target}[/] and [bold]{picture}[/]", soft_wrap=True)


def _chosen(
    answer: Fit | Mixture, preprocessing: Preprocessing, asked: list[str] | None
) -> list[str]:
    """Names of the predictors to look at."""
    from pyro_ssbnn.data import TableDescription
    from pyro_ssbnn.results.predictors import predictor_table

    if not isinstance(preprocessing.features, TableDescription):
        raise ConfigurationError(
            "RUN: effects are of a table's columns; this run was fitted to images."
        )
    table = predictor_table(answer, preprocessing)
    table = table[table["note"] == ""]
    for name in asked or ():
        if name not in table.index:
            raise ConfigurationError(
                f"--predictor: the network has no predictor {name!r}; it has {', '.join(table.index)}."
            )
    if asked:
        return list(dict.fromkeys(asked))
    likeliest = table[table["selected"]].sort_values("inclusion", ascending=False, kind="stable")
    if likeliest.empty:
        raise ConfigurationError(
            "RUN: no predictor is selected, so that none has an effect. Name one with --predictor to look at it all"
            " the same."
        )
    return likeliest.index[:_MOST].tolist()


def _extremes(effects: Sequence[Effect]) -> pd.DataFrame:
    """Where the mean of each effect is lowest and highest, a row a predictor; of classes a row each."""
    import pandas as pd

    rows = {}
    for effect in effects:
        table = effect.table()
        for name, part in table.groupby("class", sort=False) if "class" in table else [("", table)]:
            low, high = part.sort_values("mean").iloc[[0, -1]].to_dict("records")
            rows[f"{effect.predictor}: {name}" if name != "" else effect.predictor] = {
                "lowest": low["mean"],
                "at_lowest": low["value"],
                "highest": high["mean"],
                "at_highest": high["value"],
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def _print_pairs(pairs: pd.DataFrame) -> None:
    named = pairs.set_index(pairs["first"] + " and " + pairs["second"])
    print_table("Pairs that act together", named, _PAIRS, _SHARE)


def _rows(effects: Sequence[Effect], level: float) -> pd.DataFrame:
    """Every value of every effect; words that a spreadsheet would run are made harmless."""
    import pandas as pd

    from pyro_ssbnn.results.predictions import harmless

    tables = [effect.table(level).assign(predictor=effect.predictor) for effect in effects]
    table = pd.concat(tables)
    for name in ("predictor", "value", "class"):
        if name in table:
            table[name] = [harmless(v) if isinstance(v, str) else v for v in table[name]]
    first = ["predictor", "value"]
    return table[first + [name for name in table if name not in first]]
