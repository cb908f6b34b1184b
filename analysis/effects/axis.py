"""The values a predictor is set to: points of a number, levels of a factor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_ssbnn.analysis.effects.effect import Array, Effect
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.structure.network import Network

__all__ = ["Axis", "Predictor", "axis_of", "ordered", "places", "steps"]

Predictor = int | str | Sequence[int | str]
"""A predictor by its place or name, or a factor by those of its columns."""

MOST_LEVELS = 50
"""Of a factor."""


@dataclass(frozen=True, eq=False)
class Axis:
    """The values at which an effect is computed.

    :param name: of the predictor, or of all columns of a factor.
    :param columns: places of the predictor's columns in x, c of them.
    :param points: what these columns are set to, ``[G, c]``.
    :param shown: the same for the eye, ``[G]``.
    :param observed: as in :class:`Effect`.
    :param members: of a factor, each row's level, ``[N]``; None for a number.
    """

    name: str
    columns: list[int]
    points: Tensor
    shown: Array | NDArray[np.object_]
    observed: Array
    members: Tensor | None = None

    def moved(self, x: Tensor, point: int) -> Tensor:
        """Rows with the predictor at one of its values."""
        x = x.clone()
        x[:, self.columns] = self.points[point].to(x)
        return x

    def of(self, draws: Tensor, kind: str, curves: Tensor | None = None) -> Effect:
        """The effect of these draws, ``[S, G]``."""
        kept = None if curves is None else curves.numpy()
        return Effect(self.name, kind, self.shown, draws.numpy(), kept, self.observed)


def places(owner: str, model: Network, predictor: Predictor) -> list[int]:
    """Places of a predictor's columns.

    :raises ConfigurationError: for one that the network does not have.
    """
    names = list(model.description.inputs.names)
    found = []
    for column in [predictor] if isinstance(predictor, int | str) else list(predictor):
        place = names.index(column) if column in names else column
        if not isinstance(place, int) or not 0 <= place < len(names):
            raise ConfigurationError(
                f"{owner}: there is no predictor {column!r}; the network has {len(names)},"
                f" {', '.join(map(repr, names[:10]))}{', ...' if len(names) > 10 else ''}."
            )
        found.append(place)
    if not found or len(set(found)) < len(found):
        raise ConfigurationError(f"{owner}: a factor has columns, each once; got {predictor!r}.")
    return found


def axis_of(
    owner: str,
    model: Network,
    x: Tensor,
    predictor: Predictor,
    at: Sequence[float] | Tensor | None,
    num_points: int,
) -> Axis:
    """Values of a predictor among the rows x: quantiles of a number, or those asked for; levels of a factor."""
    columns = places(owner, model, predictor)
    names = [model.description.inputs.names[column] for column in columns]
    if not isinstance(predictor, int | str):
        if at is not None:
            raise ConfigurationError(f"{owner}: a factor is set to its levels; leave `at` out.")
        return _factor(owner, x, columns, names)
    observed = x[:, columns[0]].double()
    if at is None:
        shares = np.linspace(0, 1, num_points)
        # values that occur, so that every bin between them has a row
        points = np.unique(np.quantile(observed.numpy(), shares, method="inverted_cdf"))
    else:
        points = torch.as_tensor(at, dtype=torch.float64).numpy()
    if at is None and len(points) < 2:
        raise DataError(f"{owner}: {names[0]!r} is {points[0]:g} in all rows; it has no effect.")
    return Axis(names[0], columns, torch.from_numpy(points)[:, None], points, observed.numpy())


def _factor(owner: str, x: Tensor, columns: list[int], names: list[str]) -> Axis:
    points, members, counts = torch.unique(
        x[:, columns].double(), dim=0, return_inverse=True, return_counts=True
    )
    if not 1 < len(points) <= MOST_LEVELS:
        raise DataError(
            f"{owner}: the columns {names} have {len(points)} different settings in these rows; a factor has 2 to"
            f" {MOST_LEVELS} levels."
        )
    high = points > points.amin(0)
    level = [
        " and ".join(name for name, on in zip(names, row, strict=True) if on) or "none of them"
        for row in high.tolist()
    ]
    values = np.asarray(level, dtype=object)
    return Axis(", ".join(names), columns, points, values, counts.double().numpy(), members)


def _likeness(x: Tensor, axis: Axis) -> Tensor:
    """Levels of a factor in an order in which neighbours are alike in the other predictors, ``[G]``."""
    others = [column for column in range(x.shape[1]) if column not in axis.columns]
    centres = torch.stack(
        [x[axis.members == level][:, others].double().mean(0) for level in range(len(axis.points))]
    )
    left, _, _ = torch.linalg.svd(centres - centres.mean(0), full_matrices=False)
    return left[:, 0].argsort() if others else torch.arange(len(centres))


def ordered(x: Tensor, axis: Axis) -> Axis:
    """Values in the order in which effects accumulate."""
    if axis.members is None:
        return axis
    order = _likeness(x, axis)
    rank = order.argsort()
    return replace(
        axis,
        points=axis.points[order],
        shown=axis.shown[order.numpy()],
        observed=axis.observed[order.numpy()],
        members=rank[axis.members],
    )


def steps(x: Tensor, axis: Axis) -> tuple[list[Tensor], Tensor]:
    """Rows that move from each value to the next, and the share of the rows at each value, ``[G]``."""
    number = len(axis.points)
    if axis.members is not None:
        levels = axis.members
        rows = [((levels == k) | (levels == k + 1)).nonzero().flatten() for k in range(number - 1)]
        return rows, torch.bincount(levels, minlength=number).double() / len(x)
    edges = axis.points[:, 0]
    bins = torch.bucketize(x[:, axis.columns[0]].double().contiguous(), edges).clamp(1, number - 1)
    share = torch.bincount(bins, minlength=number).double() / len(x)
    at_ends = 0.5 * (share + torch.cat([share[1:], share.new_zeros(1)]))
    return [(bins == k).nonzero().flatten() for k in range(1, number)], at_ends
