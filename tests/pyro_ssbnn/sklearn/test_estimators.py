"""Estimators: frames as they are, own units, selection, files, and scikit-learn's tools around them."""

import pickle
import re
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

import pyro_ssbnn as ss
from pyro_ssbnn.errors import CheckpointError, ConfigurationError, DataError, DataWarning
from pyro_ssbnn.sklearn import SparseBNNClassifier, SparseBNNRegressor, fitted

pytestmark = pytest.mark.filterwarnings("ignore:collapse:pyro_ssbnn.errors.CollapseWarning")

N = 80


@pytest.fixture(scope="module")
def frame():
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "dose": np.where(np.arange(N) % 9, generator.normal(5, 2, N), np.nan),
            "town": generator.choice(["a", "b", "c"], N),
            "day": pd.date_range("2021-01-01", periods=N),
            "unit": "mm",
            "id": np.arange(N),
        }
    )


@pytest.fixture(scope="module")
def target(frame):
    return 1e4 + 500 * frame["dose"].fillna(8).to_numpy() + 800 * (frame["town"] == "b")


@pytest.fixture(scope="module")
def regressor(frame, target, quick):
    return SparseBNNRegressor(**quick).fit(frame, target)


@pytest.fixture(scope="module")
def classifier(frame, target, quick):
    return SparseBNNClassifier(**quick).fit(
        frame, np.where(target > np.median(target), "ill", "ok")
    )


def test_a_raw_frame_is_fitted_in_its_own_units(regressor, frame, target):
    mean, sd, quantiles = regressor.predict(frame, return_std=True, quantiles=(0.05, 0.5, 0.95))
    assert mean.shape == sd.shape == (N,)
    assert quantiles.shape == (3, N)
    assert (np.diff(quantiles, axis=0) > 0).all()
    assert regressor.score(frame, target) > 0.3
    assert 1 < (quantiles[2] - quantiles[0]).mean() / sd.mean() < 6
    draws = regressor.sample_posterior(frame, 200)
    assert draws.shape == (200, N)
    assert abs(draws.mean() - mean.mean()) < 0.2 * target.std()


def test_one_row_a_column_with_what_was_done(regressor, frame):
    table = regressor.inclusion_
    assert list(table.index) == ["dose", "town", "day", "unit", "id"]
    assert table.loc[["unit", "id"], "inclusion"].tolist() == [0, 0]
    assert table.loc["unit", "note"] == "the same in all training rows"
    assert table.loc["id", "note"] == "numbers the rows"
    support = regressor.get_support()
    assert support.tolist() == table["selected"].tolist()
    assert list(regressor.get_feature_names_out()) == list(frame.columns[support])
    chosen = clone(regressor).set_output(transform="pandas").fit_transform(frame, range(N))
    assert isinstance(chosen, pd.DataFrame)


def test_linear_terms_have_gates_of_their_own(frame, target, quick):
    model = SparseBNNRegressor(**quick).fit(frame, target)
    table = model.inclusion_
    plain = SparseBNNRegressor(linear=False, **quick).fit(frame, target).inclusion_
    assert "linear" not in plain
    np.testing.assert_allclose(table["prior_inclusion"].dropna(), plain["prior_inclusion"].dropna())
    assert {"linear", "nonlinear", "effect"} <= set(table.columns)
    inside = table[table["note"] == ""]
    either = 1 - (1 - inside["linear"]) * (1 - inside["nonlinear"])
    np.testing.assert_allclose(inside["inclusion"], either, rtol=1e-5)
    assert model.results().pruning.loc["input", "nodes"] == 3


@pytest.mark.parametrize(("rows", "widths"), [(1_999, [32]), (2_000, [64, 32])])
def test_default_widths_go_by_the_rows(quick, rows, widths):
    x = np.random.default_rng(0).normal(size=(rows, 2))
    model = SparseBNNRegressor(**{**quick, "hidden": None, "epochs": 1}).fit(x, 2 * x[:, 0])
    groups = model.result_.model.description.groups
    assert [group.size for group in groups if group.name.startswith("hidden")] == widths


