import numpy as np
import pytest
import torch

from pyro_ssbnn.data import Dataset, split
from pyro_ssbnn.data.splitting import split_rows
from pyro_ssbnn.errors import DataError

X = torch.arange(8.0).reshape(4, 2)
Y = torch.tensor([0.5, 1.5, 2.5, 3.5])
LABELS = torch.tensor([0, 1, 2, 1])


def make(x=X, y=Y, names=("a", "b"), target="t", task="regression", classes=(), shape=None):
    return Dataset(x, y, names, target, task, classes, shape)


@pytest.mark.parametrize(
    ("task", "y", "dtype", "classes"),
    [
        ("regression", torch.tensor([1, 2, 3, 4]), torch.float64, ()),
        ("regression", torch.tensor([1.0, 2, 3, 4]), torch.float32, ()),
        ("count", torch.tensor([0, 7, 1, 1]), torch.float64, ()),
        ("binary", torch.tensor([True, False, True, True]), torch.float32, ("0", "1")),
        ("binary", torch.tensor([1.0, 0.0, 1.0, 1.0]), torch.float32, ("0", "1")),
        ("classification", LABELS.to(torch.uint8), torch.int64, ("0", "1", "2")),
        ("classification", LABELS.double(), torch.int64, ("0", "1", "2")),
    ],
)
def test_dtypes_and_class_names_are_those_of_the_task(task, y, dtype, classes):
    data = make(x=X.double(), y=y, task=task)
    assert data.x.dtype == torch.float64
    assert make(x=X).x is X
    assert make(x=X.double(), shape=(1, 2, 1)).x.dtype == torch.float32
    assert data.y.dtype == dtype
    assert data.y.tolist() == y.tolist()
    assert data.class_names == classes
    assert (len(data), data.num_features, data.num_classes) == (4, 2, len(classes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": X.numpy()}, r"Dataset\.x: expected a torch\.Tensor.*got ndarray.*as_tensor"),
        ({"x": X.flatten()}, r"expected shape \[N, p\], got \[8\].*unsqueeze"),
        ({"y": Y.unsqueeze(-1)}, r"expected shape \[N\], got \[4, 1\].*squeeze"),
        ({"x": X[:3]}, "same number of rows, got 3 rows in x and 4 in y"),
        ({"x": X[:1], "y": Y[:1]}, "at least two rows, got 1"),
        ({"x": X[:, :0], "names": ()}, "at least one feature column"),
        ({"x": X.to(torch.complex64)}, "real numbers, got torch.complex64"),
        ({"names": ("a",)}, "expected 2 names, one for each column of x, got 1"),
        ({"names": ("a", "a")}, "'a' occur more than once"),
        ({"target": "b"}, "target 'b' is also among the features"),
        ({"task": "ranking"}, "expected one of 'regression'.*got 'ranking'"),
        ({"classes": ("u", "v")}, "expected none for task 'regression'"),
        ({"shape": (1, 2, 2)}, r"product p = 2.*got \(1, 2, 2\)"),
        ({"shape": (2,)}, r"\(channels, height, width\)"),
    ],
)
def test_malformed_data_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        make(**change)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_located(value):
    x, y = X.clone(), Y.clone()
    x[2, 1] = value
    with pytest.raises(DataError, match=r"column 'b' \(2nd of 2\) is (nan|-?inf) at row index 2"):
        make(x=x)
    y[3] = value
    with pytest.raises(DataError, match=r"Dataset\.y: .*(nan|inf) at row index 3"):
        make(y=y)


def test_opposite_infinities_do_not_cancel_and_overflow_of_single_precision_is_seen():
    x = X.clone()
    x[0, 0], x[1, 0] = float("inf"), -float("inf")
    with pytest.raises(DataError, match="row index 0"):
        make(x=x)
    with pytest.raises(DataError, match="single precision"):
        make(x=X.double() * 1e39)
    with pytest.raises(DataError, match="single precision"):
        make(y=Y.double() * 1e39)
    assert make(x=torch.full((4, 2), 3e38)).x.max() == 3e38


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        ([1, 2, 3, 3], (), r"labels 0\.\.2, but label 3 came \(found 1, 2, 3\).*return_inverse"),
        ([0, 2, 2, 0], (), "label 2 came"),
        ([0, -1, 1, 0], ("a", "b"), "label -1"),
        ([1, 1, 1, 1], (), "at least two classes, but every row has label 1"),
        ([0.0, 0.5, 1.0, 1.0], (), "whole labels, got 0.5 at row index 1"),
        ([0, 1, 2, 2], ("a", "b"), "label 2 came"),
        ([0, 1, 1, 1], ("a", "a"), "'a' occur more than once"),
    ],
)
def test_labels_that_do_not_number_the_classes_are_refused(labels, classes, message):
    with pytest.raises(DataError, match=message):
        make(y=torch.tensor(labels), task="classification", classes=classes)


