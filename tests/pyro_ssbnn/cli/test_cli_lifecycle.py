"""A user's whole way: fit, the files, summary, plot, prune, predict."""

import hashlib
import io
import json
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_ssbnn import load_compact, load_fit
from pyro_ssbnn.analysis import read_netcdf
from pyro_ssbnn.data import Preprocessing

FILES = {
    "compact.safetensors",
    "config.json",
    "fit.safetensors",
    "history.csv",
    "inclusion.csv",
    "joint.csv",
    "metrics.json",
    "plots",
    "posterior.nc",
    "pruning.csv",
    "test_predictions.csv",
}


def read_json(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def test_fit_writes_everything(table_run, table):
    assert {file.name for file in table_run.iterdir()} == FILES
    assert [f.name for f in table_run.parent.iterdir()] == [table_run.name]  # nothing temporary
    plots = {file.name for file in (table_run / "plots").iterdir()}
    kinds = ("elbo", "inclusion-history", "inclusion", "scales", "predictors")
    assert plots == {f"{kind}.png" for kind in kinds}
    config = read_json(table_run / "config.json")
    assert config["source"]["sha256"] == {
        table.name: hashlib.sha256(table.read_bytes()).hexdigest()
    }
    assert config["source"]["rows"] == {"train": 64, "test": 16}
    assert config["options"]["batch_size"] == 16
    assert config["versions"]["torch"] == version("torch")
    either = 1 - (1 - config["network"]["input_inclusion"]) * (
        1 - config["network"]["linear_inclusion"]
    )
    assert either == pytest.approx(1 / 3)
    assert len(pd.read_csv(table_run / "history.csv")) == 3
    inclusion = pd.read_csv(table_run / "inclusion.csv", index_col="name")
    assert list(inclusion.index[:4]) == ["dose", "age", "weight", "hidden1[0]"]


def test_files_load_with_the_package(table_run):
    result = load_fit(table_run / "fit.safetensors")
    assert result.model.description.inputs.names == ("dose", "age", "weight")
    compact = load_compact(table_run / "compact.safetensors")
    assert compact(torch.zeros(2, 3)).shape == (2, 1)
    prepared = Preprocessing.from_dict(read_json(table_run / "config.json")["preprocessing"])
    assert prepared.target_name == "price"


def test_posterior_file_is_in_the_targets_own_units(table_run):
    data = read_netcdf(table_run / "posterior.nc")
    observed = data["observed_data"]["obs"].to_numpy()
    assert observed.shape == (64,)
    assert 4_000 < observed.mean() < 6_000
    assert data["posterior_predictive"]["obs"].shape == (1, 20, 64)
    assert 3_000 < float(data["posterior_predictive"]["obs"].mean()) < 7_000
    # A density per unit of a target with a standard deviation near 1,000.
    assert float(data["log_likelihood"]["obs"].max()) < -np.log(200)


def test_scores_agree_with_the_predictions_written(table_run):
    metrics = read_json(table_run / "metrics.json")
    table = pd.read_csv(table_run / "test_predictions.csv")
    assert metrics["rows"] == "test"
    assert metrics["number_of_rows"] == len(table) == 16
    error = np.sqrt(((table["mean"] - table["observed"]) ** 2).mean())
    assert metrics["full"]["rmse"] == pytest.approx(error)
    inside = (table["lower"] <= table["observed"]) & (table["observed"] <= table["upper"])
    assert metrics["full"]["coverage_90"] == pytest.approx(inside.mean())
    assert 100 < metrics["pruned"]["rmse"] < 5_000


def test_class_scores_agree_with_the_predictions_written(digits_run):
    metrics = read_json(digits_run / "metrics.json")
    table = pd.read_csv(digits_run / "test_predictions.csv")
    assert (digits_run / "plots" / "reliability.png").is_file()
    probabilities = table.filter(like="p[")
    assert list(probabilities.columns) == [f"p[{digit}]" for digit in range(10)]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert metrics["full"]["accuracy"] == (table["predicted"] == table["observed"]).mean()
    picked = probabilities.to_numpy()[np.arange(len(table)), table["observed"]]
    assert metrics["full"]["nll"] == pytest.approx(-np.log(picked).mean(), rel=1e-5)


def test_summary_names_layers_nodes_and_predictors(invoke, table_run, digits_run):
    result = invoke("summary", table_run, "--all")
    assert result.exit_code == 0
    for word in ("Inclusion by layer", "hidden1", "dose", "weight", "hidden1[7]", "RMSE"):
        assert word in result.output
    short = invoke("summary", digits_run).output
    assert "and 7 more: --all" in short
    assert "pixel" not in short
    assert "pixel[" in invoke("summary", digits_run, "--predictors").output


def test_plot_writes_the_kinds_asked_for(invoke, table_run, tmp_path):
    result = invoke(
        *("plot", table_run, "--kind", "elbo", "--kind", "predictors"),
        *("--out", tmp_path / "figures", "--format", "svg"),
    )
    assert result.exit_code == 0
    assert {f.name for f in (tmp_path / "figures").iterdir()} == {"elbo.svg", "predictors.svg"}
    assert "<svg" in (tmp_path / "figures" / "elbo.svg").read_text(encoding="utf-8")
    refused = invoke("plot", table_run, "--kind", "reliability", "--out", tmp_path / "none")
    assert refused.exit_code == 2
    assert "needs classes" in refused.output
    assert not (tmp_path / "none").exists()


def test_prune_keeps_the_likeliest_nodes(invoke, digits_run, tmp_path):
    before = (digits_run / "compact.safetensors").read_bytes()
    out = tmp_path / "small.safetensors"
    result = invoke("prune", digits_run, "--nodes", "hidden1=4,hidden2=3", "--out", out)
    assert result.exit_code == 0, result.output
    assert "12 -> 4" in result.output
    compact = load_compact(out)
    assert {name: len(kept) for name, kept in compact.kept.items()} == {"hidden1": 4, "hidden2": 3}
    inclusion = load_fit(digits_run / "fit.safetensors").guide.inclusion()["hidden1"]
    kept = inclusion[compact.kept["hidden1"]]
    assert sorted(kept.tolist()) == sorted(inclusion.tolist())[-4:]
    assert pd.read_csv(tmp_path / "small.csv", index_col="layer").loc["hidden1", "nodes_kept"] == 4
    assert (digits_run / "compact.safetensors").read_bytes() == before


def test_prune_within_the_run_replaces_its_network(invoke, table_run, table, tmp_path):
    run, out = shutil.copytree(table_run, tmp_path / "run"), tmp_path / "out.csv"
    result = invoke("prune", run, "--nodes", "2", "--draws", 7)
    assert result.exit_code == 0, result.output
    assert load_compact(run / "compact.safetensors")(torch.zeros(5, 3)).shape == (7, 5, 1)
    # The scores of the network that was there are no longer those of the one that is.
    assert "pruned" not in read_json(run / "metrics.json")
    assert "full posterior" in invoke("summary", run).output
    result = invoke("predict", run, table, "--network", "pruned", "--out", out)
    assert result.exit_code == 0, result.output
    predicted = pd.read_csv(out)
    assert (predicted["lower"] < predicted["upper"]).all()


def test_predict_does_not_need_the_target(invoke, table_run, frame, tmp_path):
    new = tmp_path / "new.csv"
    shuffled = frame[["weight", "age", "dose"]].assign(note="text is not looked at")
    shuffled.head(1).to_csv(new, index=False)
    result = invoke("predict", table_run, new)
    assert result.exit_code == 0, result.output
    predicted = pd.read_csv(io.StringIO(result.stdout))
    assert list(predicted.columns) == ["row", "mean", "sd", "lower", "upper"]
    assert len(predicted) == 1
    assert 2_000 < predicted["mean"][0] < 8_000


def test_predict_scores_where_the_target_is(invoke, table_run, table, tmp_path):
    out = tmp_path / "deep" / "out.csv"
    result = invoke("predict", table_run, table, "--out", out, "--interval", 0.5)
    assert result.exit_code == 0, result.output
    assert "80 predictions" in result.output
    assert "RMSE" in result.output
    narrow = pd.read_csv(out)
    invoke("predict", table_run, table, "--out", out, "--interval", 0.95)
    wide = pd.read_csv(out)
    assert (narrow["observed"] == pd.read_csv(table)["price"]).all()
    assert (wide["upper"] - wide["lower"] > narrow["upper"] - narrow["lower"]).all()


def test_predict_the_same_twice(invoke, digits_run):
    first = invoke("predict", digits_run, "digits", "--network", "full")
    assert first.exit_code == 0, first.output
    assert first.stdout == invoke("predict", digits_run, "digits").stdout
    assert len(first.stdout.splitlines()) == 1 + 1797


def test_image_folder_from_fit_to_predictions(invoke, tiny, idx_folder, tmp_path):
    run = tmp_path / "run"
    result = invoke("fit", idx_folder, *tiny, "--epochs", 60, "--batch-size", 8, "--out", run)
    assert result.exit_code == 0, result.output
    assert "12 test rows (the source's own)" in result.output
    config = read_json(run / "config.json")
    assert config["source"]["format"] == "idx"
    assert len(config["source"]["sha256"]) == 4
    images = invoke("predict", run, idx_folder / "t10k-images-idx3-ubyte")
    folder = invoke("predict", run, idx_folder)
    assert images.exit_code == folder.exit_code == 0
    without = pd.read_csv(io.StringIO(images.stdout))
    beside = pd.read_csv(io.StringIO(folder.stdout))
    assert (beside["observed"] == np.arange(12) % 2).all()
    assert (beside["predicted"] == beside["observed"]).all()
    np.testing.assert_allclose(beside["p[1]"], without["p[1]"], atol=1e-6)
    refused = invoke("predict", run, idx_folder / "t10k-labels-idx1-ubyte")
    assert refused.exit_code == 2
    assert "4x4 pixels" in refused.output
