"""Runs of tables that are read in pieces, from the command line."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from pyro_ssbnn.cli import new_data
from pyro_ssbnn.cli.run_folder import RunFolder
from pyro_ssbnn.data import table_pieces


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Three files of 200 rows, a category among the columns, in a folder."""
    folder = tmp_path_factory.mktemp("tables")
    random = np.random.default_rng(2)
    x = random.normal(size=(600, 3))
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    frame["kind"] = random.choice(["u", "v", "w"], 600)
    frame["y"] = 100 + 10 * x[:, 0] + 3 * (frame["kind"] == "w") + random.normal(size=600)
    frame.loc[::50, "b"] = np.nan
    frame["grade"] = np.where(frame["y"] > 100, "high", "low")
    for i in range(3):
        frame[200 * i : 200 * (i + 1)].to_parquet(folder / f"{i}.parquet")
    frame.to_csv(folder.parent / f"{folder.name}.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def run(files, tmp_path_factory, invoke, tiny):
    out = tmp_path_factory.mktemp("runs") / "run"
    options = ("--target", "y", "--drop", "grade", "--batch-size", 32, "--input-gates", *tiny)
    result = invoke("fit", *sorted(files.iterdir()), *options, "--out", out)
    assert result.exit_code == 0, result.output
    return out


def test_all_that_a_run_has_is_made(run, files):
    folder = RunFolder(run)
    rows = folder.read_config()["source"]["rows"]
    assert sum(rows.values()) == 600
    predictions = folder.read_predictions()
    assert len(predictions) == rows["test"] == folder.read_metrics()["number_of_rows"]
    whole = pd.concat(pd.read_parquet(file) for file in sorted(files.iterdir()))["y"].to_numpy()
    assert predictions["observed"].to_numpy() == pytest.approx(whole[predictions["row"]])
    assert set(folder.read_metrics()["baselines"]) == {"mean", "lasso"}
    assert folder.posterior_file.is_file()
    assert {path.name for path in folder.data.iterdir()} == {
        f"{part}.{array}.npy" for part in ("train", "test") for array in ("x", "y", "row")
    }


@pytest.mark.filterwarnings("always::pyro_ssbnn.errors.DataWarning")
def test_new_levels_of_all_pieces_are_said_once(run, files, invoke, tmp_path, monkeypatch):
    rows, new = pd.read_parquet(files / "0.parquet"), tmp_path / "new.csv"
    rows["kind"] = ["x", *rows["kind"][1:-1], "z"]
    rows.to_csv(new, index=False)
    pieces = []

    def small(source, text):
        for piece in table_pieces(source, text, 5_000):
            pieces.append(piece)
            yield piece

    monkeypatch.setattr(new_data, "table_pieces", small)
    result = invoke("predict", run, new, "--out", tmp_path / "p.csv")
    assert len(pieces) > 1
    assert result.exit_code == 0
    assert result.output.count("Warning") == 1
    assert "column 'kind': 'x', 'z'" in result.output


def test_predicting_the_files_gives_what_the_run_says_of_its_test_rows(
    run, files, invoke, tmp_path
):
    out = tmp_path / "p.csv"
    file = files / "0.parquet"
    assert invoke("predict", run, file, "--out", out).exit_code == 0
    own = RunFolder(run).read_predictions()
    own = own[own["row"] < 200]
    found = pd.read_csv(out).set_index("row").loc[own["row"]]
    for name in ("mean", "sd", "lower", "upper"):
        assert found[name].to_numpy() == pytest.approx(own[name].to_numpy(), rel=1e-5)


def test_rows_that_were_removed_are_written_again_and_changed_files_are_told(
    run, files, invoke, tmp_path
):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    before = (copy / "data" / "train.x.npy").read_bytes()
    shutil.rmtree(copy / "data")
    result = invoke("diagnose", copy, "--draws", 100)
    assert result.exit_code == 0, result.output
    assert (copy / "data" / "train.x.npy").read_bytes() == before
    shutil.rmtree(copy / "data")
    moved = files / "1.parquet"
    original = moved.read_bytes()
    try:
        pd.read_parquet(moved).assign(a=0.5).to_parquet(moved)
        result = invoke("diagnose", copy, "--draws", 100)
        assert result.exit_code == 2
        assert "1.parquet: has changed since the run was fitted" in " ".join(result.output.split())
        moved.unlink()
        result = invoke("diagnose", copy, "--draws", 100)
        assert "1.parquet: is gone" in " ".join(result.output.split())
    finally:
        moved.write_bytes(original)


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    run, files, invoke, tiny, tmp_path, monkeypatch
):
    from pyro_ssbnn.cli import build

    class Stopping:
        def __init__(self, fit):
            self.fit = fit

        def __call__(self, *arguments, **options):
            def stop(epoch, result):
                if epoch == 2:
                    raise KeyboardInterrupt

            return self.fit(*arguments, **options, callback=stop)

    out = tmp_path / "run"
    options = ("--target", "y", "--drop", "grade", "--batch-size", 32, "--input-gates", *tiny)
    with monkeypatch.context() as patch:
        patch.setattr(build, "fit", Stopping(build.fit))
        result = invoke("fit", *sorted(files.iterdir()), *options, "--out", out)
    assert result.exit_code == 130
    (out / "data" / "test.x.npy").unlink()
    shutil.rmtree(out / "data")
    result = invoke("fit", "--resume", out, "--no-progress")
    assert result.exit_code == 0, result.output
    for name in ("test_predictions.csv", "metrics.json"):
        assert (out / name).read_text() == (run / name).read_text()


def test_a_folder_and_one_file_on_request_are_streams_and_classes_are_scored(
    files, invoke, tiny, tmp_path
):
    options = ("--target", "grade", "--drop", "y", *tiny)
    result = invoke("fit", files, *options, "--out", tmp_path / "folder")
    assert result.exit_code == 0, result.output
    csv = files.parent / f"{files.name}.csv"
    result = invoke("fit", csv, "--stream", *options, "--out", tmp_path / "file")
    assert result.exit_code == 0, result.output
    metrics = [json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("folder", "file")]
    assert metrics[0] == metrics[1]  # the same rows, in the same order
    assert metrics[0]["full"]["accuracy"] > 0.5
    result = invoke("report", tmp_path / "file")
    assert result.exit_code == 0, result.output


def test_what_does_not_go_together_is_refused(files, invoke, tmp_path):
    paths = sorted(files.iterdir())
    for arguments, told in (
        ((*paths, "--no-stream", "--target", "y"), "several files are read in pieces"),
        (paths, "say which column to predict with --target; the columns are 'a', 'b'"),
        (("digits", "--stream"), "--stream is for tables"),
        ((*paths, "--target", "y", "--transform-target", "yeo-johnson"), "Take log, or none"),
    ):
        result = invoke("fit", *arguments, "--out", tmp_path / "none")
        assert result.exit_code == 2
        assert told in " ".join(result.output.split())
    assert not (tmp_path / "none").exists()


@pytest.mark.slow  # three fits
def test_several_fits_read_the_same_rows(files, invoke, tiny, tmp_path):
    options = ("--target", "y", "--drop", "grade", "--fits", 2, *tiny)
    result = invoke("fit", files, *options, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "mixture.safetensors").is_file()
