import json

import numpy as np
import pandas as pd
import pytest
import torch

from pyro_ssbnn.data import ColumnChoice, Dataset, PixelScaling, Preprocessing, Table
from pyro_ssbnn.errors import DataError

X = torch.tensor([[1.0, 10.0, 0.1], [2.0, 30.0, 0.4], [4.0, 20.0, 0.2], [8.0, 50.0, 0.9]])


def dataset(y, task, classes=(), names=("a", "b", "c"), x=X, target="t"):
    return Dataset(x, torch.as_tensor(y), names, target, task, classes)


@pytest.fixture
def numbers():
    return dataset(X[:, 0] * 3 + 1, "regression")


@pytest.fixture
def classes():
    return dataset([0, 1, 2, 1], "classification", ("x", "y", "z"))


def test_apply_uses_the_training_moments_on_other_data(numbers):
    prepared = Preprocessing.fit(numbers)
    train, other = prepared.apply(numbers), prepared.apply(numbers.subset(torch.tensor([0, 1])))
    assert torch.equal(other.x, train.x[:2])
    assert torch.equal(other.y, train.y[:2])
    assert torch.allclose(train.x.mean(0), torch.zeros(3).double(), atol=1e-6)
    assert torch.allclose(train.x.square().mean(0), torch.ones(3).double())
    torch.testing.assert_close(prepared.inverse(train.y), numbers.y.double())


def test_columns_may_come_in_any_order_and_beside_others(numbers):
    prepared = Preprocessing.fit(numbers)
    wide = torch.cat([X[:, [2, 0, 1]], X[:, :1]], 1)
    other = dataset(numbers.y, "regression", names=("c", "a", "b", "d"), x=wide)
    assert torch.equal(prepared.apply(other).x, prepared.apply(numbers).x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("a", "bb", "c")}, "no column 'b', which the model needs.*Did you mean 'bb'"),
        ({"x": X[:, :2], "names": ("a", "b")}, "no column 'c', which the model needs"),
        ({"target": "u"}, "target 't', the new data have 'u'"),
        ({"y": [0, 1, 2, 3], "task": "count"}, "task 'regression'.*'count'"),
    ],
)
def test_data_of_another_kind_are_refused(numbers, change, message):
    other = dataset(**{"y": numbers.y, "task": "regression", **change})
    with pytest.raises(DataError, match=message):
        Preprocessing.fit(numbers).apply(other)


def test_classes_are_matched_by_name(classes):
    prepared = Preprocessing.fit(classes)
    applied = prepared.apply(dataset([0, 1, 1, 0], "classification", ("z", "x")))
    assert applied.y.tolist() == [2, 0, 0, 2]
    assert applied.y.dtype == torch.int64
    with pytest.raises(DataError, match="classes 'w' of the new data are not among"):
        prepared.apply(dataset([0, 1, 1, 0], "classification", ("z", "w")))


@pytest.mark.parametrize("name", ["numbers", "classes"])
def test_json_round_trip_is_exact(name, request):
    data = request.getfixturevalue(name)
    prepared = Preprocessing.fit(data)
    again = Preprocessing.from_dict(json.loads(json.dumps(prepared.to_dict())))
    assert again.to_dict() == prepared.to_dict()
    assert torch.equal(again.apply(data).x, prepared.apply(data).x)
    assert torch.equal(again.apply(data).y, prepared.apply(data).y)
    assert again.class_names == data.class_names


def test_images_share_one_factor_and_survive_json():
    y = torch.tensor([0, 1, 1, 0])
    data = Dataset(X, y, ("a", "b", "c"), "t", "binary", image_shape=(3, 1, 1))
    prepared = Preprocessing.fit(data, pixels=PixelScaling(2.0))
    again = Preprocessing.from_dict(json.loads(json.dumps(prepared.to_dict())))
    assert again.image_shape == (3, 1, 1)
    assert torch.equal(again.apply(data).x, X / 2)
    found = Preprocessing.fit(data).apply(data).x
    assert float(found.square().mean()) == pytest.approx(1.0)
    assert torch.equal(found == 0, X == 0)
    table = Table.of({name: X[:, i].numpy() for i, name in enumerate("cab")})
    assert again.encode(table).shape == (4, 3)
    with pytest.raises(DataError, match="fitted to a table, not to images"):
        Preprocessing.fit(dataset(X[:, 0], "regression")).encode(X)


def test_a_damaged_dictionary_is_refused(numbers):
    stored = Preprocessing.fit(numbers).to_dict()
    del stored["task"]
    with pytest.raises(DataError, match="'task' are missing"):
        Preprocessing.from_dict(stored)


def survey(**columns):
    base = {"age": [30, 41, 52, 63], "size": [1.5, 2.5, 3.5, 4.5], "t": [0.5, 1.5, 2.5, 3.5]}
    return Table.of(pd.DataFrame({**base, **columns}), name="survey")


@pytest.mark.parametrize(
    ("values", "task", "names", "labels"),
    [
        (["no", "yes", "no", "no"], "binary", ("no", "yes"), [0, 1, 0, 0]),
        ([True, False, True, True], "binary", ("False", "True"), [1, 0, 1, 1]),
        ([1, 0, 0, 1], "binary", ("0", "1"), [1, 0, 0, 1]),
        ([1.0, 0.0, 0.0, 1.0], "binary", ("0", "1"), [1, 0, 0, 1]),
        (["c", "a", "b ", "b"], "classification", ("a", "b", "c"), [2, 0, 1, 1]),
        (["10", "9", "9", "8"], "classification", ("10", "8", "9"), [0, 2, 2, 1]),
    ],
)
def test_task_and_labels_are_found(values, task, names, labels):
    for dtype in (None, "category"):
        if dtype and not isinstance(values[0], str):
            continue
        table = survey(t=pd.Series(values, dtype=dtype))
        prepared = Preprocessing.fit(table, "t")
        assert (prepared.task, prepared.class_names) == (task, names)
        assert prepared.apply(table).y.tolist() == labels


