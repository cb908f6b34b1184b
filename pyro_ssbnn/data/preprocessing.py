"""What a fitted model must remember of its training data: scalings, names, classes, image shape."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_ssbnn.data.dataset import Dataset, Task
from pyro_ssbnn.data.scaling import FeatureScaling, TargetScaling, entries
from pyro_ssbnn.data.wording import did_you_mean, listed
from pyro_ssbnn.errors import DataError


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """Both scalings with the columns and classes they were learnt on.

    :param features: scaling of the ``p`` features.
    :param target: scaling of the target.
    :param feature_names: ``p`` names, in the order of the model's inputs.
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

    features: FeatureScaling
    target: TargetScaling
    feature_names: tuple[str, ...]
    target_name: str
    task: Task
    class_names: tuple[str, ...] = ()
    image_shape: tuple[int, int, int] | None = None

    @classmethod
    def fit(cls, dataset: Dataset, features: FeatureScaling | None = None) -> "Preprocessing":
        """Learn from the training data, and from them only.

        :param dataset: the training data, in their own units.
        :param features: feature scaling to use in place of ``FeatureScaling.standardize(dataset)``.
        :raises DataError: constant columns of a table, a constant regression target, a given scaling with another
            number of features.
        """
        if features is None:
            features = FeatureScaling.standardize(dataset)
        elif len(features.loc) != dataset.num_features:
            raise DataError(
                f"Preprocessing.fit: the data have {dataset.num_features} features, "
                f"the given scaling {len(features.loc)}."
            )
        return cls(
            features,
            TargetScaling.fit(dataset),
            dataset.feature_names,
            dataset.target_name,
            dataset.task,
            dataset.class_names,
            dataset.image_shape,
        )

    def apply(self, dataset: Dataset) -> Dataset:
        """Scale other data as the training data were scaled.

        Columns in another order are put in the order seen at ``fit``; classes listed in another
        order, or without one of them, get the labels of the training data.

        :raises DataError: another task, target, image shape, column or class than at ``fit``.
        """
        for what, expected, found in (
            ("task", self.task, dataset.task),
            ("target", self.target_name, dataset.target_name),
            ("image shape", self.image_shape, dataset.image_shape),
        ):
            if expected != found:
                raise DataError(
                    f"Preprocessing.apply: the model was fitted to the {what} "
                    f"{expected!r}, the new data have {found!r}. Give data of the "
                    f"same kind, or fit again."
                )
        x = self.transform(self._ordered(dataset))
        y = self.target.transform(self._relabelled(dataset))
        return dataclasses.replace(
            dataset, x=x, y=y, feature_names=self.feature_names, class_names=self.class_names
        )

    def transform(self, x: Tensor) -> Tensor:
        """Scale features ``[..., p]`` that are in the order of ``feature_names`` already."""
        return self.features.transform(x)

    def inverse(self, mean: Tensor) -> Tensor:
        """Bring predicted means, quantiles or draws of any shape to the target's own units."""
        return self.target.inverse(mean)

    def inverse_scale(self, standard_deviation: Tensor) -> Tensor:
        """Bring predictive standard deviations of any shape to the target's own units."""
        return self.target.inverse_scale(standard_deviation)

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
    def from_dict(cls, stored: Mapping[str, Any]) -> "Preprocessing":
        """Rebuild from ``to_dict``; DataError when an entry is missing."""
        keys = [field.name for field in dataclasses.fields(cls)]
        features, target, names, target_name, task, class_names, shape = entries(
            stored, "Preprocessing", *keys
        )
        return cls(
            FeatureScaling.from_dict(features),
            TargetScaling.from_dict(target),
            tuple(names),
            target_name,
            task,
            tuple(class_names),
            None if shape is None else (shape[0], shape[1], shape[2]),
        )

    def _ordered(self, dataset: Dataset) -> Tensor:
        """Columns ``[N, p]`` of the new data in the order of the training data."""
        if dataset.feature_names == self.feature_names:
            return dataset.x
        position = {name: i for i, name in enumerate(dataset.feature_names)}
        missing = [name for name in self.feature_names if name not in position]
        known = set(self.feature_names)
        extra = [name for name in dataset.feature_names if name not in known]
        if missing:
            came = f"; it has {listed(extra)} instead" if extra else ""
            raise DataError(
                f"Preprocessing.apply: the new data lack {len(missing)} of the "
                f"{len(self.feature_names)} columns the model was fitted to: {listed(missing)}"
                f"{came}. Add or rename them.{did_you_mean(missing[0], extra)}"
            )
        if extra:
            raise DataError(
                f"Preprocessing.apply: the new data have columns the model was not "
                f"fitted to: {listed(extra)}. Drop them."
            )
        return dataset.x[:, [position[name] for name in self.feature_names]]

    def _relabelled(self, dataset: Dataset) -> Tensor:
        """Labels ``[N]`` of the new data in the numbering of the training data."""
        if dataset.class_names == self.class_names:
            return dataset.y
        label = {name: i for i, name in enumerate(self.class_names)}
        unknown = [name for name in dataset.class_names if name not in label]
        if unknown:
            raise DataError(
                f"Preprocessing.apply: the classes {listed(unknown)} of the new data "
                f"are not among those the model was fitted to: "
                f"{listed(self.class_names)}. Drop those rows, or fit again."
            )
        renumber = torch.tensor([label[name] for name in dataset.class_names])
        return renumber.to(dataset.y.device)[dataset.y.long()].to(dataset.y.dtype)
