"""Columns as predictors: what they are found to be, how they are encoded, what is left out, and what is refused."""

import datetime
import json
import math
from dataclasses import replace

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from pyro_ssbnn.data import ColumnChoice, Table, TableDescription
from pyro_ssbnn.data.column import column_of
from pyro_ssbnn.data.predictors import Factor, Number, predictor_from_dict
from pyro_ssbnn.data.target import encode_target
from pyro_ssbnn.data.wording import command_option
from pyro_ssbnn.errors import ConfigurationError, DataError

N = 30
RNG = np.random.default_rng(0)


def frame(**columns):
    base = {"age": RNG.normal(50, 10, N), "town": np.resize(["b", "a", "c"], N)}
    return pd.DataFrame({**base, **columns})


def described(extra=None, **choice):
    return TableDescription.fit(Table.of(frame(**(extra or {}))), None, ColumnChoice(**choice))


def test_numbers_are_standardised_and_levels_have_columns():
    data = frame(sex=np.resize(["f", "m"], N))
    table = Table.of(data)
    found = TableDescription.fit(table)
    assert found.names == ("age", "town", "sex")
    assert found.widths == (1, 3, 1)
    assert found.columns == ("age", "town=a", "town=b", "town=c", "sex=m")
    x = found.encode(table)
    assert x.dtype == torch.float64
    expected = (data["age"] - data["age"].mean()) / data["age"].std(ddof=0)
    np.testing.assert_allclose(x[:, 0], expected, rtol=1e-12)
    high, low = math.sqrt(1.5) * 2 / 3, -math.sqrt(1.5) / 3
    levels = [[low, high, low], [high, low, low], [low, low, high]]
    np.testing.assert_allclose(x[:3, 1:4], levels, rtol=1e-12)
    np.testing.assert_allclose(x[:, 1:4].sum(1), 0, atol=1e-12)  # equal weights are no bias
    assert x[:2, 4].tolist() == [-1, 1]


def test_every_predictor_has_mean_square_one_over_its_columns():
    data = frame(sex=np.resize(["f", "m"], N), gap=[None, *RNG.normal(size=N - 1)])
    data.loc[3, "town"] = None
    found = TableDescription.fit(table := Table.of(data))
    parts = found.encode(table).split(list(found.widths), 1)
    squares = {n: float(p.square().sum(1).mean()) for n, p in zip(found.names, parts, strict=True)}
    assert squares == pytest.approx({"age": 1, "town": 1, "sex": 1, "gap": 1})