def test_effects_are_in_own_units_by_level(regressor, frame, target):
    effect = regressor.effect(frame, "town", num_draws=20)
    assert list(effect.points) == ["a", "b", "c"]
    assert effect.observed.tolist() == frame["town"].value_counts()[["a", "b", "c"]].tolist()
    moved = frame.assign(town="b")
    ensemble = regressor.predict(moved).mean()
    assert effect.draws.mean(0)[1] == pytest.approx(ensemble, rel=0.02)
    dose = regressor.effect(frame, "dose", num_points=5, num_draws=20)
    assert dose.points[0] == pytest.approx(frame["dose"].min())
    assert dose.points[-1] == pytest.approx(frame["dose"].max())
    assert 5e3 < dose.draws.mean() < 3e4
    day = regressor.effect(frame, "day", num_points=3, num_draws=5)
    assert day.predictor == "day (days since 2021-01-01)"
    np.testing.assert_allclose(day.points, [0, 39, 79], atol=1)


def test_a_transformed_target_comes_back(frame, target, tmp_path, quick):
    skewed = np.exp(target / 1e4)
    model = SparseBNNRegressor(transform_target="log", **quick).fit(frame, skewed)
    mean, sd, quantiles = model.predict(frame, return_std=True, quantiles=(0.05, 0.5, 0.95))
    draws = model.sample_posterior(frame, 2000)
    error = draws.std(0) / np.sqrt(2000) + sd / np.sqrt(model.num_draws)
    assert (np.abs(draws.mean(0) - mean) < 5 * error).all()
    assert (quantiles > 0).all()
    inside = (draws <= quantiles[2]).mean()
    assert inside == pytest.approx(0.95, abs=0.03)
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(type(model).load(tmp_path / "model").predict(frame), mean)
    effect = model.effect(frame, "dose", num_draws=20)
    assert skewed.min() / 2 < effect.draws.mean() < 2 * skewed.max()
    with pytest.raises(ConfigurationError, match="log goes with Gaussian"):
        model.set_params(likelihood="student-t").fit(frame, skewed)


def test_densities_are_of_the_own_unit(regressor, frame, target):
    """A density per thousandth of the unit is a thousandth of it."""
    small = clone(regressor).fit(frame, target / 1000)
    difference = small.log_density(frame, target / 1000) - regressor.log_density(frame, target)
    np.testing.assert_allclose(difference, np.log(1000), rtol=1e-5)


def test_refits_are_identical_and_leave_everything_as_it_was(
    regressor, frame, target, process_unchanged
):
    with process_unchanged():
        again = clone(regressor).fit(frame, target)
        np.testing.assert_array_equal(again.predict(frame), regressor.predict(frame))
    other = clone(regressor).set_params(random_state=1).fit(frame, target)
    assert not np.array_equal(other.predict(frame), regressor.predict(frame))


def test_a_rows_prediction_is_the_same_in_any_company(regressor, frame):
    whole = regressor.predict(frame)
    np.testing.assert_allclose(regressor.predict(frame[::-1])[::-1], whole, rtol=1e-12)
    np.testing.assert_allclose(regressor.predict(frame[7:8]), whole[7:8], rtol=1e-12)


def test_classes_of_any_kind(classifier, frame, quick):
    p = classifier.predict_proba(frame)
    assert classifier.classes_.tolist() == ["ill", "ok"]
    np.testing.assert_allclose(p.sum(1), 1)
    assert (classifier.predict(frame) == classifier.classes_[p.argmax(1)]).all()
    chosen = np.log(p[np.arange(N), (classifier.predict(frame) == "ok").astype(int)])
    found = classifier.log_density(frame, classifier.predict(frame))
    np.testing.assert_allclose(found, chosen, atol=1e-12)  # logarithms of almost 1
    assert set(np.unique(classifier.sample_posterior(frame, 5))) <= {"ill", "ok"}
    three = SparseBNNClassifier(**quick).fit(frame, np.resize([10, 9, 2], N))
    assert three.classes_.tolist() == [2, 9, 10]
    assert three.predict_proba(frame).shape == (N, 3)


