"""A data set in memory, checked once on construction, and its random split."""

import dataclasses
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from pyro_ssbnn.data.splitting import split_rows
from pyro_ssbnn.data.wording import check_different, column, listed
from pyro_ssbnn.errors import DataError

Task = Literal["regression", "binary", "classification", "count"]
Names = tuple[str, ...]

LARGEST = float(np.finfo(np.float32).max)
"""Larger numbers, in their own units, are refused: they are mistakes, or want a logarithm."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Features and target of ``N`` rows, with the names that make messages and reports readable.

    Any real dtype is accepted for ``x`` and ``y``. Numbers in their own units are kept in double
    precision, because single precision has 17 values for a month of unix times; a float32 tensor
    stays one, and pixels become one. Tensors are not copied when their dtype is right already.

    :param x: ``[N, p]`` features, float64 or float32, in their own units; an image is flattened plane by plane and
        row by row: ``p = channels * height * width``.
    :param y: ``[N]`` target; float64 or float32 for "regression" (own units) and "count", float32 for "binary" (0 or
        1), int64 labels ``0..K-1`` for "classification".
    :param feature_names: ``p`` different names.
    :param target_name: name of the target, different from the features'.
    :param task: what is predicted; it decides the dtype of ``y`` and the likelihoods that fit.
    :param class_names: names in label order. Left empty they become "0".."K-1", and then every label must occur; when
        given, a class may be absent (a small test set). Empty for "regression" and "count".
    :param image_shape: ``(channels, height, width)`` for images, None for tables.
    :raises DataError: for anything that cannot be fitted or scored: shapes that do not match, NaN or infinite values,
        fewer than two rows, one class, labels outside ``0..K-1``, counts that are negative or not whole, repeated or
        miscounted names, an image shape that is not p.

    >>> x = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    >>> data = Dataset(x, torch.tensor([0, 1, 1]), ("a", "b"), "kind", "classification")
    >>> len(data), data.num_classes, data.class_names
    (3, 2, ('0', '1'))
    """

    x: Tensor
    y: Tensor
    feature_names: tuple[str, ...]
    target_name: str
    task: Task
    class_names: tuple[str, ...] = ()
    image_shape: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.task not in get_args(Task):
            raise DataError(
                f"Dataset.task: expected one of {listed(get_args(Task))}, got {self.task!r}."
            )
        _check_shapes(self.x, self.y)
        names = tuple(self.feature_names)
        _check_names(names, self.target_name, self.x.shape[1])
        x = self.x.to(torch.float32) if self.image_shape is not None else _precise(self.x)
        _check_finite_features(x, names)
        y, class_names = _checked_target(self.y, self.task, tuple(self.class_names))
        if self.image_shape is not None:
            shape = tuple(self.image_shape)
            if len(shape) != 3 or min(shape) < 1 or shape[0] * shape[1] * shape[2] != x.shape[1]:
                raise DataError(
                    f"Dataset.image_shape: expected (channels, height, width) with product p = "
                    f"{x.shape[1]}, the number of columns of x; got {shape}. Flatten each image "
                    f"with x.flatten(1), or leave image_shape None for a table."
                )
            object.__setattr__(self, "image_shape", shape)
        object.__setattr__(self, "x", x)
        object.__setattr__(self, "y", y)
        object.__setattr__(self, "feature_names", names)
        object.__setattr__(self, "class_names", class_names)

    def __len__(self) -> int:
        return self.x.shape[0]

    @property
    def num_features(self) -> int:
        """Number of columns ``p`` of ``x``."""
        return self.x.shape[1]

    @property
    def num_classes(self) -> int:
        """Number of classes ``K`` (2 for "binary"); 0 for "regression" and "count"."""
        return len(self.class_names)

    def subset(self, rows: Tensor) -> "Dataset":
        """Take some rows, in the order given.

        :param rows: ``[M]`` integer positions in ``0..N-1``, or an ``[N]`` boolean mask.
        :raises DataError: positions outside the data, or a subset that is no data set by itself (fewer than two rows,
            one class).
        """
        n = len(self)
        rows = torch.as_tensor(rows)
        mask = rows.dtype == torch.bool
        whole = not (rows.is_floating_point() or rows.is_complex())
        if rows.ndim != 1 or not whole or (mask and len(rows) != n):
            raise DataError(
                f"Dataset.subset: expected [M] integer positions or an [{n}] boolean mask, got "
                f"shape {list(rows.shape)} of {rows.dtype}."
            )
        if not mask and len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= n):
            raise DataError(
                f"Dataset.subset: expected positions in 0..{n - 1}, got "
                f"{int(rows.min())}..{int(rows.max())}. Count rows from 0."
            )
        index = rows if mask else rows.long()
        return dataclasses.replace(self, x=self.x[index], y=self.y[index])