LIBRARIES = ["pandas", "polars", "pyarrow", "mapping", "lists of words"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_agree(library):
    day = datetime.date(2024, 2, 28)
    columns = {
        "n": [1.5, None, 3.0, 4.0],
        "k": [1, 2, 2, 5],
        "t": ["u", "v", None, "u"],
        "b": [True, False, True, True],
        "d": [day + datetime.timedelta(i) for i in range(4)],
    }
    if library == "pandas":
        data = pd.DataFrame(columns)
    elif library == "polars":
        data = pytest.importorskip("polars").DataFrame(columns)
    elif library == "pyarrow":
        data = pytest.importorskip("pyarrow").table(columns)
    elif library == "mapping":
        data = columns
    else:
        data = pd.DataFrame(
            {k: ["" if v is None else str(v) for v in c] for k, c in columns.items()}
        )
        data = data.replace("", None)
    table = Table.of(data)
    found = TableDescription.fit(table)
    assert found.widths == (2, 1, 2, 1, 1)
    assert found.predictors[2] == Factor("t", ("u", "v"), True)
    assert found.predictors[3] == Factor("b", ("False", "True"))
    assert found.predictors[4].origin == "2024-02-28"
    x = found.encode(table)
    assert x[:, 1].tolist() == [0, 1, 0, 0]
    assert x[1, 0] == 0
    assert x[:, 3:5].tolist() == [[-1, 0], [1, 0], [0, 1], [-1, 0]]
    np.testing.assert_allclose(x[:, 6], (np.arange(4) - 1.5) / np.std(np.arange(4)), rtol=1e-12)


def test_arrays_and_tensors_are_tables():
    array = RNG.normal(size=(5, 2))
    for data in (array, torch.from_numpy(array), array.tolist()):
        found = TableDescription.fit(Table.of(data, names=["a", "b"]))
        assert found.names == ("a", "b")
    for data in (array[0], np.zeros((2, 2, 2)), "abc"):
        with pytest.raises(DataError, match="expected a table"):
            Table.of(data)
    with pytest.raises(DataError, match="complex numbers"):
        Table.of(array + 1j)


def test_dates_count_from_the_first_training_day_also_in_new_rows():
    days = pd.date_range("2021-03-01 12:00", periods=N, freq="D")
    found = described({"day": days})
    number = found.predictors[-1]
    assert number.origin == "2021-03-01"
    assert number.loc == pytest.approx(0.5 + (N - 1) / 2)
    for day in ("2021-03-01T12:00", pd.Timestamp("2021-03-01 12:00")):
        new = frame(day=[day] * N)
        x = found.encode(Table.of(new))[:, -1]
        np.testing.assert_allclose(x, -((N - 1) / 2) / number.scale, rtol=1e-9)
    said = described({"day": days.strftime("%d %b %Y")}, date=["day"])
    assert said.predictors[-1].origin == "2021-03-01"
    with pytest.raises(DataError, match="'day': expected dates, found 'b' at row 0"):
        described({"day": frame()["town"]}, date=["day"])


def test_missing_values_get_a_mark_under_the_same_predictor():
    values = RNG.normal(size=N)
    values[[2, 7]] = np.nan
    found = described({"gap": values})
    assert found.columns[-2:] == ("gap", "gap missing")
    x = found.encode(Table.of(frame(gap=values)))
    assert x[:, -1].nonzero().flatten().tolist() == [2, 7]
    assert x[2, -2] == 0
    # Where the training rows had none, a missing value is taken for the mean.
    new = frame(gap=values, age=[None] * N)
    assert (found.encode(Table.of(new))[:, 0] == 0).all()
    with pytest.raises(DataError, match=r"'gap' has missing values in 2 rows \(rows 2, 7\)"):
        described({"gap": values}, missing="refuse")


def test_levels_that_were_not_there_add_nothing():
    found = described()
    new = Table.of({"age": [50.0], "town": ["elsewhere"]})
    assert found.encode(new)[0, 1:].tolist() == [0, 0, 0]


def test_rare_levels_and_values_are_no_error():
    rare = ["x"] + ["y"] * (N - 1)
    found = described({"rare": rare, "few": [1.0] + [0.0] * (N - 1)})
    assert found.predictors[2] == Factor("rare", ("x", "y"))
    assert isinstance(found.predictors[3], Number)


def test_constant_columns_are_closed_and_said():
    found = described(
        {"one": 7.1, "same": "x", "rounding": np.resize([0.3, 0.1 + 0.2], N), "no": None}
    )
    assert found.names == ("age", "town")
    assert set(found.closed) == {"one", "same", "rounding", "no"}
    assert "closed, the same in all training rows: one, same, rounding" in found.notes
    assert "closed, without any value: no" in found.notes
    single = described({"pool": [None, 5.0] * (N // 2)})
    assert single.predictors[-1] == Factor("pool", ("5",), True)


def test_what_numbers_or_names_the_rows_is_left_out():
    people = [f"person {i}" for i in range(N)]
    found = described(
        {"unnamed": range(N), "id": RNG.permutation(N), "name": people, "year": range(N)}
    )
    assert found.names == ("age", "town", "year")
    assert dict(found.left_out) == {
        "unnamed": "numbers the rows",
        "id": "numbers the rows",
        "name": "a name for each row",
    }
    assert found.identifier == "unnamed"
    kept = described({"id": range(N)}, columns=["id", "age"])
    assert kept.names == ("age", "id")


def test_what_is_said_goes_before_what_is_found():
    found = described({"k": np.resize([3, 1, 2], N)}, categorical=["k"], drop=["age"])
    assert found.names == ("town", "k")
    assert found.predictors[1] == Factor("k", ("1", "2", "3"))
    few = described({"k": np.resize(["1", "2", "3+"], N)})
    assert few.predictors[-1] == Factor("k", ("1", "2", "3+"))


def test_all_problems_are_told_at_once_in_the_words_of_the_surface():
    words = [*map(str, RNG.normal(size=N - 1)), "much"]
    data = frame(dose=words, size=[np.inf, *range(N - 1)], odd=[[1]] * N)
    table = Table.of(data, name="trial")
    with pytest.raises(DataError) as told:
        TableDescription.fit(table)
    text = str(told.value)
    assert text.startswith("trial: 3 problems.")
    assert "'dose': expected numbers, found text in 1 of 30 rows, first 'much' at row 29" in text
    assert "categorical=['dose']" in text
    assert "'size' is infinite" in text
    assert "drop=['odd']" in text
    with pytest.raises(DataError, match="say --categorical dose if"):
        TableDescription.fit(replace(table, option=command_option))


@pytest.mark.parametrize(
    ("choice", "error", "message"),
    [
        (
            {"drop": ["Age"]},
            DataError,
            r"no column 'Age' \(drop=\['Age'\]\); the columns are 'age', 'town'\. Did you mean 'age'",
        ),
        ({"categorical": "age", "date": "age"}, DataError, "cannot be both"),
        ({"drop": ["age", "town"]}, DataError, "expected predictors, found none"),
        ({"missing": "guess"}, ConfigurationError, "'impute' or 'refuse'"),
    ],
)
def test_choices_that_make_no_sense_are_refused(choice, error, message):
    with pytest.raises(error, match=message):
        described(**choice)


def test_new_rows_need_the_predictors_and_no_other_column():
    found = described({"one": 1.0, "id": range(N)})
    x = found.encode(Table.of({"town": ["a"], "age": [50.0], "note": ["!"]}))
    assert x.shape == (1, 4)
    with pytest.raises(
        DataError, match=r"no column 'age', which the model needs; .*Did you mean 'Age'"
    ):
        found.encode(Table.of({"town": ["a"], "Age": [50.0]}))
    with pytest.raises(DataError, match=r"'age': expected numbers, found text in 1 of 1 rows"):
        found.encode(Table.of({"town": ["a"], "age": ["old"]}))
    with pytest.raises(DataError, match="at least one row"):
        found.encode(Table.of(frame().head(0)))


def test_the_record_is_exact_and_frames_are_not_changed():
    data = frame(day=pd.date_range("2021-03-01", periods=N), gap=[None, *range(N - 1)], id=range(N))
    before = data.copy(deep=True)
    found = TableDescription.fit(table := Table.of(data))
    again = TableDescription.from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found
    assert torch.equal(again.encode(table), found.encode(table))
    pd.testing.assert_frame_equal(data, before)
    with pytest.raises(DataError, match="not a record"):
        TableDescription.from_dict({"predictors": [{"kind": "number"}]})


def test_large_numbers_keep_their_differences():
    times = 1_700_000_000 + 8_640.0 * np.arange(N)
    x = described({"time": times}, columns=["time"]).encode(Table.of({"time": times}))[:, 0]
    expected = (np.arange(N) - (N - 1) / 2) / np.std(np.arange(N))
    np.testing.assert_allclose(x, expected, rtol=1e-9)


@pytest.mark.parametrize(
    "wrong", [{"loc": None}, {"scale": "1"}, {"name": 3}, {"kind": "factor", "levels": ["a", 1]}]
)
def test_a_stored_predictor_is_of_words_and_numbers(wrong):
    stored = {"kind": "number", "name": "a", "loc": 0.0, "scale": 1}
    assert predictor_from_dict(stored).name == "a"
    with pytest.raises(ValueError, match="expected words and numbers"):
        predictor_from_dict({**stored, **wrong})


def test_times_are_days_whatever_their_zone_and_durations_are_days():
    zone = pl.Series("t", [datetime.datetime(2021, 1, 2, 1)]).dt.replace_time_zone("Europe/Paris")
    utc = pl.Series("t", [datetime.datetime(2021, 1, 2, 0)])
    columns = [column_of(nw.from_native(v, series_only=True), "t") for v in (zone, utc)]
    days = [column.as_days()[0] for column in columns]
    assert days[0] == days[1] == (datetime.date(2021, 1, 2) - datetime.date(1970, 1, 1)).days
    span = pl.Series("s", [datetime.timedelta(days=2, hours=12), None])
    found = column_of(nw.from_native(span, series_only=True), "s")
    assert found.kind == "number"
    np.testing.assert_array_equal(found.values, [2.5, np.nan])


class TestTargets:
    def encoded(self, values, task=None, class_names=()):
        table = Table.of({"y": values})
        return encode_target(table.column("y"), task, table, class_names)

    def test_class_names_alone_say_the_task(self):
        for names, task in ((("b", "a"), "binary"), (("c", "a", "b"), "classification")):
            labels, found, _ = self.encoded(names, class_names=names)
            assert found == task
            assert labels.tolist() == list(range(len(names)))

    def test_class_names_of_a_quantity_are_refused(self):
        with pytest.raises(DataError, match="class names make no sense for task 'regression'"):
            self.encoded([0.5, 1.5], "regression", ("a", "b"))

    def test_numbers_and_words_in_one_target_are_told_by_their_rows(self):
        with pytest.raises(
            DataError, match="numbers in 2 rows and text in 1, first 'three' at row 2"
        ):
            self.encoded(["1", "2", "three"])

    def test_objects_are_no_target(self):
        with pytest.raises(DataError, match="neither numbers nor words"):
            self.encoded([[1], [2]])
