"""Tables as textbooks give them: each fits from one command, without preparation, or is refused once for all reasons.

Stand-ins with the faults of 25 such tables: index columns, text, missing values, dates, rare levels, counts, shares.
"""

import io
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_ssbnn import TrainingOptions, fit, inclusion_summary, predict
from pyro_ssbnn.cli.kinds import PriorName
from pyro_ssbnn.cli.networks import NetworkChoice, build_network
from pyro_ssbnn.cli.new_data import read_rows
from pyro_ssbnn.cli.sources import SourceChoice, load
from pyro_ssbnn.errors import DataWarning

N = 60
RNG = np.random.default_rng(11)
X = RNG.normal(size=N)
GROUP = RNG.choice(["north", "south", "west"], N)
Y = 10 + X + (GROUP == "west") + 0.3 * RNG.normal(size=N)


def table(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"x": X, "region": GROUP, "y": Y, **columns})


def with_gaps(every: int, *names: str, **columns: object) -> pd.DataFrame:
    found = table(**columns)
    for i, name in enumerate(names):
        found[name] = found[name].where(np.arange(N) % every != i)
    return found


def indexed(frame: pd.DataFrame) -> pd.DataFrame:
    """With the unnamed first column that R and pandas write."""
    return frame.set_axis(range(1, N + 1)).reset_index().rename(columns={"index": ""})


def rare(values: list[str]) -> list[str]:
    return [*values, *["usual"] * (N - len(values))]


FITS: dict[str, Callable[[], pd.DataFrame]] = {
    "numbers and a category": table,
    "unnamed index column": lambda: indexed(table()),
    "six text columns": lambda: table(
        **{f"t{i}": RNG.choice(["low", "mid", "high"][: 2 + i % 2], N) for i in range(6)}
    ),
    "names of the rows": lambda: table(country=[f"country {i}" for i in range(N)]),
    "missing predictors": lambda: with_gaps(7, "x", "region"),
    "missing targets": lambda: with_gaps(9, "y"),
    "missing in all columns": lambda: with_gaps(8, "x", "region", "y"),
    "dates": lambda: table(day=pd.date_range("1998-05-01", periods=N).strftime("%Y-%m-%d")),
    "times": lambda: table(at=pd.date_range("1998-05-01 08:30", periods=N, freq="h")),
    "years": lambda: table(year=np.arange(1950, 1950 + N)),
    "one row of a level": lambda: table(kind=rare(["odd"])),
    "a rare number": lambda: table(flag=[1] + [0] * (N - 1)),
    "a constant column": lambda: table(unit="mm", version=3),
    "an empty column": lambda: table(notes=np.full(N, np.nan)),
    "truth values": lambda: table(married=RNG.choice([True, False], N)),
    "yes and no": lambda: table(married=RNG.choice(["yes", "no"], N)),
    "levels such as 3+": lambda: table(children=RNG.choice(["0", "1", "2", "3+"], N)),
    "many levels": lambda: table(city=[f"city {i % 25}" for i in range(N)]),
    "shares": lambda: table(y=1 / (1 + np.exp(-Y + 10))),
    "thousands": lambda: table(y=1e6 * np.exp(X)),
    "a class as target": lambda: table(y=np.where(Y > 10.3, "ill", "well")),
    "three classes": lambda: table(y=np.asarray(["a", "b", "c"])[np.digitize(Y, [9.5, 10.5])]),
    "a class of one row": lambda: table(y=rare(["odd"] + ["other"] * 20)),
    "names with blanks and commas": lambda: table().rename(columns={"x": "dose, mg per day"}),
    "fewer rows than columns": lambda: table(**{f"x{i}": RNG.normal(size=N) for i in range(70)}),
}


