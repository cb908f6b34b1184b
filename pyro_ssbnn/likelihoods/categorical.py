"""Class labels with softmax probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ssbnn.checks import check_at_least_one
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.likelihoods.base import Likelihood
from pyro_ssbnn.registry import register

__all__ = ["CategoricalLikelihood"]


@register("categorical")
@dataclass(frozen=True)
class CategoricalLikelihood(Likelihood):
    """Class labels 0..K-1 with softmax probabilities.

    :param num_classes: K, at least 2.
    """

    num_classes: int
    predicts_classes = True

    def __post_init__(self) -> None:
        check_at_least_one(type(self).__name__, num_classes=self.num_classes)
        if self.num_classes < 2:
            raise ConfigurationError(
                f"{type(self).__name__}: num_classes must be at least 2; got {self.num_classes}."
            )

    @property
    def num_outputs(self) -> int:
        """One logit a class."""
        return self.num_classes

    def distribution(self, f: Tensor, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Categorical with logits f."""
        return dist.Categorical(logits=f)

    def mean(self, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """Class probabilities, ``[..., N, K]``."""
        return f.softmax(-1)

    def as_target(self, y: Tensor, like: Tensor) -> Tensor:
        """Labels as 64-bit integers, from any integer dtype; beside weights as floating numbers.

        :raises DataError: for floating numbers without weights.
        """
        if self.weighted and y.ndim == 2:
            return super().as_target(y, like)
        if y.is_floating_point():
            raise DataError(
                f"{type(self).__name__}: y holds class labels, an integer tensor; got {y.dtype}. Use y.long()."
            )
        return y.to(like.device, torch.long)

    def _apart(self, y: Tensor) -> tuple[Tensor, Tensor | None]:
        target, weight = super()._apart(y)
        return target.long(), weight

    def check_target(self, y: Tensor) -> None:
        """Integer labels 0..K-1 with at least two classes present."""
        super().check_target(y)
        y = self.as_target(y, y)
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= self.num_classes:
            raise DataError(
                f"{type(self).__name__}: labels must be 0..{self.num_classes - 1}; found {low}..{high}."
                + (" Labels that start at one: pass y - 1." if low == 1 else "")
            )
        if low == high:
            raise DataError(f"{type(self).__name__}: all labels are {low}; two classes are needed.")
