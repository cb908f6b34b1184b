"""The examples run, and find what was planted."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
def test_sparse_regression_finds_its_three_predictors(capsys):
    names = runpy.run_path(str(EXAMPLES / "sparse_regression.py"))
    table = names["table"]
    chosen = table[(table["group"] == "input") & table["selected"]].index.tolist()
    assert chosen == ["x1", "x4", "x8"]
    assert names["prediction"].shape == (500, 1)
    assert names["pruning"].report.loc["total", "nodes_kept"] < 33
    assert "inclusion" in capsys.readouterr().out
