"""Predictions of a file's rows: the same in any company and any pieces, written whole or not at all."""

import io

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_ssbnn.analysis import classification_scores
from pyro_ssbnn.cli import new_data
from pyro_ssbnn.data import Preprocessing, digits, table_pieces
from pyro_ssbnn.posterior.summary import PredictiveSummary
from pyro_ssbnn.results.predictions import RunningScores, csv_text


def predicted(invoke, *arguments):
    result = invoke("predict", *arguments)
    assert result.exit_code == 0, result.output
    return pd.read_csv(io.StringIO(result.stdout))


@pytest.mark.parametrize("network", ["full", "pruned"])
def test_a_row_is_predicted_the_same_alone_and_among_others(
    invoke, table_run, frame, tmp_path, network
):
    files = {"all": frame, "back to front": frame[::-1], "one": frame.iloc[[7]]}
    found = {}
    for name, rows in files.items():
        file = tmp_path / f"{name}.csv"
        rows.drop(columns="price").to_csv(file, index=False)
        found[name] = predicted(invoke, table_run, file, "--network", network)
    close = {"rtol": 1e-6, "atol": 0}
    for name in found:
        assert found[name].pop("row").tolist() == list(range(len(found[name])))
    pd.testing.assert_frame_equal(
        found["all"], found["back to front"][::-1].set_axis(range(80)), **close
    )
    pd.testing.assert_frame_equal(found["all"].iloc[[7]].set_axis([0]), found["one"], **close)


@pytest.fixture
def small_pieces(monkeypatch):
    """Some rows at a time, as of a file of megabytes."""
    sizes = []

    def small(source, text):
        for piece, share in table_pieces(source, text, 5_000):
            sizes.append(len(piece))
            yield piece, share

    monkeypatch.setattr(new_data, "table_pieces", small)
    monkeypatch.setattr(new_data, "ROWS", 100)
    return sizes


def test_pieces_change_neither_predictions_nor_scores(invoke, table_run, table, tmp_path, request):
    whole, pieces = tmp_path / "whole.csv", tmp_path / "pieces.csv"
    first = invoke("predict", table_run, table, "--out", whole)
    sizes = request.getfixturevalue("small_pieces")
    second = invoke("predict", table_run, table, "--out", pieces, "--progress")
    assert len(sizes) > 1
    pd.testing.assert_frame_equal(pd.read_csv(whole), pd.read_csv(pieces), rtol=1e-6)
    told = [result.output.split("Scores on")[1] for result in (first, second)]
    assert told[0] == told[1]
    assert "80 rows" in told[0]


@pytest.mark.usefixtures("small_pieces")
def test_one_class_in_a_piece_and_unknown_classes_later(invoke, digits_run, tmp_path):
    data = digits()
    rows = pd.DataFrame(data.x.numpy(), columns=list(data.feature_names))
    rows["digit"] = data.y.numpy()
    rows = rows.sort_values("digit")[::40]  # pieces of one class each
    file, out = tmp_path / "sorted.csv", tmp_path / "out.csv"
    rows.to_csv(file, index=False)
    result = invoke("predict", digits_run, file, "--out", out)
    assert "accuracy" in result.output
    assert pd.read_csv(out)["observed"].tolist() == rows["digit"].tolist()
    rows.assign(digit=[*rows["digit"][:-1], "ten"]).to_csv(file, index=False)
    result = invoke("predict", digits_run, file, "--out", out)
    assert result.exit_code == 0
    assert "No scores" in result.output
    assert "'ten'" in result.output
    assert "accuracy" not in result.output
    assert len(pd.read_csv(out)) == len(rows)


@pytest.mark.usefixtures("small_pieces")
def test_a_broken_row_far_down_leaves_no_file_and_keeps_the_older(
    invoke, table_run, frame, tmp_path
):
    file, out = tmp_path / "new.csv", tmp_path / "out.csv"
    out.write_text("older", encoding="utf-8")
    frame.drop(columns="price").assign(age=[*frame["age"][:-1], "old"]).to_csv(file, index=False)
    result = invoke("predict", table_run, file, "--out", out)
    assert result.exit_code == 2
    assert "'old' at line 81" in result.output
    assert "say --categorical age in a new fit" in result.output  # predict has no such option
    assert out.read_text(encoding="utf-8") == "older"
    assert {f.name for f in tmp_path.iterdir()} == {"new.csv", "out.csv"}


@pytest.mark.parametrize("classes", [2, 5])
def test_scores_of_pieces_are_those_of_all_rows(classes):
    p = torch.softmax(2 * torch.randn(200, classes).double(), -1)
    labels = torch.distributions.Categorical(torch.softmax(p, -1)).sample()
    chosen = p[torch.arange(200), labels]
    running = RunningScores(preprocessing_of(classes))
    for part in torch.arange(200).split(37):
        mean = p[part, 1] if classes == 2 else p[part]
        nothing = (None, None)
        running.add(
            PredictiveSummary(mean, *nothing, chosen[part].log(), *nothing, 1), labels[part]
        )
    expected = classification_scores(p[:, 1] if classes == 2 else p, labels)
    assert list(running.result()) == list(expected)
    assert running.result() == pytest.approx(expected, rel=1e-9)


def preprocessing_of(classes):
    """Of the digits 0 to ``classes`` - 1."""
    known = Preprocessing.fit(digits()).to_dict()
    names = [str(digit) for digit in range(classes)]
    task = "binary" if classes == 2 else "classification"
    return Preprocessing.from_dict({**known, "class_names": names, "task": task})


def test_text_reads_back_as_it_was():
    table = {
        "na,me": np.asarray(["a,b", 'say "so"', "two\nlines", ""], dtype=object),
        "exact": np.asarray([0.1, 1e300, -5, 7.0], dtype=object),
        "x": np.asarray([1 / 3, -1e-12, np.inf, 12345.678]),
    }
    text = csv_text(table, 9, header=True)
    back = pd.read_csv(io.StringIO(text), keep_default_na=False)
    assert back["na,me"].tolist() == table["na,me"].tolist()
    assert back["exact"].tolist() == table["exact"].tolist()
    np.testing.assert_allclose(back["x"].astype(float), table["x"], rtol=1e-8)
    assert text == csv_text(table, 9, header=True)
    assert csv_text(table, 9, header=False) == text.partition("\n")[2]