def split(dataset: Dataset, test_fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """Shuffle the rows and cut them into a training and a test set.

    "binary" and "classification" data are stratified: both parts keep the shares of the classes.

    :param dataset: the data.
    :param test_fraction: share of the rows in the test set, strictly between 0 and 1.
    :param seed: seed of the shuffle, ``0..2**32 - 1``; the same seed gives the same split.
    :raises DataError: a fraction outside (0, 1), a part with too few rows.
    """
    labels = dataset.y.long().cpu().numpy() if dataset.num_classes else None
    train, test = split_rows(len(dataset), test_fraction, seed, classes=labels)
    return dataset.subset(torch.from_numpy(train)), dataset.subset(torch.from_numpy(test))


def _check_shapes(x: Tensor, y: Tensor) -> None:
    for name, value, rank in (("x", x, "[N, p]"), ("y", y, "[N]")):
        if not isinstance(value, Tensor):
            raise DataError(
                f"Dataset.{name}: expected a torch.Tensor {rank}, got "
                f"{type(value).__name__}. Convert it with torch.as_tensor."
            )
        if value.is_complex():
            raise DataError(f"Dataset.{name}: expected real numbers, got {value.dtype}.")
    if x.ndim != 2:
        raise DataError(
            f"Dataset.x: expected shape [N, p], got {list(x.shape)}. Use "
            f"x.unsqueeze(-1) for a single feature, x.flatten(1) for images."
        )
    if y.ndim != 1:
        raise DataError(
            f"Dataset.y: expected shape [N], got {list(y.shape)}. Use y.squeeze(-1) "
            f"for a single target column, y.argmax(-1) for one-hot labels."
        )
    if len(x) != len(y):
        raise DataError(
            f"Dataset: x and y must have the same number of rows, got {len(x)} rows "
            f"in x and {len(y)} in y."
        )
    if len(x) < 2:
        raise DataError(f"Dataset: expected at least two rows, got {len(x)}.")
    if x.shape[1] < 1:
        raise DataError("Dataset.x: expected at least one feature column, got none.")


def _check_names(names: tuple[str, ...], target: str, p: int) -> None:
    if len(names) != p:
        raise DataError(
            f"Dataset.feature_names: expected {p} names, one for each column of x, "
            f"got {len(names)}."
        )
    check_different("Dataset.feature_names", names)
    if target in names:
        raise DataError(
            f"Dataset.target_name: the target {target!r} is also among the features; "
            f"drop that column from x, it would give the answer away."
        )


def _precise(values: Tensor) -> Tensor:
    """Float32 as it comes, anything else in float64."""
    return values if values.dtype == torch.float32 else values.to(torch.float64)


def _check_finite_features(x: Tensor, names: tuple[str, ...]) -> None:
    # Squares of what fits in single precision, and their sums, cannot overflow in double precision.
    low, high = (float(end) for end in x.aminmax())  # NaN where there is one
    if low >= -LARGEST and high <= LARGEST:
        return
    row, col = (int(i) for i in (~(x.abs() <= LARGEST)).nonzero()[0])
    raise DataError(
        f"Dataset.x: expected finite values (in single precision), but {column(names, col)} is "
        f"{float(x[row, col])} at row index {row}. Drop the row or fill in the value."
    )


def _checked_target(y: Tensor, task: Task, names: tuple[str, ...]) -> tuple[Tensor, Names]:
    real = y.to(torch.float64) if y.is_floating_point() else y.long()
    bad = (~(real.abs() <= LARGEST)).nonzero()
    if len(bad):
        row = int(bad[0])
        raise DataError(
            f"Dataset.y: expected finite values (in single precision), got "
            f"{float(y[row])} at row index {row}. Drop the row or fill in the value."
        )
    if task in ("regression", "count"):
        if names:
            raise DataError(
                f"Dataset.class_names: expected none for task {task!r}, got "
                f"{listed(names)}. Leave them out, or say task='classification'."
            )
        if task == "count":
            wrong = ((real < 0) | (real != real.round())).nonzero()
            if len(wrong):
                row = int(wrong[0])
                raise DataError(
                    f"Dataset.y: task 'count' expects whole numbers 0, 1, 2, ..., got "
                    f"{float(y[row]):g} at row index {row}. Say task='regression' if "
                    f"the target is not a count."
                )
        return _precise(y), ()
    return _checked_labels(real, task, names)


def _checked_labels(y: Tensor, task: Task, names: tuple[str, ...]) -> tuple[Tensor, Names]:
    if y.is_floating_point() and bool((y != y.round()).any()):
        row = int((y != y.round()).nonzero()[0])
        raise DataError(
            f"Dataset.y: task {task!r} expects whole labels, got {float(y[row]):g} at "
            f"row index {row}. Say task='regression' if the target is a quantity."
        )
    labels = y.long()
    found = [int(label) for label in labels.unique()]
    if len(found) < 2:
        raise DataError(
            f"Dataset.y: expected at least two classes, but every row has label "
            f"{found[0]}. Add rows of another class."
        )
    check_different("Dataset.class_names", names)
    if task == "binary" and len(names) not in (0, 2):
        raise DataError(
            f"Dataset.class_names: task 'binary' expects two names, got {listed(names)}."
        )
    count = 2 if task == "binary" else len(names) or len(found)
    outside = [label for label in found if not 0 <= label < count]
    if outside:
        raise DataError(
            f"Dataset.y: {count} classes have labels 0..{count - 1}, but label {outside[0]} came "
            f"(found {listed(found)}). Renumber them: y = torch.unique(y, return_inverse=True)[1]."
        )
    names = names or tuple(str(label) for label in range(count))
    return (labels.to(torch.float32) if task == "binary" else labels), names