def test_binary_needs_zero_and_one_and_two_names():
    with pytest.raises(DataError, match=r"labels 0\.\.1, but label 2"):
        make(y=torch.tensor([1, 2, 1, 2]), task="binary")
    with pytest.raises(DataError, match="expects two names"):
        make(y=torch.tensor([0, 1, 1, 0]), task="binary", classes=("a", "b", "c"))


def test_a_class_may_be_absent_when_the_names_are_given():
    data = make(y=torch.tensor([0, 2, 2, 0]), task="classification", classes=("a", "b", "c"))
    assert data.num_classes == 3


@pytest.mark.parametrize("bad", [-1.0, 1.5])
def test_counts_are_whole_and_not_negative(bad):
    with pytest.raises(DataError, match=rf"task 'count' expects.*got {bad:g} at row index 2"):
        make(y=torch.tensor([0.0, 1.0, bad, 2.0]), task="count")


def test_subset_takes_positions_or_a_mask_and_keeps_the_names():
    data = make(y=LABELS, task="classification")
    by_position = data.subset(torch.tensor([3, 0]))
    by_mask = data.subset(torch.tensor([True, False, False, True]))
    assert by_position.y.tolist() == [1, 0]
    assert by_mask.y.tolist() == [0, 1]
    assert torch.equal(by_position.x, X[[3, 0]])
    assert by_position.class_names == data.class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.tensor([0, 4]), r"positions in 0\.\.3, got 0\.\.4"),
        (torch.tensor([-1, 0]), "got -1"),
        (torch.tensor([0.0, 1.0]), "integer positions"),
        (torch.tensor([True, False]), r"\[4\] boolean mask"),
        (torch.tensor([1]), "at least two rows"),
    ],
)
def test_subset_refuses_rows_that_are_not_there(rows, message):
    with pytest.raises(DataError, match=message):
        make().subset(rows)


def test_split_is_a_stratified_partition_that_the_seed_decides():
    n = 100
    y = (torch.arange(n) % 10 == 0).long()
    data = make(x=torch.arange(2.0 * n).reshape(n, 2), y=y, task="classification")
    train, test = split(data, 0.2, seed=1)
    assert (len(train), len(test)) == (80, 20)
    assert (int(train.y.sum()), int(test.y.sum())) == (8, 2)
    rows = torch.cat([train.x[:, 0], test.x[:, 0]])
    assert torch.equal(rows.sort().values, data.x[:, 0])
    assert not torch.equal(rows, data.x[:, 0])
    assert torch.equal(split(data, 0.2, seed=1)[1].x, test.x)
    assert not torch.equal(split(data, 0.2, seed=2)[1].x, test.x)


def test_split_of_a_regression_is_a_partition():
    data = make(x=torch.arange(20.0).reshape(10, 2), y=torch.arange(10.0))
    train, test = split(data, 0.3, seed=0)
    assert sorted(train.y.tolist() + test.y.tolist()) == data.y.tolist()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 5, float("nan")])
def test_split_refuses_a_fraction_outside_the_open_interval(fraction):
    with pytest.raises(DataError, match="expected 0 < test_fraction < 1"):
        split(make(), fraction, seed=0)


def test_split_explains_what_cannot_be_split():
    with pytest.raises(DataError, match=r"4 rows cannot be split.*Change the fraction"):
        split_rows(4, 0.5, 0, groups=np.zeros(4))
    with pytest.raises(DataError, match="at least two rows"):
        split(make(), 0.1, seed=0)
    with pytest.raises(DataError, match="both need a row of each of 10 classes"):
        split_rows(30, 0.2, 0, classes=np.arange(30) % 10)
    with pytest.raises(DataError, match=r"seed must lie in .* got -1"):
        split(make(), 0.5, seed=-1)