@pytest.mark.parametrize("name", ["regressor", "classifier"])
def test_saved_pickled_and_loaded_it_predicts_the_same(request, frame, tmp_path, name):
    estimator = request.getfixturevalue(name)
    predict = "predict_proba" if name == "classifier" else "predict"
    expected = getattr(estimator, predict)(frame)
    estimator.save(tmp_path / "model")
    assert {f.suffix for f in (tmp_path / "model").iterdir()} == {".safetensors", ".json"}
    for again in (type(estimator).load(tmp_path / "model"), pickle.loads(pickle.dumps(estimator))):
        np.testing.assert_array_equal(getattr(again, predict)(frame), expected)
        assert again.get_params() == estimator.get_params()
        pd.testing.assert_frame_equal(again.inclusion_, estimator.inclusion_)
    other = SparseBNNRegressor if name == "classifier" else SparseBNNClassifier
    with pytest.raises(CheckpointError, match=f"holds a {type(estimator).__name__}, not a"):
        other.load(tmp_path / "model")
    with pytest.raises(CheckpointError, match="holds no estimator"):
        other.load(tmp_path)


@pytest.mark.filterwarnings("ignore:the fit of seed .*collapse:pyro_ssbnn.errors.CollapseWarning")
def test_several_fits_are_one_estimator(frame, target, tmp_path, quick):
    estimator = SparseBNNRegressor(**{**quick, "epochs": 2}, fits=2).fit(frame, target)
    mixture = estimator.result_
    assert [one.options.seed for one in mixture.fits] == [0, 1]
    mean, sd = estimator.predict(frame, return_std=True)
    assert mean.shape == sd.shape == (N,)
    low, high = (estimator.inclusion_[name] for name in ("lowest", "highest"))
    found = estimator.inclusion_["inclusion"]
    assert ((low <= found + 1e-9) & (found <= high + 1e-9)).loc[["dose", "town", "day"]].all()
    estimator.save(tmp_path / "model")
    for again in (
        SparseBNNRegressor.load(tmp_path / "model"),
        pickle.loads(pickle.dumps(estimator)),
    ):
        np.testing.assert_array_equal(again.predict(frame), mean)
        assert again.result_.weights == mixture.weights
    estimator.report(tmp_path / "report.html", frame, target, checks=False)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<th>lowest" in page or ">lowest<" in page


def test_objects_as_parameters_are_saved_too(frame, target, tmp_path):
    options = ss.TrainingOptions(compile=False, batch_size=40, num_particles=1)
    estimator = SparseBNNRegressor(
        hidden=(3,),
        prior=ss.SSIG(inclusion=0.2),
        likelihood=ss.StudentTLikelihood(),
        epochs=2,
        options=options,
        num_draws=3,
    ).fit(frame, target)
    estimator.save(tmp_path / "model")
    again = SparseBNNRegressor.load(tmp_path / "model")
    assert again.prior == ss.SSIG(inclusion=0.2)
    assert again.likelihood == ss.StudentTLikelihood()
    assert again.options == options


@pytest.mark.parametrize("likelihood", ["count", "poisson", "negative-binomial", "heteroscedastic"])
def test_likelihoods_by_name(frame, likelihood, quick):
    y = np.random.default_rng(3).poisson(3, N)
    model = SparseBNNRegressor(likelihood=likelihood, **{**quick, "epochs": 3}).fit(frame, y)
    assert model.predict(frame).shape == (N,)
    if likelihood != "heteroscedastic":
        assert (model.predict(frame) > 0).all()
        assert (model.sample_posterior(frame, 3) % 1 == 0).all()