@pytest.mark.filterwarnings("ignore:.*levels that the training:pyro_ssbnn.errors.DataWarning")
@pytest.mark.parametrize("name", FITS)
def test_a_network_is_fitted_and_predicts_new_rows(tmp_path, name):
    """What the command does, without its files: a row for each predictor, and predictions for all rows."""
    data = tmp_path / "raw.csv"
    frame = FITS[name]()
    frame.to_csv(data, index=False)
    loaded = load(SourceChoice(str(data), target="y"))
    prepared = loaded.preprocessing()
    train, test = prepared.apply(loaded.train), prepared.apply(loaded.test)
    assert len(train) + len(test) + loaded.record["without_target"] == N
    options = NetworkChoice("4", "silu", PriorName.ss_ghs, input_gates=True)
    network = build_network(options, prepared, train.observed)
    training = TrainingOptions(epochs=1, compile=False)
    result = fit(network, train.x, train.y, training, progress=False)
    table = inclusion_summary(result.guide)
    predictors = list(table.index[table["group"] == "input"])
    assert set(predictors) <= set(frame.columns) - {"y"}  # each a column of the table, once
    assert len(predictors) == len(set(predictors))
    for rows in read_rows(str(data), prepared):
        assert len(rows.x) == N
        assert predict(result.model, result.guide, rows.x, num_draws=2).mean.isfinite().all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*levels that the training:pyro_ssbnn.errors.DataWarning")
@pytest.mark.parametrize("name", FITS)
def test_fits_and_predicts_from_one_command(invoke, tiny, tmp_path, name):
    data, run = tmp_path / "raw.csv", tmp_path / "run"
    FITS[name]().to_csv(data, index=False)
    result = invoke("fit", data, "--target", "y", *tiny, "--input-gates", "--out", run)
    assert result.exit_code == 0, result.output
    again = invoke("predict", run, data, "--network", "pruned")
    assert again.exit_code == 0, again.output
    assert len(pd.read_csv(io.StringIO(again.stdout))) == N


def test_what_was_done_is_said(invoke, tiny, tmp_path):
    data = tmp_path / "raw.csv"
    frame = indexed(with_gaps(7, "x", "region", "y", unit="mm"))
    frame.to_csv(data, index=False)
    result = invoke("fit", data, "--target", "y", *tiny, "--out", tmp_path / "run")
    for words in (
        "rows without a target left out",
        "missing values, filled in within the fit: x, region",
        "categories, one predictor each: region (3 levels)",
        "closed, the same in all training rows: unit",
        "left out, numbers the rows: unnamed",
    ):
        assert words in result.output


