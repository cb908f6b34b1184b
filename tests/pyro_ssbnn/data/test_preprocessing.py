import dataclasses
import json

import pytest
import torch

from pyro_ssbnn.data import Dataset, FeatureScaling, Preprocessing
from pyro_ssbnn.errors import DataError

X = torch.tensor([[1.0, 10.0, 0.1], [2.0, 30.0, 0.4], [4.0, 20.0, 0.2], [8.0, 50.0, 0.9]])


@pytest.fixture
def table():
    return Dataset(X, X[:, 0] * 3 + 1, ("a", "b", "c"), "t", "regression")


@pytest.fixture
def classes():
    return Dataset(
        X, torch.tensor([0, 1, 2, 1]), ("a", "b", "c"), "t", "classification", ("x", "y", "z")
    )


def test_apply_uses_the_training_moments_on_other_data(table):
    prepared = Preprocessing.fit(table)
    train, other = prepared.apply(table), prepared.apply(table.subset(torch.tensor([0, 1])))
    assert torch.equal(other.x, train.x[:2])
    assert torch.equal(other.y, train.y[:2])
    assert torch.allclose(train.x.mean(0), torch.zeros(3), atol=1e-6)
    torch.testing.assert_close(prepared.inverse(train.y), table.y.double())
    assert torch.equal(prepared.transform(table.x), train.x)
    sd = torch.tensor([2.0])
    expected = sd.double() * table.y.double().std(correction=0)
    torch.testing.assert_close(prepared.inverse_scale(sd), expected)


def test_permuted_columns_are_put_back_in_order(table):
    prepared = Preprocessing.fit(table)
    permuted = dataclasses.replace(table, x=X[:, [2, 0, 1]], feature_names=("c", "a", "b"))
    applied = prepared.apply(permuted)
    assert applied.feature_names == ("a", "b", "c")
    assert torch.equal(applied.x, prepared.apply(table).x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"feature_names": ("a", "bb", "c")},
            r"lack 1 of the 3 columns.*: 'b'; it has 'bb' instead.*Did you mean 'bb'",
        ),
        ({"x": X[:, :2], "feature_names": ("a", "b")}, "lack 1 of the 3 columns.*'c'"),
        (
            {"x": torch.cat([X, X[:, :1]], 1), "feature_names": ("a", "b", "c", "d")},
            "columns the model was not fitted to: 'd'",
        ),
        ({"target_name": "u"}, "target 't', the new data have 'u'"),
        ({"y": torch.tensor([0, 1, 2, 3]), "task": "count"}, "task 'regression'.*'count'"),
        ({"image_shape": (1, 1, 3)}, r"image shape None.*\(1, 1, 3\)"),
    ],
)
def test_data_of_another_kind_are_refused(table, change, message):
    with pytest.raises(DataError, match=message):
        Preprocessing.fit(table).apply(dataclasses.replace(table, **change))


def test_classes_are_matched_by_name(classes):
    prepared = Preprocessing.fit(classes)
    other = dataclasses.replace(classes, y=torch.tensor([0, 1, 1, 0]), class_names=("z", "x"))
    applied = prepared.apply(other)
    assert applied.class_names == ("x", "y", "z")
    assert applied.y.tolist() == [2, 0, 0, 2]
    assert applied.y.dtype == torch.int64
    unknown = dataclasses.replace(other, class_names=("z", "w"))
    with pytest.raises(DataError, match="classes 'w' of the new data are not among"):
        prepared.apply(unknown)


@pytest.mark.parametrize("name", ["table", "classes"])
def test_json_round_trip_is_exact(name, request):
    data = request.getfixturevalue(name)
    prepared = Preprocessing.fit(data)
    again = Preprocessing.from_dict(json.loads(json.dumps(prepared.to_dict())))
    assert again.to_dict() == prepared.to_dict()
    assert torch.equal(again.apply(data).x, prepared.apply(data).x)
    assert torch.equal(again.apply(data).y, prepared.apply(data).y)
    assert again.class_names == data.class_names


def test_image_shape_survives_json_and_a_given_scaling_is_used():
    data = Dataset(
        X, torch.tensor([0, 1, 1, 0]), ("a", "b", "c"), "t", "binary", image_shape=(3, 1, 1)
    )
    prepared = Preprocessing.fit(data, FeatureScaling.pixels(data, 2.0))
    again = Preprocessing.from_dict(json.loads(json.dumps(prepared.to_dict())))
    assert again.image_shape == (3, 1, 1)
    assert torch.equal(again.apply(data).x, X / 2)
    with pytest.raises(DataError, match="have 3 features, the given scaling 2"):
        Preprocessing.fit(data, FeatureScaling.identity(2))


def test_a_damaged_dictionary_is_refused(table):
    stored = Preprocessing.fit(table).to_dict()
    del stored["task"]
    with pytest.raises(DataError, match="'task' are missing"):
        Preprocessing.from_dict(stored)
