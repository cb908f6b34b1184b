import pandas as pd
import pytest
import torch

from pyro_ssbnn.data import from_frame, read_csv, read_predictors
from pyro_ssbnn.errors import DataError


def frame(**columns):
    base = {"age": [30, 41, 52, 63], "size": [1.5, 2.5, 3.5, 4.5], "t": [0.5, 1.5, 2.5, 3.5]}
    return pd.DataFrame({**base, **columns})


def write(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_regression_from_a_frame():
    data = from_frame(frame(), "t")
    assert data.task == "regression"
    assert data.feature_names == ("age", "size")
    assert data.x.tolist() == [[30, 1.5], [41, 2.5], [52, 3.5], [63, 4.5]]
    assert data.y.tolist() == [0.5, 1.5, 2.5, 3.5]


@pytest.mark.parametrize(
    ("values", "task", "classes", "labels"),
    [
        (["no", "yes", "no", "no"], "binary", ("no", "yes"), [0, 1, 0, 0]),
        ([True, False, True, True], "binary", ("False", "True"), [1, 0, 1, 1]),
        ([1, 0, 0, 1], "binary", ("0", "1"), [1, 0, 0, 1]),
        ([1.0, 0.0, 0.0, 1.0], "binary", ("0", "1"), [1, 0, 0, 1]),
        (["c", "a", "b ", "b"], "classification", ("a", "b", "c"), [2, 0, 1, 1]),
        (["10", "9", "9", "8"], "classification", ("10", "8", "9"), [0, 2, 2, 1]),
    ],
)
def test_task_and_labels_are_inferred(values, task, classes, labels):
    data = from_frame(frame(t=values), "t")
    assert (data.task, data.class_names) == (task, classes)
    assert data.y.tolist() == labels


def test_text_dtypes_agree():
    values = ["u", "v", "w", "u"]
    wanted = from_frame(frame(t=values), "t")
    for dtype in (object, "string", "category"):
        data = from_frame(frame(t=pd.Series(values, dtype=dtype)), "t")
        assert data.class_names == wanted.class_names
        assert torch.equal(data.y, wanted.y)


def test_nullable_and_object_numbers_are_numbers():
    columns = {
        "age": pd.Series([1, 2, 3, 4], dtype="Int64"),
        "size": pd.Series([True, False, True, True], dtype="boolean"),
        "t": pd.Series([0.5, 1.5, 2.5, 3.5], dtype=object),
    }
    data = from_frame(frame(**columns), "t")
    assert data.task == "regression"
    assert data.x.tolist() == [[1, 1], [2, 0], [3, 1], [4, 1]]


@pytest.mark.parametrize("values", [[1, 2, 3, 1], [1, 2, 1, 2], [-1, 1, 1, -1], [5, 6, 7, 8]])
def test_few_whole_numbers_are_ambiguous(values):
    with pytest.raises(DataError, match=r"leave the task open\. Say task='classification'"):
        from_frame(frame(t=values), "t")


def test_a_stated_task_resolves_the_ambiguity():
    table = frame(t=[11, 2, 3, 2])
    classified = from_frame(table, "t", task="classification")
    assert classified.class_names == ("2", "3", "11")
    assert classified.y.tolist() == [2, 0, 1, 0]
    assert from_frame(table, "t", task="count").y.tolist() == [11.0, 2.0, 3.0, 2.0]
    assert from_frame(table, "t", task="regression").task == "regression"


def test_many_whole_numbers_are_a_regression():
    table = pd.DataFrame({"a": range(30), "t": range(30)})
    assert from_frame(table, "t").task == "regression"


def test_given_class_names_fix_the_labels():
    table = frame(t=["c", "a", "c", "c"])
    data = from_frame(table, "t", class_names=("a", "b", "c"))
    assert data.task == "classification"
    assert data.y.tolist() == [2, 0, 2, 2]
    with pytest.raises(DataError, match="expected the classes 'a', 'b', found also 'c'"):
        from_frame(table, "t", class_names=("a", "b"))
    with pytest.raises(DataError, match="class names make no sense"):
        from_frame(frame(), "t", task="regression", class_names=("a", "b"))


@pytest.mark.parametrize(
    ("columns", "target", "task", "message"),
    [
        ({"age": [30, None, 52, None]}, "t", None, r"2 in 'age' \(index 1, 3\)\. Drop those rows"),
        ({"t": ["a", None, "b", "a"]}, "t", None, r"1 in 't' \(index 1\)"),
        ({"age": [1, 2, float("inf"), 4]}, "t", None, r"'age' \(1st of 2 features\) is infinite"),
        ({"age": [1, 2, 1e39, 4]}, "t", None, "too large for single precision"),
        (
            {"age": ["3", "x", "4", "5"]},
            "t",
            None,
            r"'age' .*text in 1 of 4 rows, first 'x' at index 1.*one-hot",
        ),
        ({"age": pd.Series(list("abab"), dtype="category")}, "t", None, "found category.*one-hot"),
        ({"age": pd.date_range("2020-01-01", periods=4)}, "t", None, "found datetime64.*dates"),
        ({}, "T", None, r"no target column 'T'; the columns are 'age', 'size', 't'\. Did you.*'t'"),
        ({"t": [0.5, 1.5, float("inf"), 2.5]}, "t", None, r"infinite.*\(index 2\)"),
        ({"t": ["a", "a", "a", "a"]}, "t", None, "two classes, but all 4 rows are 'a'"),
        ({"t": [3, 3, 3, 3]}, "t", "classification", "two classes, but all 4 rows are '3'"),
        ({"t": ["a", "b", "c", "a"]}, "t", "binary", "expects two classes, found 3"),
        ({"t": [0, 2, -3, 1]}, "t", "count", "task 'count' expects.*got -3 at index 2"),
        ({"t": [0, 2, 0.5, 1]}, "t", "count", "got 0.5 at index 2"),
        ({"t": ["1", "2", "x", "1"]}, "t", None, "numbers in 3 rows and text in 1, first 'x'"),
        ({"t": ["1", "2", "x", "1"]}, "t", "regression", "expects numbers, got 'x' at index 2"),
        ({"t": [0.5, 1.5, 1, 2]}, "t", "classification", "got the number 0.5 at index 0"),
        ({}, "t", "ranking", "expected task to be one of.*'ranking'"),
    ],
)
def test_a_frame_that_cannot_be_used_is_refused(columns, target, task, message):
    with pytest.raises(DataError, match=message):
        from_frame(frame(**columns), target, task=task)


def test_shape_of_the_frame_is_checked():
    with pytest.raises(DataError, match="at least two rows, found 1"):
        from_frame(frame().head(1), "t")
    with pytest.raises(DataError, match="no other column"):
        from_frame(frame()[["t"]], "t")
    with pytest.raises(DataError, match="'age' occur more than once"):
        from_frame(pd.concat([frame(), frame()[["age"]]], axis=1), "t")
    with pytest.raises(DataError, match="2 levels"):
        from_frame(pd.concat({"u": frame()}, axis=1), "t")
    with pytest.raises(DataError, match=r"survey: expected a pandas\.DataFrame, got dict"):
        from_frame({"t": [1]}, "t", name="survey")


def test_names_instead_of_classes_are_refused():
    table = pd.DataFrame({"a": range(30), "t": [f"person {i}" for i in range(30)]})
    with pytest.raises(DataError, match="30 different values in 30 rows"):
        from_frame(table, "t")


def test_the_frame_is_not_changed():
    table = frame()
    before = table.copy(deep=True)
    data = from_frame(table, "t")
    data.x.zero_()
    data.y.zero_()
    pd.testing.assert_frame_equal(table, before)


def test_csv_round_trip(tmp_path):
    path = write(tmp_path, 'age, size,"kind, of"\n30,1.5,yes\n\n41,2.5,no\n52,1e3,yes\n')
    data = read_csv(path, "kind, of")
    assert data.feature_names == ("age", "size")
    assert data.x.tolist() == [[30, 1.5], [41, 2.5], [52, 1000]]
    assert data.class_names == ("no", "yes")
    assert data.y.tolist() == [1, 0, 1]


def test_csv_messages_carry_line_numbers(tmp_path):
    path = write(tmp_path, "a,b,t\n1,2,0.5\n\n?,2,0.5\n1,x,0.25\n")
    with pytest.raises(DataError, match=r"table\.csv.* 1 in 'a' \(line 4\)"):
        read_csv(path, "t")
    path = write(tmp_path, "a,b,t\n1,2,0.5\n\n1,2,0.5\n1,x,0.25\n")
    with pytest.raises(DataError, match=r"'b'.*text in 1 of 3 rows, first 'x' at line 5"):
        read_csv(path, "t")


def test_csv_without_names_is_recognised(tmp_path):
    with pytest.raises(DataError, match="first line looks like data, not like names"):
        read_csv(write(tmp_path, "1.0,2.0\n3.0,4.0\n5.0,6.0\n"), "t")


def test_a_class_called_none_is_not_missing(tmp_path):
    data = read_csv(write(tmp_path, "a,t\n1,None\n2,mild\n3,severe\n"), "t")
    assert data.class_names == ("None", "mild", "severe")


def test_predictors_come_in_the_order_asked_for_and_the_rest_is_ignored(tmp_path):
    path = write(tmp_path, "note,b,a\nhello,1,2\n,3,4\n")
    x = read_predictors(path, ("a", "b"))
    assert x.dtype == torch.float64
    assert x.tolist() == [[2, 1], [4, 3]]
    assert torch.equal(read_predictors(pd.read_csv(path), ["a", "b"]), x)
    assert read_predictors(frame().head(1), ["size"]).tolist() == [[1.5]]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"a": [1.0], "B": [2.0]}, r"'b' is absent; the table has 'a', 'B'\. Did you mean 'B'"),
        ({"a": [1.0, None], "b": [1.0, 2.0]}, r"1 in 'a' \(index 1\)"),
        ({"a": [1.0, 2.0], "b": ["u", "v"]}, "'b'.*text in 2 of 2 rows, first 'u'"),
        ({"a": [], "b": []}, "at least one row"),
    ],
)
def test_predictors_that_cannot_be_used_are_refused(table, message):
    with pytest.raises(DataError, match=message):
        read_predictors(pd.DataFrame(table), ("a", "b"))