@pytest.mark.parametrize(("name", "outputs"), [("gaussian", 1), ("heteroscedastic", 2)])
def test_weights_count_rows_in_the_bound(frame, target, quick, name, outputs):
    """A row of weight two adds to the bound, in expectation and at any draw, what the row given twice does."""
    weights, chosen = np.resize([2.0, 1.0, 0.0], N), {**quick, "epochs": 2, "likelihood": name}
    model = SparseBNNRegressor(**chosen).fit(frame, target, sample_weight=weights)
    likelihood, x = model.result_.model.likelihood, torch.randn(N, outputs, dtype=torch.float64)
    assert likelihood.weighted
    y = torch.from_numpy(np.column_stack([np.linspace(-1, 1, N), weights]))
    latents = {"noise.variance": torch.tensor(0.3, dtype=torch.float64)}
    f, single, weight = likelihood.unpacked(x, y)
    counted = (likelihood.distribution(f, latents).log_prob(single) * weight).sum()
    rows = torch.arange(N).repeat_interleave(torch.from_numpy(weights).long())
    repeated = likelihood.distribution(f[rows], latents).log_prob(single[rows]).sum()
    torch.testing.assert_close(counted, repeated)
    with pytest.raises(ValueError, match="Negative"):
        SparseBNNRegressor(**quick).fit(frame, target, sample_weight=-weights)


def test_noise_is_of_one_variance_where_no_predictor_has_gaps(frame, target, quick):
    """Where one has, y spreads more without it; a linear network cannot say so, and what is asked for stays."""
    gaps, short = frame.copy(), {**quick, "epochs": 2}
    gaps.loc[3, "age"] = np.nan
    whole = frame.fillna({c: frame[c].mode()[0] for c in frame})

    def noise(table, **options):
        return (
            SparseBNNRegressor(**{**short, **options})
            .fit(table, target)
            .result_.model.likelihood.name
        )

    assert (noise(whole), noise(gaps)) == ("gaussian", "heteroscedastic")
    assert noise(gaps, likelihood="gaussian") == noise(gaps, hidden=()) == "gaussian"


