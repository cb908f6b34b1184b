"""Every task, and networks without gates or hidden layers, from fit to predictions."""

import io
import json

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="module")
def targets(frame) -> pd.DataFrame:
    """The same predictors with a target of each kind."""
    generator = np.random.default_rng(7)
    dose = frame["dose"].to_numpy()
    return frame.drop(columns="price").assign(
        ill=np.where(dose + 0.3 * generator.normal(size=80) > 0, "yes", "no"),
        kind=np.asarray(["NA!", "b", "c"], dtype=object)[np.digitize(dose, [-0.5, 0.5])],
        events=generator.poisson(np.exp(0.5 + 0.5 * dose)),
    )


@pytest.mark.parametrize(
    ("target", "options", "likelihood", "score"),
    [
        ("ill", (), "bernoulli", "accuracy"),
        ("kind", (), "categorical", "accuracy"),
        ("events", ("--task", "count"), "poisson", "rmse"),
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
    found = pd.read_csv(io.StringIO(predicted.stdout))
    assert (found["observed"] == targets[target]).all()
    if likelihood == "poisson":
        assert (found["mean"] > 0).all()
    else:
        assert set(found["predicted"]) <= set(targets[target])


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


def test_band_of_a_single_predictor(invoke, tiny, frame, tmp_path):
    data, run = tmp_path / "data.csv", tmp_path / "run"
    frame[["dose", "price"]].to_csv(data, index=False)
    result = invoke("fit", data, "--target", "price", *tiny, "--noise-scale", 200, "--out", run)
    assert result.exit_code == 0, result.output
    assert (run / "plots" / "band.png").is_file()
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    scale = config["preprocessing"]["target"]["scale"]
    assert config["network"]["likelihood"]["scale"] == pytest.approx(200 / scale)
