"""What a fitted model must remember of its training data: what columns are and become, target, classes, image shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_ssbnn.data.column import Column
from pyro_ssbnn.data.dataset import Dataset, Task
from pyro_ssbnn.data.description import ColumnChoice, TableDescription
from pyro_ssbnn.data.encoded import Encoded
from pyro_ssbnn.data.predictors import Number
from pyro_ssbnn.data.remarks import new_levels
from pyro_ssbnn.data.scaling import PixelScaling, TargetScaling, entries
from pyro_ssbnn.data.table import Table
from pyro_ssbnn.data.target import encode_target
from pyro_ssbnn.data.wording import Problems, listed
from pyro_ssbnn.errors import DataError

__all__ = ["Preprocessing", "target_column"]


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """What was learnt of predictors and target, from the training rows alone.

    :param features: the table's description, or the scaling of pixels.
    :param target: scaling of the target.
    :param feature_names: names of the predictors, in the order of the model's inputs; of pixels for images.
    :param target_name: name of the target.
    :param task: what is predicted.
    :param class_names: names in label order; empty for "regression" and "count".
    :param image_shape: ``(channels, height, width)`` or None.

    >>> from pyro_ssbnn.data.embedded import diabetes
    >>> data = diabetes()
    >>> prepared = Preprocessing.fit(data)
    >>> scaled = prepared.apply(data)
    >>> bool(torch.allclose(prepared.inverse(scaled.y), data.y))
    True
    """

    features: TableDescription | PixelScaling
    target: TargetScaling
    feature_names: tuple[str, ...]
    target_name: str
    task: Task
    class_names: tuple[str, ...] = ()
    image_shape: tuple[int, int, int] | None = None

    @classmethod
    def fit(
        cls,
        data: Dataset | Table,
        target: str | Column | None = None,
        task: Task | None = None,
        choice: ColumnChoice | None = None,
        *,
        pixels: PixelScaling | None = None,
        transform: str = "none",
    ) -> Preprocessing:
        """Learn from the training rows.

        :param data: a data set, which knows its target; or a table without missing targets (:func:`with_target`).
        :param target: of a table: the name of a column, or a column from elsewhere.
        :param task: of a table; None finds it (:func:`~pyro_ssbnn.data.target.encode_target`).
        :param choice: what is said of a table's columns.
        :param transform: map of a table's target before it is standardised: "log" or "yeo-johnson".
        :param pixels: scaling of images, in place of ``PixelScaling.fit``.
        :raises DataError: everything that is wrong with predictors and target, in one message.
        """
        if isinstance(data, Dataset):
            if data.image_shape is not None:
                scaling = PixelScaling.fit(data) if pixels is None else pixels
                names = data.feature_names
                own = TargetScaling.fit(data.y, data.task, data.target_name)
                return cls(
                    scaling,
                    own,
                    names,
                    data.target_name,
                    data.task,
                    data.class_names,
                    data.image_shape,
                )
            table, task = table_of(data), data.task
            column: Column | None = _target_of(data)
        else:
            table = data
            column = target if isinstance(target, Column) else None
        problems = Problems(table.name)
        if len(table) < 2:
            problems.found.append(f"expected at least two rows, found {len(table)}.")
            problems.tell()
        with problems.gathering():
            if column is None:
                column = target_column(table, str(target))
        description = TableDescription.fit(
            table, None if column is None else column.name, choice, problems
        )
        y = None
        with problems.gathering():
            if column is not None:
                known = data.class_names if isinstance(data, Dataset) else ()
                y, task, classes = encode_target(column, task, table, known)
                scaling_of_y = TargetScaling.fit(y, task, column.name, transform)
        problems.tell()
        if column is None or y is None or task is None:
            raise DataError(f"{table.name}: expected a target column.")
        return cls(description, scaling_of_y, description.names, column.name, task, classes)

    @property
    def widths(self) -> tuple[int, ...] | None:
        """Columns of each predictor; None where each is one."""
        return self.features.widths if isinstance(self.features, TableDescription) else None

    @property
    def has_gaps(self) -> bool:
        """Whether predictors of the training rows had missing values; False for images."""
        return isinstance(self.features, TableDescription) and self.features.has_gaps

    @property
    def written_columns(self) -> list[str]:
        """Columns that a piece of a file must not guess the meaning of."""
        if not isinstance(self.features, TableDescription):
            return []
        return self.features.written_columns

    @property
    def notes(self) -> list[str]:
        """What was done with columns that a user may not expect."""
        found = list(self.features.notes) if isinstance(self.features, TableDescription) else []
        g = self.target.map
        if not g.is_identity:
            power = f" of power {g.power:.3g}" if g.name == "yeo-johnson" else ""
            found.append(f"target before it is standardised: {g.name}{power}")
        return found

    def apply(self, data: Dataset | Table) -> Encoded:
        """Rows with their targets as the network sees them.

        Columns may come in any order, beside others; classes listed in another order, or without one of them, get the
        labels of the training data.

        :raises DataError: another task, target, image shape, column or class than at ``fit``.
        """
        if isinstance(data, Table):
            x, y = self.encode(data), self.encode_target(data)
            return Encoded(x, self.target.transform(y), y)
        for what, expected, found in (
            ("task", self.task, data.task),
            ("target", self.target_name, data.target_name),
            ("image shape", self.image_shape, data.image_shape),
        ):
            if expected != found:
                raise DataError(
                    f"Preprocessing.apply: the model was fitted to the {what} {expected!r}, the new data have"
                    f" {found!r}. Give data of the same kind, or fit again."
                )
        y = self._relabelled(data)
        x = self.encode(data.x if data.image_shape is not None else table_of(data))
        return Encoded(x, self.target.transform(y), y)

    def encode(self, rows: Table | Tensor) -> Tensor:
        """Columns ``[N, q]`` of the network for the rows of a table, or for pixels ``[N, p]``.

        :raises DataError: for images where a table is expected; and see :meth:`TableDescription.encode`.
        """
        if isinstance(self.features, TableDescription):
            if not isinstance(rows, Table):
                raise DataError("this model was fitted to a table, not to images.")
            return self.features.encode(rows)
        if isinstance(rows, Table):  # a column for each pixel
            pixels = tuple(Number(name, 0.0, 1.0) for name in self.feature_names)
            rows = TableDescription(pixels, missing="refuse").encode(rows)
        return self.features.encode(rows)

    def new_levels(self, table: Table) -> dict[str, set[str]]:
        """Levels of categories that the training rows did not have, by the column's name."""
        known = self.features.predictors if isinstance(self.features, TableDescription) else ()
        return new_levels(table, known)

    def encode_target(self, table: Table) -> Tensor:
        """Targets of a table's rows in their own units, ``[N]``; labels for classes.

        :raises DataError: for targets that are missing, or unlike those of the training rows.
        """
        try:
            column = target_column(table, self.target_name)
            column = column if self.class_names else column.parsed()
            y, _, _ = encode_target(column, self.task, table, self.class_names)
        except DataError as error:
            raise DataError(f"{table.name}: {error}") from error
        return y

    def row_labels(self, rows: Dataset | Table, first: int = 0) -> dict[str, NDArray[Any]]:
        """What joins predictions to the rows they are of: the identifier found in the training rows, or ``row``.

        :param first: position in the source of the first of these rows.
        :returns: ``{"row": [N]}``, counted from 0, or the identifier's column by its name.
        """
        if not isinstance(rows, Table):
            return {"row": first + np.arange(len(rows))}
        name = self.features.identifier if isinstance(self.features, TableDescription) else None
        if name in rows.names:
            words = rows.column(str(name)).words
            return {str(name): np.where(words == None, "", words)}  # noqa: E711
        return {"row": first + rows.places}

    def inverse(self, values: Tensor) -> Tensor:
        """Bring quantiles or draws of any shape to the target's own units; see :meth:`TargetScaling.inverse`."""
        return self.target.inverse(values)

    def to_dict(self) -> dict[str, Any]:
        """Give a dictionary of lists, strings and floats that JSON keeps exactly."""
        return {
            "features": self.features.to_dict(),
            "target": self.target.to_dict(),
            "feature_names": list(self.feature_names),
            "target_name": self.target_name,
            "task": self.task,
            "class_names": list(self.class_names),
            "image_shape": None if self.image_shape is None else list(self.image_shape),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Preprocessing:
        """Rebuild from ``to_dict``; DataError when an entry is missing."""
        keys = [field.name for field in fields(cls)]
        features, target, names, target_name, task, class_names, shape = entries(
            stored, "Preprocessing", *keys
        )
        kind = TableDescription if shape is None else PixelScaling
        return cls(
            kind.from_dict(features),
            TargetScaling.from_dict(target),
            tuple(names),
            target_name,
            task,
            tuple(class_names),
            None if shape is None else (shape[0], shape[1], shape[2]),
        )

    def _relabelled(self, dataset: Dataset) -> Tensor:
        """Labels ``[N]`` of the new data in the numbering of the training data."""
        if dataset.class_names == self.class_names:
            return dataset.y
        label = {name: i for i, name in enumerate(self.class_names)}
        unknown = [name for name in dataset.class_names if name not in label]
        if unknown:
            raise DataError(
                f"Preprocessing.apply: the classes {listed(unknown)} of the new data are not among those the model was"
                f" fitted to: {listed(self.class_names)}. Drop those rows, or fit again."
            )
        renumber = torch.tensor([label[name] for name in dataset.class_names])
        return renumber.to(dataset.y.device)[dataset.y.long()].to(dataset.y.dtype)


def table_of(data: Dataset) -> Table:
    """The predictors of a data set as a table."""
    return Table.of(data.x.cpu().numpy(), names=data.feature_names, name="the data set")


def _target_of(data: Dataset) -> Column:
    """The target of a data set; classes in words, so that their names come along."""
    y = data.y.cpu().numpy()
    if data.class_names:
        words = np.asarray(data.class_names, dtype=object)[y.astype(np.int64)]
        return Column(data.target_name, "text", words, written=True)
    return Column(data.target_name, "number", y.astype(np.float64))


def target_column(table: Table, target: str) -> Column:
    """The column to predict; raises :class:`DataError` when there is none of that name."""
    try:
        table.require([target], " to predict")
    except DataError as error:
        data = all(_is_number(name) for name in table.names)
        hint = " The first line looks like data, not like names." if data else ""
        raise DataError(f"{error}{hint}") from error
    return table.column(target)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
