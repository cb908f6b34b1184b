"""``pyro-ssbnn effects``: the same effects as in Python, printed, written and drawn."""

import numpy as np
import pandas as pd
import pytest

import pyro_ssbnn as ss
from pyro_ssbnn.cli.effects import _rows
from pyro_ssbnn.cli.run_folder import RunFolder
from pyro_ssbnn.cli.sources import load_again
from pyro_ssbnn.results.predictors import predictor_table


def test_the_file_has_what_python_gives(invoke, table_run, tmp_path):
    file = tmp_path / "what" / "effects.csv"
    name = RunFolder(table_run).load_answer()[1].model.description.inputs.names[0]
    told = invoke("effects", table_run, "--predictor", name, "--level", "0.8", "--out", file)
    assert told.exit_code == 0, told.output
    assert "Partial dependence" in told.output
    assert file.with_suffix(".png").stat().st_size > 5_000
    config, answer, preprocessing = RunFolder(table_run).load_answer()
    x = preprocessing.apply(load_again(config["source"], config["seed"]).train).x.float()
    effect = ss.partial_dependence(
        answer.model, answer.guide, x, name, preprocessing=preprocessing, seed=config["seed"]
    )
    found, wanted = pd.read_csv(file), effect.table(0.8)
    assert (found["predictor"] == name).all()
    for column in ("mean", "lower", "upper"):
        np.testing.assert_allclose(found[column], wanted[column], rtol=1e-5)
    assert not RunFolder(table_run).effects_file.exists()  # a run that tests only read


def test_unknown_predictors_and_endings_are_refused(invoke, table_run, tmp_path):
    told = invoke("effects", table_run, "--predictor", "shoes", "--out", tmp_path / "e.csv")
    assert told.exit_code == 2
    assert "--predictor: the network has no predictor 'shoes'" in " ".join(told.output.split())
    assert invoke("effects", table_run, "--out", tmp_path / "e.png").exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_names_that_a_spreadsheet_would_run_are_made_harmless():
    draws = np.zeros((3, 2))
    points = np.array(["=1+1", "-2"], dtype=object)
    effect = ss.Effect("@kind", "partial dependence", points, draws, None, np.ones(2))
    table = _rows([effect], 0.9)
    assert table["value"].tolist() == ["'=1+1", "-2"]
    assert set(table["predictor"]) == {"'@kind"}


@pytest.mark.parametrize("option", [(), ("--accumulated", "--interactions")])
def test_those_that_are_selected_are_shown(invoke, table_run, tmp_path, option):
    told = invoke("effects", table_run, *option, "--out", tmp_path / "e.csv")
    assert told.exit_code == 0, told.output
    assert set(pd.read_csv(tmp_path / "e.csv")["predictor"]) == {"dose", "age", "weight"}
    assert ("Accumulated local effects" in told.output) == bool(option)
    assert ("dose and age" in told.output) == bool(option)


def test_a_run_that_selects_nothing_says_so(invoke, table_run, tmp_path, monkeypatch):
    empty = predictor_table(*RunFolder(table_run).load_answer()[1:]).assign(selected=False)
    monkeypatch.setattr("pyro_ssbnn.results.predictors.predictor_table", lambda *_: empty)
    told = invoke("effects", table_run, "--out", tmp_path / "e.csv")
    assert told.exit_code == 2
    assert "no predictor is selected" in told.output