def test_a_factor_without_effect_is_no_second_bias():
    """Columns of 0 and 1 add up to 1: with them it was selected, at inclusion 1."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=200), "town": rng.choice(["x", "y", "z"], 200)})
    y = np.sin(2 * table["a"]) + 2 + 0.3 * rng.normal(size=200)
    model = SparseBNNRegressor(hidden=(8,), epochs=400).fit(table, y)
    assert model.inclusion_["selected"].tolist() == [True, False]


def test_checks_are_given_the_weights_again(frame, target, quick, monkeypatch):
    weights = np.resize([2.0, 1.0, 0.5], N)
    model = SparseBNNRegressor(**{**quick, "epochs": 2}).fit(frame, target, sample_weight=weights)
    with pytest.raises(ConfigurationError, match="weights that the rows were fitted with"):
        model.results(frame, target)
    # So is the law of the predictors, whose inclusion the results have from the checks.
    law = model.predictor_law(frame, target, sample_weight=weights).summary()["inclusion"]
    joint = model.results(frame, target, sample_weight=weights).joint["inclusion"]
    pd.testing.assert_series_equal(joint, law, check_names=False)
    with pytest.raises(DataError, match="with weights y must be"):
        model.predictor_law(frame, target)
    seen = {}

    def told(result, x, y, **options):
        seen.update(options, y=y)
        return ss.Report(())

    monkeypatch.setattr(fitted, "diagnose", told)
    held_out = frame[:9], target[:9]
    found = model.results(frame, target, held_out=held_out, sample_weight=weights)
    result = model.result_
    result.model.likelihood.check_data(seen["y"])
    np.testing.assert_array_equal(seen["y"], np.column_stack([found.train.y, weights]))
    np.testing.assert_array_equal(seen["held_out"][1], np.column_stack([found.test.y, np.ones(9)]))
    assert found.joint is None


@pytest.mark.parametrize(
    "ask",
    [
        lambda model, frame: model.sample_posterior(frame),
        lambda model, frame: model.effect(frame, "dose"),
        lambda model, frame: model.predict(frame),
    ],
)
def test_what_is_not_fitted_says_so(frame, ask):
    with pytest.raises(NotFittedError):
        ask(SparseBNNRegressor(), frame)


def test_places_of_columns_outside_the_table(regressor, frame, target, quick):
    with pytest.raises(ConfigurationError, match="no column 5; X has 5, counted from 0"):
        SparseBNNRegressor(categorical=(5,), **quick).fit(frame, target)
    with pytest.raises(ConfigurationError, match="no column -1"):
        regressor.effect(frame, -1)


def test_tools_of_scikit_learn(frame, target, quick):
    quick = {**quick, "epochs": 3, "num_draws": 5}
    numbers = frame[["dose"]].fillna(0)
    piped = make_pipeline(
        make_column_transformer((StandardScaler(), ["dose"])), SparseBNNRegressor(**quick)
    )
    assert piped.fit(numbers, target).predict(numbers).shape == (N,)
    search = GridSearchCV(
        SparseBNNRegressor(**quick), {"prior": ["ss-ig", ss.SSGL(inclusion=0.3)]}, cv=2
    )
    search.fit(frame, target)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    importance = permutation_importance(search.best_estimator_, frame, target, n_repeats=1)
    assert importance["importances_mean"].shape == (5,)
    assert importance["importances_mean"][-1] == 0  # the identifier is not in the network


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_other_frames(regressor, frame, target, library):
    package = pytest.importorskip(library)
    other = package.from_pandas(frame) if library == "polars" else package.Table.from_pandas(frame)
    np.testing.assert_allclose(regressor.predict(other), regressor.predict(frame), rtol=1e-9)


def test_new_levels_are_the_mean_of_the_levels_and_said(regressor, frame):
    new = frame.assign(town=["x", "y", *["z"] * (N - 2)])
    with pytest.warns(DataWarning, match=r"X: .* \(column 'town': 'x', 'y', 'z'\)") as told:
        x = regressor._encoded(new)
    assert len(told) == 1
    places = [regressor.preprocessing_.features.columns.index(f"town={c}") for c in "abc"]
    levels = regressor._encoded(pd.concat([frame.assign(town=c).head(1) for c in "abc"]))
    torch.testing.assert_close(x[0, places], levels[:, places].mean(0))


def test_a_copy_of_the_target_and_a_category_by_hand_are_said(frame, target, quick):
    ill = np.where(target > np.median(target), "ill", "ok")
    coded = pd.get_dummies(frame["town"], prefix="town", dtype=float)
    table = pd.concat([frame[["dose"]], coded], axis=1).assign(price=target, state=ill)
    quick = {**quick, "epochs": 2}
    second_bias = r"X: the columns 'town_a', 'town_b', 'town_c' are 0 or 1 and add up to 1"
    for estimator, y, name in (
        (SparseBNNRegressor(**quick), target, "price"),
        (SparseBNNClassifier(**quick), ill, "state"),
    ):
        with pytest.warns(DataWarning) as warned:
            estimator.fit(table, y)
        copy, bias = (str(w.message) for w in warned if w.category is DataWarning)
        assert f"X: the target 'y' equals '{name}' in every training row" in copy
        assert re.match(second_bias, bias)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_new_rows_need_no_column_that_was_left_out(regressor, frame, library):
    """``unit`` is the same in all rows, ``id`` numbers them: neither is in the network."""
    whole = regressor.predict(frame)
    for absent in (["unit"], ["id"], ["unit", "id"]):
        rows = frame.drop(columns=absent)
        rows = rows if library == "pandas" else pl.from_pandas(rows)
        np.testing.assert_array_equal(regressor.predict(rows), whole)
    for wrong in (frame.drop(columns="dose"), frame[frame.columns[::-1]], frame.assign(new=1)):
        with pytest.raises(ValueError, match="feature names should match"):
            regressor.predict(wrong)


def test_what_makes_no_sense_is_refused(frame, target, quick):
    for options, message in (
        ({"likelihood": "categorical"}, "categorical|num_classes"),
        ({"likelihood": "bernoulli"}, "Classes have"),
        ({"likelihood": "weibull"}, "times and several targets"),
        ({"prior": ss.SSIG(), "inclusion": 0.1}, "name of a prior"),
        ({"select_predictors": False, "predictor_inclusion": 0.1}, "select_predictors=True"),
        ({"missing": "guess"}, "'impute' or 'refuse'"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            SparseBNNRegressor(**quick, **options).fit(frame, target)
    with pytest.raises(DataError, match=r"X: 2 problems\.\n.*'dose'.*\n.*'y' is constant"):
        SparseBNNRegressor(missing="refuse", **quick).fit(frame, np.ones(N))
    with pytest.raises(DataError, match="one class 'a'"):
        SparseBNNClassifier(**quick).fit(frame, ["a"] * N)
    with pytest.raises(ConfigurationError, match="one of classes"):
        SparseBNNClassifier(likelihood="gaussian", **quick).fit(frame, target > 12_000)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda x, y: DataLoader(TensorDataset(x, y)), "a DataLoader is read in pieces"),
        (lambda x, y: TensorDataset(x, y), "a TensorDataset is read in pieces"),
        (lambda x, y: ss.rows.ArraySource(x, y), "an? ArraySource is read in pieces"),
        (lambda x, y: ss.data.TableStream.__new__(ss.data.TableStream), "a TableStream is read"),
        (lambda x, y: "folder/*.parquet", "'folder/\\*.parquet' names a file"),
        (lambda x, y: [Path("a.parquet"), Path("b.parquet")], "'a.parquet' names a file"),
        (lambda x, y: pl.LazyFrame({"a": [1.0, 2.0]}), "a LazyFrame of polars has not been read"),
    ],
)
def test_what_is_read_in_pieces_is_refused_with_the_way_to_go(make, words, regressor):
    x, y = torch.randn(4, 2), torch.randn(4)
    given = make(x, y)
    for call in (SparseBNNRegressor().fit, SparseBNNClassifier().fit, regressor.predict):
        with pytest.raises(DataError, match=words) as raised:
            call(given)
        assert "TableStream(files, target=...)" in str(raised.value)
        assert "pyro_ssbnn.fit(network, rows)" in str(raised.value)


def test_predictions_piece_by_piece_are_those_of_the_whole(regressor, frame):
    """As rows that do not fit in memory would be predicted."""
    whole = regressor.predict(frame)
    pieces = [regressor.predict(frame.iloc[at : at + 30]) for at in range(0, N, 30)]
    np.testing.assert_allclose(np.concatenate(pieces), whole, rtol=1e-12)


def test_a_memory_mapped_array_is_read(tmp_path, quick):
    x = np.random.default_rng(0).normal(size=(40, 3))
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    fits = [SparseBNNRegressor(**quick).fit(values, 2 * x[:, 0]) for values in (mapped, x)]
    np.testing.assert_array_equal(*(fit.predict(x) for fit in fits))


class TestSeedsAndTargets:
    X = np.random.default_rng(0).normal(size=(40, 2))

    def test_a_random_state_is_a_seed(self):
        """Two generators in the same state give the same fit; one that has gone on gives another."""
        generator = np.random.RandomState(3)
        seeds = [np.random.RandomState(3), generator, generator]
        means = [
            SparseBNNRegressor(epochs=2, random_state=seed)
            .fit(self.X, 2 * self.X[:, 0])
            .predict(self.X)
            for seed in seeds
        ]
        assert (means[0] == means[1]).all()
        assert (means[1] != means[2]).any()

    def test_no_target_is_told(self):
        for kind in (SparseBNNRegressor, SparseBNNClassifier):
            with pytest.raises(ValueError, match="requires y to be passed"):
                kind(epochs=1).fit(self.X)

    def test_grades_have_cuts(self):
        grades = np.digitize(self.X[:, 0], [-0.5, 0.5])
        found = SparseBNNClassifier(epochs=2, likelihood="ordinal").fit(self.X, grades)
        assert type(found.result_.model.likelihood) is ss.OrdinalLikelihood
        np.testing.assert_allclose(found.predict_proba(self.X).sum(1), 1, rtol=1e-6)


def test_predictors_are_weighed_jointly_by_the_rows_given_again(regressor, frame, target):
    law = regressor.predictor_law(frame, target)
    names = law.description.inputs.names
    table = law.summary()
    assert set(names) <= set(regressor.inclusion_.index)
    assert table["fitted"].to_numpy() == pytest.approx(
        regressor.inclusion_.loc[list(names), "inclusion"].to_numpy()
    )
    with pytest.raises(ConfigurationError, match="the fit was to 80 rows, x has 40"):
        regressor.predictor_law(frame[:40], target[:40])
