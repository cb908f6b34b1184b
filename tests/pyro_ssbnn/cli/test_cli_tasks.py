"""Every task, and networks without gates or hidden layers, from fit to predictions."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from pyarrow import csv


def exact_table(content: bytes) -> pd.DataFrame:
    """A table to the last digit, which pandas 2 does not read."""
    return csv.read_csv(io.BytesIO(content)).to_pandas()


@pytest.fixture(scope="module")
def targets(frame) -> pd.DataFrame:
    """The same predictors with a target of each kind."""
    generator = np.random.default_rng(7)
    dose = frame["dose"].to_numpy()
    return frame.drop(columns="price").assign(
        ill=np.where(dose + 0.3 * generator.normal(size=80) > 0, "yes", "no"),
        kind=np.asarray(["NA!", "b", "c"], dtype=object)[np.digitize(dose, [-0.5, 0.5])],
        events=generator.poisson(np.exp(0.5 + 0.5 * dose)),
        visits=generator.negative_binomial(0.5, 1 / (1 + 6 * np.exp(dose))),
        grade=1 + np.digitize(dose, [-0.5, 0.5]),
        score=dose + generator.standard_t(2.5, size=80),
    )


@pytest.mark.parametrize(
    ("target", "options", "likelihood", "score"),
    [
        ("ill", (), "bernoulli", "accuracy"),
        ("kind", (), "categorical", "accuracy"),
        ("events", ("--task", "poisson"), "poisson", "rmse"),
        ("visits", ("--task", "count"), "negative-binomial", "rmse"),
        ("grade", ("--task", "ordinal"), "ordinal", "accuracy"),
        ("score", ("--task", "student-t"), "student-t", "rmse"),
        ("score", ("--task", "heteroscedastic"), "heteroscedastic", "rmse"),
    ],
)
def test_task(invoke, tiny, targets, tmp_path, target, options, likelihood, score):
    data, run = tmp_path / "data.csv", tmp_path / "run"
    targets[["dose", "age", "weight", target]].to_csv(data, index=False)
    result = invoke("fit", data, "--target", target, *options, *tiny, "--out", run)
    assert result.exit_code == 0, result.output
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    assert config["network"]["likelihood"]["name"] == likelihood
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["full"][score] > 0
    assert metrics["pruned"].keys() == metrics["full"].keys()
    predicted = invoke("predict", run, data, "--network", "pruned")
    assert predicted.exit_code == 0, predicted.output
    found = exact_table(predicted.stdout.encode())
    assert (found["observed"] == targets[target]).all()
    if target in ("events", "visits"):
        assert (found["mean"] > 0).all()
    elif score == "accuracy":
        assert set(found["predicted"]) <= set(targets[target])
    if options == ("--task", "count"):
        assert "times their mean: counts, negative binomial" in " ".join(result.output.split())


def test_grades_need_an_order(invoke, tiny, targets, tmp_path):
    data = tmp_path / "data.csv"
    targets[["dose", "kind"]].to_csv(data, index=False)
    options = ("--target", "kind", "--task", "ordinal", *tiny, "--out", tmp_path / "run")
    result = invoke("fit", data, *options)
    assert result.exit_code == 2
    assert "grades must be numbered in their order" in " ".join(result.output.split())


@pytest.mark.usefixtures("every_plot")
def test_plain_linear_model_without_test_rows(invoke, tiny, table, tmp_path):
    run = tmp_path / "run"
    choice = ("--prior", "gaussian", "--hidden", "", "--test-fraction", 0, "--dtype", "float64")
    result = invoke("fit", table, "--target", "price", *tiny, *choice, "--out", run)
    assert result.exit_code == 0, result.output
    assert "no gates" in result.output
    assert "80 training rows" in result.output
    assert not (run / "inclusion.csv").exists()
    assert {file.name for file in (run / "plots").iterdir()} == {"elbo.png"}
    assert json.loads((run / "metrics.json").read_text(encoding="utf-8"))["rows"] == "training"
    summary = invoke("summary", run, "--predictors")
    assert summary.exit_code == 0
    assert "no gates" in summary.output
    assert "weight" in summary.output
    assert invoke("predict", run, table, "--network", "pruned").exit_code == 0


@pytest.mark.usefixtures("every_plot")
def test_band_of_a_single_predictor(invoke, tiny, frame, tmp_path):
    data, run = tmp_path / "data.csv", tmp_path / "run"
    frame[["dose", "price"]].to_csv(data, index=False)
    result = invoke("fit", data, "--target", "price", *tiny, "--noise-scale", 200, "--out", run)
    assert result.exit_code == 0, result.output
    assert (run / "plots" / "band.png").is_file()
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    scale = config["preprocessing"]["target"]["scale"]
    assert config["network"]["likelihood"]["scale"] == pytest.approx(200 / scale)


def test_large_numbers_that_differ_little_are_predicted_as_their_differences_are(
    invoke, tiny, tmp_path
):
    """300 unix times and a target of 1e8 +- 10: the same fit as from day 0 and a target of +- 10, and 1e8 more."""
    days = np.arange(300) / 10
    noise = np.random.default_rng(8).normal(size=300)
    small = pd.DataFrame({"time": 86_400 * days, "level": 9 * np.sin(days / 5) + noise})
    large = small.add([1_700_000_000, 1e8])
    found = {}
    for name, frame in {"small": small, "large": large}.items():
        data, run = tmp_path / f"{name}.csv", tmp_path / name
        frame.to_csv(data, index=False)
        result = invoke("fit", data, "--target", "level", *tiny, "--out", run)
        assert result.exit_code == 0, result.output
        out = tmp_path / f"{name}-new.csv"
        assert invoke("predict", run, data, "--out", out).exit_code == 0
        found[name] = exact_table(out.read_bytes())
        found[name + " test"] = exact_table((run / "test_predictions.csv").read_bytes())
        found[name + " scores"] = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    assert found["large"]["observed"].tolist() == large["level"].tolist()
    assert found["large"]["mean"].nunique() == 300
    for rows in ("", " test"):
        shift = {"row": 0, "observed": 1e8, "mean": 1e8, "sd": 0, "lower": 1e8, "upper": 1e8}
        difference = found["large" + rows] - found["small" + rows] - shift
        assert difference.abs().max().max() < 1e-6 * small["level"].std()
    assert found["large scores"]["full"] == pytest.approx(found["small scores"]["full"], rel=1e-6)


def test_a_transformed_target_is_undone_in_everything_written(invoke, tiny, tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=60), "z": rng.normal(size=60)})
    frame["pay"] = np.exp(8 + frame["x"] + 0.2 * rng.normal(size=60))
    data, run = tmp_path / "pay.csv", tmp_path / "run"
    frame.to_csv(data, index=False)
    given = ("fit", data, "--target", "pay", *tiny, "--transform-target")
    result = invoke(*given, "yeo-johnson", "--out", run)
    assert result.exit_code == 0, result.output
    assert "target before it is standardised: yeo-johnson of power" in result.output
    table = pd.read_csv(run / "test_predictions.csv")
    np.testing.assert_allclose(table["observed"], frame["pay"][table["row"]], rtol=1e-9)
    assert (table["lower"] < table["mean"]).all()
    assert (table["mean"] < table["upper"]).all()
    again = invoke("predict", run, data, "--network", "pruned", "--out", tmp_path / "new.csv")
    assert again.exit_code == 0, again.output
    assert invoke("report", run).exit_code == 0
    for options, words in (
        (("log", "--task", "student-t"), "--transform-target: log goes with Gaussian"),
        (("log", "--noise-scale", "3"), "leave it out"),
        (("root",), "yeo-johnson"),
    ):
        refused = invoke(*given, *options, "--out", tmp_path / "other")
        assert refused.exit_code == 2
        assert words in refused.output
