"""Predictor selection among many: the data, the scores, the rivals, and the script from end to end."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import sklearn
import torch

import pyro_ssbnn as ss

FOLDER = Path(__file__).parents[2] / "benchmarks"
HAS_LASSO = tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 7)
needs_lasso = pytest.mark.skipif(not HAS_LASSO, reason="LassoCV(alphas=40): scikit-learn >= 1.7")


@pytest.fixture
def selection(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("selection", FOLDER / "selection.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "selection", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def data(selection):
    return sys.modules["selection_data"]


def test_predictors_correlate_at_one_half_and_noise_has_unit_variance(data):
    n = 200_000
    x, y, f = data.simulate(n, 7, predictors=6)
    # The correlation of n normal pairs has a standard error of (1 - r^2) / sqrt(n).
    correlation = torch.corrcoef(x.T)[~torch.eye(6, dtype=torch.bool)]
    torch.testing.assert_close(correlation, torch.full((30,), 0.5), rtol=0, atol=5 * 0.75 / n**0.5)
    torch.testing.assert_close(x.var(0), torch.ones(6), rtol=0, atol=5 * (2 / n) ** 0.5)
    noise = y - f
    assert float(noise.var()) == pytest.approx(1, abs=5 * (2 / n) ** 0.5)
    assert float((noise * f).mean()) == pytest.approx(0, abs=5 * float(f.std()) / n**0.5)


def test_only_the_first_five_matter(data):
    x, _, f = data.simulate(3, 0, predictors=9)
    by_hand = [
        5 * b / (1 + a * a) + 5 * math.sin(c * d) + 2 * e for a, b, c, d, e, *_ in x.tolist()
    ]
    assert f.tolist() == pytest.approx(by_hand, rel=1e-5)


def test_training_and_test_data_are_others(selection):
    data = selection.data_set(20, 3, predictors=6)
    again = selection.data_set(20, 3, predictors=6)
    assert torch.equal(data.x, again.x)
    assert torch.equal(data.y_test, again.y_test)
    assert not torch.equal(data.x, selection.data_set(20, 4, predictors=6).x)
    assert data.x_test.shape == (sys.modules["selection_data"].TEST_ROWS, 6)
    assert not (data.x_test[:20] == data.x).any()


def record(selected, error=1.0, seconds=2.0, **more):
    return {"rules": {"rule": {"selected": selected, "rmse": error}}, "seconds": seconds, **more}


def test_scores_by_hand(selection):
    """Sets {1..5}, {1, 2, 9} and nothing: 1 of 8 selected is false, 3 + 5 of 15 are missed."""
    records = [record([0, 1, 2, 3, 4]), record([0, 1, 8], 2.0, 4.0), record([], 3.0, 6.0)]
    score = selection.score(records, "rule")
    assert (score.data_sets, score.exact) == (3, 1)
    assert score.false_rate == pytest.approx(1 / 8)
    assert score.missed_rate == pytest.approx(8 / 15)
    assert (score.rmse, score.seconds) == (2.0, 4.0)
    assert score.rmse_error == pytest.approx(1 / math.sqrt(3))
    nothing = selection.score([record([])], "rule")
    assert (nothing.false_rate, nothing.missed_rate) == (0.0, 1.0)
    assert math.isnan(nothing.rmse_error)


def linear_data(selection, n=400, predictors=10):
    """y = 3 x1 - 2 x2 + noise among independent predictors."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(2 * n, predictors, generator=generator)
    y = 3 * x[:, 0] - 2 * x[:, 1] + torch.randn(2 * n, generator=generator)
    return selection.Data(x[:n], y[:n], x[n:], y[n:])


@needs_lasso
def test_the_lasso_finds_linear_effects_and_one_standard_error_keeps_fewer(selection):
    rules = selection.fit_lasso(linear_data(selection))["rules"]
    simple, best = (set(r["selected"]) for r in rules.values())
    assert list(rules) == ["one standard error", "least error"]
    assert {0, 1} <= simple <= best
    assert len(simple) < 10
    for rule in rules.values():  # noise has variance 1; shrinkage adds a little
        assert 0.9 < rule["rmse"] < 1.2


def test_the_forest_ranks_the_predictors_that_matter_first(selection):
    data = linear_data(selection, predictors=40)
    five, cut = selection.fit_forest(data, trees=20)["rules"].values()
    assert len(five["selected"]) == 5
    assert {0, 1} <= set(five["selected"])
    assert 0 in cut["selected"]
    assert set(cut["selected"]) <= {0, 1}
    assert max(five["rmse"], cut["rmse"]) < 3  # without x1 the error is 3.3 or more


def test_a_forest_of_no_predictors_predicts_the_mean(selection):
    """The largest of ten values lies at most 9 / sqrt(10) = 2.85 standard deviations above their mean: none passes."""
    data = linear_data(selection)
    cut = selection.fit_forest(data, trees=5)["rules"]["mean + 3 sd"]
    assert cut["selected"] == []
    assert cut["rmse"] == pytest.approx(selection.rmse(data.y.mean(), data.y_test))


@needs_lasso
def test_from_the_command_line_to_the_plot(selection, monkeypatch, tmp_path, capsys):
    options = {"epochs": 2, "screen": False}  # trees cost more than the fit
    small = selection.Settings([4, 3], (0.02, 0.05), {"epochs": 1}, options, trees=2)
    monkeypatch.setitem(selection.SETTINGS, 500, small)

    def few_epochs(*data, **options):  # of "defaults", whose options are none
        given = {} if len(data) > 3 else {"options": ss.TrainingOptions(epochs=2)}
        return fit(*data, **given, **options)

    fit = ss.fit
    monkeypatch.setattr(ss, "fit", few_epochs)
    out = tmp_path / "selection.json"
    arguments = ["selection.py", "--quick", "--json", str(out), "--plots", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    selection.main()
    results = json.loads(out.read_text())
    assert set(results) == {f"500/{method}/0" for method in selection.METHODS}
    ours = results["500/ss-ghs/0"]
    assert len(ours["elbo"]) == 2  # one fit a penalty
    assert ours["nodes"].keys() == {"hidden1", "hidden2"}
    assert 0 <= ours["expected_false"] <= 0.1 * 50
    assert (tmp_path / "selection.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert printed.count("| 500 |") == 12  # two rules a method

    def unexpected(*arguments):
        raise AssertionError("finished fits are not run again")

    monkeypatch.setattr(selection, "run_one", unexpected)
    selection.main()
    assert json.loads(out.read_text()) == results


def test_a_mark_for_every_data_set(selection, monkeypatch):
    import selection_plots

    results = {
        f"{n}/lasso/{seed}": record(list(range(seed)), n=n, seed=seed, method="lasso")
        for n in (500, 10_000)
        for seed in (3, 7)
    }
    figure = selection_plots.draw_selection(results)
    found, false = figure.axes
    marks = [np.sort(c.get_offsets()[:, 0]).round() for c in found.collections]
    assert [m.tolist() for m in marks] == [[3, 5], [3, 5]]
    assert [np.sort(c.get_offsets()[:, 0]).round().tolist() for c in false.collections] == [
        [0, 2],
        [0, 2],
    ]
