"""``diagnose``: every check in the table and in the file, on the rows the run was fitted to, or a clear refusal."""

import json
import shutil

import pytest

from pyro_ssbnn.cli.run_folder import RunFolder
from pyro_ssbnn.cli.sources import SourceChoice, load, load_again


@pytest.fixture
def run(table_run, tmp_path):
    """A copy to write into."""
    return shutil.copytree(table_run, tmp_path / "run")


def test_diagnose_prints_and_writes_every_check(invoke, run):
    before = {file.name for file in run.iterdir()}
    result = invoke("diagnose", run, "--draws", 100, "--restarts", 2, "--no-progress")
    assert result.exit_code == 0, result.output
    assert {file.name for file in run.iterdir()} == {*before, "diagnostics.json"}
    record = json.loads((run / "diagnostics.json").read_text())
    names = [check["name"] for check in record["checks"]]
    assert {"convergence", "schedule", "calibration", "predictors"} <= set(names)
    for name in names:
        assert name in result.output
    warnings = [check["name"] for check in record["checks"] if check["verdict"] == "warning"]
    assert record["trustworthy"] == (not warnings)
    assert "schedule" in warnings  # three epochs
    assert f"{len(warnings)} of {len(names)} checks warn." in result.output
    test_rows = RunFolder(run).read_config()["source"]["rows"]["test"]
    calibration = record["checks"][names.index("calibration")]
    assert f"{test_rows} held-out rows" in calibration["finding"]


def test_diagnose_puts_exact_beside_variational(invoke, run):
    result = invoke("diagnose", run, "--draws", 100, "--certify", "--budget", 1, "--no-progress")
    assert result.exit_code == 0, result.output
    record = json.loads((run / "diagnostics.json").read_text())
    (check,) = (c for c in record["checks"] if c["name"] == "exact answer")
    assert "ertified" in check["finding"]
    assert set(check["values"]["table"]) <= {w for w in result.output.split() if len(w) > 1}
    assert "r_hat" in result.output


def test_diagnose_writes_elsewhere_on_request(invoke, table_run, tmp_path):
    out = tmp_path / "deep" / "checks.json"
    result = invoke("diagnose", table_run, "--draws", 100, "--out", out)
    assert result.exit_code == 0, result.output
    assert out.is_file()
    assert not (table_run / "diagnostics.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "checks.txt"), "ending in .json"),
        (("--temperatures", "warm"), "positive numbers such as 0.25,1"),
        (("--temperatures", "0.5,0"), "positive numbers such as 0.25,1"),
    ],
)
def test_diagnose_refuses_before_any_work(invoke, table_run, options, message):
    result = invoke("diagnose", table_run, *options)
    assert result.exit_code == 2
    assert message in result.output


def test_diagnose_refuses_data_that_have_changed(invoke, run):
    folder = RunFolder(run)
    config = folder.read_config()
    config["source"]["sha256"] = dict.fromkeys(config["source"]["sha256"], "0" * 64)
    folder.write_json(folder.config_file, config)
    result = invoke("diagnose", run)
    assert result.exit_code == 2
    assert "the data have changed since the run was fitted" in result.output
    del config["source"]["test_fraction"]
    folder.write_json(folder.config_file, config)
    result = invoke("diagnose", run)
    assert result.exit_code == 2
    assert "earlier version" in result.output


def test_a_source_is_read_again_with_the_same_split():
    choice = SourceChoice("diabetes", test_fraction=0.3, seed=7)
    first = load(choice)
    again = load_again(first.record, 7)
    assert again.record == first.record
    assert again.test is not None
    assert (again.train.x == first.train.x).all()
    assert (again.test.y == first.test.y).all()


def test_diagnose_says_that_a_lasso_is_better_and_names_columns_with_gaps(
    invoke, tiny, frame, tmp_path
):
    """Three epochs learn nothing of a linear function."""
    data, run = tmp_path / "gaps.csv", tmp_path / "run"
    frame.assign(age=frame["age"].where(frame.index % 9 > 0)).to_csv(data, index=False)
    assert invoke("fit", data, "--target", "price", *tiny, "--out", run).exit_code == 0
    result = invoke("diagnose", run, "--draws", 100, "--no-progress")
    assert result.exit_code == 0, result.output
    checks = {c["name"]: c for c in json.loads((run / "diagnostics.json").read_text())["checks"]}
    metrics = RunFolder(run).read_metrics()
    assert checks["simpler models"]["verdict"] == "warning"
    assert checks["simpler models"]["values"]["simpler"] == metrics["baselines"]["lasso"]["r2"]
    assert checks["simpler models"]["values"]["network"] == metrics["full"]["r2"]
    assert checks["missing values"]["values"] == {"columns": ["age"]}
    assert "simpler models" in result.output
    assert "missing values" in result.output