@pytest.mark.parametrize("values", [[1, 2, 3, 1], [1, 2, 1, 2], [-1, 1, 1, -1], [5, 6, 7, 8]])
def test_few_whole_numbers_are_ambiguous(values):
    with pytest.raises(DataError, match=r"leave the task open\. Say task='classification'"):
        Preprocessing.fit(survey(t=values), "t")


def test_a_stated_task_resolves_the_ambiguity():
    table = survey(t=[11, 2, 3, 2])
    classified = Preprocessing.fit(table, "t", "classification")
    assert classified.class_names == ("2", "3", "11")
    assert classified.apply(table).y.tolist() == [2, 0, 1, 0]
    assert Preprocessing.fit(table, "t", "count").apply(table).y.tolist() == [11, 2, 3, 2]
    assert Preprocessing.fit(table, "t", "regression").task == "regression"
    many = Table.of({"a": np.arange(30) ** 2, "t": range(30)})
    assert Preprocessing.fit(many, "t").task == "regression"


@pytest.mark.parametrize(
    ("columns", "target", "task", "message"),
    [
        ({"t": ["a", None, "b", "a"]}, "t", None, r"missing in 1 rows \(row 1\)"),
        ({}, "T", None, r"no column 'T' to predict; .*'age', 'size', 't'\. Did you mean 't'\?"),
        ({"t": [0.5, 1.5, float("inf"), 2.5]}, "t", None, r"infinite.*\(row 2\)"),
        ({"t": ["a", "a", "a", "a"]}, "t", None, "two classes, but all 4 rows are 'a'"),
        ({"t": [3, 3, 3, 3]}, "t", "classification", "two classes, but all 4 rows are '3'"),
        ({"t": ["a", "b", "c", "a"]}, "t", "binary", "expects two classes, found 3"),
        ({"t": [0, 2, -3, 1]}, "t", "count", "task 'count' expects.*got -3 at row 2"),
        ({"t": [0, 2, 0.5, 1]}, "t", "count", "got 0.5 at row 2"),
        ({"t": ["1", "2", "x", "1"]}, "t", None, "numbers in 3 rows and text in 1, first 'x'"),
        ({"t": ["1", "2", "x", "1"]}, "t", "regression", "expects numbers, got 'x' at row 2"),
        ({"t": [0.5, 1.5, 1, 2]}, "t", "classification", "got the number 0.5 at row 0"),
        ({"t": [2.5] * 4}, "t", None, r"'t' is constant, it equals 2\.5 in all 4"),
        ({}, "t", "ranking", "expected task to be one of.*'ranking'"),
    ],
)
def test_a_target_that_cannot_be_used_is_refused(columns, target, task, message):
    with pytest.raises(DataError, match=message):
        Preprocessing.fit(survey(**columns), target, task)


def test_shape_and_names_are_checked():
    frame = pd.DataFrame({"a": [1.0, 2.0], "t": [0.5, 1.5]})
    new = Table.of(frame[["a"]], name="new.csv")
    with pytest.raises(
        DataError, match=r"new\.csv: there is no column 't' to predict; the columns are"
    ):
        Preprocessing.fit(Table.of(frame), "t", "regression").encode_target(new)
    with pytest.raises(DataError, match="at least two rows, found 1"):
        Preprocessing.fit(Table.of(frame.head(1)), "t")
    with pytest.raises(DataError, match=r"beside the target 't', found none \(no other column\)"):
        Preprocessing.fit(Table.of(frame[["t"]]), "t")
    with pytest.raises(DataError, match="'a' occur more than once"):
        Table.of(pd.concat([frame, frame[["a"]]], axis=1))
    with pytest.raises(DataError, match="2 levels"):
        Table.of(pd.concat({"u": frame}, axis=1))
    with pytest.raises(DataError, match="first line looks like data"):
        Preprocessing.fit(Table.of({"1.0": [3.0, 5.0], "2.0": [4.0, 6.0]}), "t")


def test_problems_of_predictors_and_target_are_told_together():
    table = survey(age=["3", *map(str, range(2)), "x"], size=[1, np.inf, 2, 3], t=["a"] * 4)
    with pytest.raises(
        DataError, match=r"survey: 2 problems\.\n  1\. column 'size'.*\n  2\. target"
    ):
        Preprocessing.fit(table, "t")


def test_rows_without_a_target_are_left_out_and_counted():
    table, unknown = survey(t=[0.5, None, 2.5, None]).with_target("t")
    assert (len(table), unknown) == (2, 2)
    assert table.places.tolist() == [0, 2]
    prepared = Preprocessing.fit(table, "t", choice=ColumnChoice(drop=["size"]))
    assert prepared.feature_names == ("age",)
    assert prepared.row_labels(table) == {"row": pytest.approx([0, 2])}


def test_labels_join_predictions_to_rows():
    table = Table.of({"id": list("wxyz"), "a": [1.0, 2, 3, 4], "t": [0.5, 1.5, 2.5, 4.5]})
    prepared = Preprocessing.fit(table, "t")
    assert prepared.row_labels(table)["id"].tolist() == list("wxyz")
    assert prepared.row_labels(Table.of({"a": [1.0, 2.0]}), 10)["row"].tolist() == [10, 11]