@pytest.mark.parametrize(
    ("frame", "given", "likelihood"),
    [
        (table(), [], "gaussian"),
        (with_gaps(7, "x"), [], "heteroscedastic"),
        (with_gaps(7, "x"), ["--task", "regression"], "gaussian"),
        (with_gaps(7, "x"), ["--noise-scale", "0.5"], "gaussian"),
        (with_gaps(7, "x"), ["--hidden", ""], "gaussian"),
    ],
    ids=["whole", "gaps", "asked for", "known noise", "linear"],
)
def test_noise_spreads_with_the_predictors_where_they_have_gaps(
    invoke, tiny, tmp_path, frame, given, likelihood
):
    frame.to_csv(data := tmp_path / "raw.csv", index=False)
    result = invoke("fit", data, "--target", "y", *tiny, *given, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert f"likelihood {likelihood}, prior" in result.output


@pytest.mark.parametrize("target", [Y, np.where(Y > 10.3, "ill", "well")], ids=["number", "words"])
def test_a_copy_of_the_target_is_said(tmp_path, target):
    table(y=target, copy=target).to_csv(data := tmp_path / "raw.csv", index=False)
    loaded = load(SourceChoice(str(data), target="y"))
    with pytest.warns(DataWarning, match=r"raw\.csv: the target 'y' equals 'copy' in every"):
        loaded.preprocessing()


@pytest.mark.parametrize("ending", ["tsv", "parquet", "xlsx"])
def test_other_files(tmp_path, ending):
    frame, found = with_gaps(7, "x", day=pd.date_range("1998-05-01", periods=N)), []
    for suffix in ("csv", ending):
        data = tmp_path / f"raw.{suffix}"
        if suffix == "parquet":
            frame.to_parquet(data)
        elif suffix == "xlsx":
            frame.to_excel(data, index=False)
        else:
            frame.to_csv(data, index=False, sep="\t" if suffix == "tsv" else ",")
        loaded = load(SourceChoice(str(data), target="y"))
        found.append(loaded.preprocessing().apply(loaded.train))
    torch.testing.assert_close(found[0].x, found[1].x)
    torch.testing.assert_close(found[0].y, found[1].y)


def test_predictions_join_back_to_their_rows(invoke, tiny, tmp_path):
    data, run = tmp_path / "raw.csv", tmp_path / "run"
    frame = table(patient=[f"p{i:03d}" for i in range(N)])
    frame.to_csv(data, index=False)
    result = invoke("fit", data, "--target", "y", *tiny, "--out", run)
    assert result.exit_code == 0, result.output
    joined = pd.read_csv(run / "test_predictions.csv").merge(frame, on="patient")
    assert len(joined) == N // 5
    np.testing.assert_allclose(joined["observed"], joined["y"])


def test_groups_are_held_out_whole(invoke, tiny, tmp_path):
    data, run = tmp_path / "raw.csv", tmp_path / "run"
    frame = table(patient=np.repeat(np.arange(N // 4), 4))
    frame.to_csv(data, index=False)
    options = ("--target", "y", "--groups", "patient", *tiny)
    result = invoke("fit", data, *options, "--out", run)
    assert result.exit_code == 0, result.output
    assert "whole groups of 'patient'" in result.output
    held = pd.read_csv(run / "test_predictions.csv")["row"]
    assert set(frame["patient"][held]).isdisjoint(frame["patient"].drop(held))
    assert invoke("diagnose", run, "--draws", 100, "--no-progress").exit_code == 0


REFUSED: dict[str, tuple[Callable[[], pd.DataFrame], tuple[str, ...]]] = {
    "one row": (lambda: table().head(1), ("1 row with a target", "expected at least two")),
    "no target": (lambda: table(y=np.nan), ("0 rows with a target",)),
    "one target": (
        lambda: table(y=[2.5] + [np.nan] * (N - 1)),
        ("1 row with a target, 1 to train on",),
    ),
    "one class": (lambda: table(y="ill"), ("at least two classes",)),
    "a constant target": (lambda: table(y=2.5), ("constant", "nothing to predict")),
    "counts": (
        lambda: table(y=RNG.poisson(3, N)),
        ("leave the task open", "--task classification", "--task count", "--task regression"),
    ),
    "everything wrong": (
        lambda: table(x=["much", *X[1:].astype(str)], size=[np.inf, *X[1:]], y="ill"),
        ("3 problems", "--categorical x", "'size' is infinite", "at least two classes"),
    ),
    "no predictors": (
        lambda: table()[["y"]].assign(id=range(N)),
        ("expected predictors beside the target 'y'", "'id': numbers the rows"),
    ),
}


def test_few_rows_are_told_as_they_are_cut(invoke, tiny, tmp_path):
    table().head(3).to_csv(tmp_path / "raw.csv", index=False)
    options = ("--target", "y", "--test-fraction", 0.5, *tiny, "--out", tmp_path / "run")
    result = invoke("fit", tmp_path / "raw.csv", *options)
    assert result.exit_code == 2
    assert "3 rows with a target, 1 to train on" in result.output
    table(y=np.nan).to_csv(tmp_path / "raw.csv", index=False)
    result = invoke("fit", tmp_path / "raw.csv", *options, "--task", "classification")
    assert result.exit_code == 2
    assert "0 rows with a target" in result.output


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_once_for_all_reasons(invoke, tiny, tmp_path, name):
    make, words = REFUSED[name]
    data = tmp_path / "raw.csv"
    make().to_csv(data, index=False)
    result = invoke("fit", data, "--target", "y", *tiny, "--out", tmp_path / "run")
    assert result.exit_code == 2
    for word in words:
        assert word in result.output
    assert "task=" not in result.output  # a shell's words
