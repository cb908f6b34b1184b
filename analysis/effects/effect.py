"""The effect of one predictor, draw by draw, and its bands."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_ssbnn.errors import ConfigurationError

__all__ = ["Array", "Effect"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Effect:
    """The effect of one predictor, draw by draw.

    :param predictor: its name; of a factor, the names of its columns.
    :param kind: "partial dependence" or "accumulated local effects".
    :param points: where it was computed, ``[G]``: numbers in the units of x, or names of levels.
    :param draws: effect of each draw on the target's scale, ``[S, G]`` (``[S, G, K]`` for classes, several targets).
    :param curves: posterior mean of each row's own curve, ``[N, G]`` (``[N, G, K]``); None unless asked for.
    :param observed: where the rows lie: numbers ``[N]``, or for levels their number of rows, ``[G]``.
    :param target: name of y.
    :param class_names: names of its classes; empty where there are none, or none are known.
    """

    predictor: str
    kind: str
    points: NDArray[np.float64] | NDArray[np.object_]
    draws: Array
    curves: Array | None
    observed: Array
    target: str = "y"
    class_names: tuple[str, ...] = ()

    @property
    def is_factor(self) -> bool:
        """Whether the values are levels."""
        return self.points.dtype == object

    def table(self, probability: float = 0.9) -> pd.DataFrame:
        """One row a value: posterior ``mean`` and central band, ``lower`` and ``upper``; for classes a row each.

        :param probability: of the band, pointwise.
        :raises ConfigurationError: for a probability outside (0, 1).
        """
        low, high = self.band(probability)
        columns = {"mean": self.draws.mean(0), "lower": low, "upper": high}
        if self.draws.ndim == 2:
            return pd.DataFrame({"value": self.points, **columns})
        classes = self.draws.shape[2]
        return pd.DataFrame(
            {
                "value": np.repeat(self.points, classes),
                "class": np.tile(self.class_names or np.arange(classes), len(self.points)),
                **{name: column.ravel() for name, column in columns.items()},
            }
        )

    def band(self, probability: float = 0.9) -> tuple[Array, Array]:
        """Lower and upper limit of the central posterior band, ``[G]`` (``[G, K]``) each."""
        if not 0 < probability < 1:
            raise ConfigurationError(
                f"Effect: the probability of a band lies strictly between 0 and 1; got {probability!r}."
            )
        low, high = np.quantile(self.draws, [(1 - probability) / 2, (1 + probability) / 2], axis=0)
        return low, high

    def centred(self) -> Effect:
        """The same with every draw's mean over the values taken off: what changes, without the level."""
        curves = self.curves
        if curves is not None:
            curves = curves - curves.mean(1, keepdims=True)
        draws = self.draws - self.draws.mean(1, keepdims=True)
        return replace(self, draws=draws, curves=curves)
