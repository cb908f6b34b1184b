"""``joint.csv``: predictors weighed jointly, as a run writes and shows them."""

import math
import shutil

import numpy as np
import pandas as pd
import pytest

from pyro_ssbnn.cli.run_folder import RunFolder
from pyro_ssbnn.cli.tables import print_joint


def joint(names, inclusion, fitted, sets):
    columns = {"inclusion": inclusion, "fitted": fitted, "credible_set": sets}
    return pd.DataFrame({**columns, "set_inclusion": 0.99}, index=names)


def test_it_holds_the_law_beside_the_guide(table_run):
    table = pd.read_csv(table_run / "joint.csv", index_col="name")
    inclusion = pd.read_csv(table_run / "inclusion.csv", index_col="name")
    assert list(table.index) == ["dose", "age", "weight"]
    assert table["fitted"].to_numpy() == pytest.approx(inclusion["inclusion"].to_numpy()[:3])
    assert table.loc["dose", "inclusion"] > 0.99
    prior = table["prior_inclusion"]
    odds = np.log(table["inclusion"] / (1 - table["inclusion"])) - np.log(prior / (1 - prior))
    finite = np.isfinite(odds)
    assert table["log_bayes_factor"][finite].to_numpy() == pytest.approx(odds[finite], rel=1e-6)


def test_summary_shows_what_changes(invoke, table_run):
    output = invoke("summary", table_run).output
    table = pd.read_csv(table_run / "joint.csv", index_col="name")
    changes = (table["inclusion"] - table["fitted"]).abs() > 0.05
    assert changes.any()  # three epochs leave useless predictors in
    after = output[output.index("Predictors weighed jointly") :]
    for name in table.index:
        row = f"{table.loc[name, 'inclusion']:.3f} │ {table.loc[name, 'fitted']:.3f}"
        shown = [line for line in after.splitlines() if f" {name} " in line and "│" in line]
        assert len(shown) == int(changes[name])
        assert all(row.split(" │ ")[0] in line and row.split(" │ ")[1] in line for line in shown)


def test_where_nothing_changes_that_is_said(capsys):
    table = joint(["dose"], [0.98], [1.0], [1])
    print_joint(table)
    output = capsys.readouterr().out
    assert "no predictor's inclusion changes by more than 0.05" in output
    assert "One of" not in output


def test_of_predictors_that_share_one_that_is_said(capsys):
    print_joint(joint(["a[b]", "c", "d"], [0.6, 0.5, 0.01], [1.0, 0.0, 0.0], [1, 1, math.nan]))
    assert "One of a[b], c is in with probability 0.990." in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    [
        "name,inclusion\ndose,0.5\n",
        "name,inclusion,fitted,credible_set,set_inclusion\ndose,x,1,1,1\n",
        "name,inclusion,fitted,credible_set,set_inclusion\ndose,nan,1,1,1\n",
        "name,inclusion,fitted,credible_set,set_inclusion\ndose,0.5,7,1,1\n",
    ],
)
def test_a_damaged_file_is_refused(invoke, table_run, tmp_path, text):
    run = tmp_path / "run"
    shutil.copytree(table_run, run)
    (run / "joint.csv").write_text(text)
    result = invoke("summary", run)
    assert result.exit_code == 2
    assert "joint.csv" in result.output


def test_runs_of_before_have_none(table_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(table_run, run)
    (run / "joint.csv").unlink()
    assert RunFolder(run).read_joint() is None


def test_networks_without_predictor_gates_have_none(digits_run):
    assert not (digits_run / "joint.csv").exists()


def test_it_is_left_out_where_it_would_take_hours(invoke, table, tmp_path):
    """[64, 32] nodes after one epoch: thousands of weights."""
    run, wide = tmp_path / "run", ("--hidden", "64,32", "--epochs", 1, "--draws", 20)
    result = invoke("fit", table, "--target", "price", "--input-gates", *wide, "--out", run)
    assert result.exit_code == 0, result.output
    assert "joint.csv is not written" in " ".join(result.output.split())
    assert not (run / "joint.csv").exists()
    assert RunFolder(run).state is None
    assert invoke("summary", run).exit_code == 0


def test_infinite_evidence_is_read_back(table_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(table_run, run)
    header = "name,inclusion,fitted,log_bayes_factor,credible_set,set_inclusion\n"
    (run / "joint.csv").write_text(f"{header}NA,1.0,1.0,{math.inf},,\n")
    table = RunFolder(run).read_joint()
    assert list(table.index) == ["NA"]
    assert table["credible_set"].isna().all()
