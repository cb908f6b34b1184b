"""The values a predictor is set to: points of a number, levels of a factor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_ssbnn.analysis.effects.effect import Array, Effect
from pyro_ssbnn.data import Preprocessing, TableDescription
from pyro_ssbnn.data.predictors import Factor, Number
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.structure.network import Network

__all__ = ["Axis", "Predictor", "axis_of", "called", "ordered", "places", "steps"]

Predictor = int | str | Sequence[int | str]
"""A predictor by its place or name, or several that are one factor."""

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

    def of(
        self,
        draws: Tensor,
        kind: str,
        curves: Tensor | None = None,
        prepared: Preprocessing | None = None,
    ) -> Effect:
        """The effect of these draws, ``[S, G]``."""
        kept = None if curves is None else curves.numpy()
        names = () if prepared is None else (prepared.target_name, prepared.class_names)
        return Effect(self.name, kind, self.shown, draws.numpy(), kept, self.observed, *names)


def places(owner: str, model: Network, predictor: Predictor) -> list[int]:
    """Places of a predictor's columns.

    :raises ConfigurationError: for one that the network does not have.
    """
    inputs = model.description.inputs
    names = list(inputs.names)
    found = []
    for one in [predictor] if isinstance(predictor, int | str) else list(predictor):
        place = names.index(one) if one in names else one
        if not isinstance(place, int) or not 0 <= place < len(names):
            raise ConfigurationError(
                f"{owner}: there is no predictor {one!r}; the network has {len(names)},"
                f" {', '.join(map(repr, names[:10]))}{', ...' if len(names) > 10 else ''}."
            )
        found.append(place)
    if not found or len(set(found)) < len(found):
        raise ConfigurationError(f"{owner}: a factor has columns, each once; got {predictor!r}.")
    owners = inputs.columns.owners.tolist()
    return [column for place in found for column, of in enumerate(owners) if of == place]


def called(model: Network, columns: Sequence[int]) -> str:
    """Name of the predictors that own these columns."""
    inputs = model.description.inputs
    owners = inputs.columns.owners[list(columns)].tolist()
    return ", ".join(inputs.names[place] for place in dict.fromkeys(owners))


def axis_of(
    owner: str,
    model: Network,
    x: Tensor,
    predictor: Predictor,
    at: Sequence[float] | Tensor | None,
    num_points: int,
    prepared: Preprocessing | None = None,
) -> Axis:
    """Values of a predictor among the rows x: quantiles of a number, or those asked for; levels of a factor.

    :param prepared: what x was made by; a column of a table is then a number or a factor in its own words.
    """
    columns = places(owner, model, predictor)
    name = called(model, columns)
    known = _described(prepared, name)
    if isinstance(known, Factor) or (known is None and _is_factor(predictor, columns)):
        if at is not None:
            raise ConfigurationError(f"{owner}: a factor is set to its levels; leave `at` out.")
        if isinstance(known, Factor):
            return _of_levels(owner, x, columns, known)
        names = [model.description.inputs.column_names[column] for column in columns]
        return _factor(owner, x, columns, names)
    observed = x[:, columns[0]].double()
    if len(columns) > 1:  # beside a number, the mark of its missing values
        observed = observed[x[:, columns[1]] == 0]
    own = observed.numpy() if known is None else known.decode(observed.numpy())
    if at is None:
        shares = np.linspace(0, 1, num_points)
        # values that occur, so that every bin between them has a row
        points = np.unique(np.quantile(own, shares, method="inverted_cdf"))
    else:
        points = torch.as_tensor(at, dtype=torch.float64).numpy()
    if at is None and len(points) < 2:
        value = points[0] + 0  # -0 is 0
        raise DataError(f"{owner}: {name!r} is {value:g} in all rows; it has no effect.")
    scaled = points if known is None else known.rescale(points)
    settings = np.zeros((len(points), len(columns)))
    settings[:, 0] = scaled
    told = name if known is None or known.origin is None else f"{name} (days since {known.origin})"
    return Axis(told, columns, torch.from_numpy(settings), points, own)


def _described(prepared: Preprocessing | None, name: str) -> Number | Factor | None:
    """A predictor as the table describes it, where there is one."""
    features = None if prepared is None else prepared.features
    if not isinstance(features, TableDescription):
        return None
    return next((known for known in features.predictors if known.name == name), None)


def _is_factor(predictor: Predictor, columns: list[int]) -> bool:
    return len(columns) > 1 or not isinstance(predictor, int | str)


def _of_levels(owner: str, x: Tensor, columns: list[int], factor: Factor) -> Axis:
    """Levels in the factor's order, those that the rows have."""
    settings = torch.from_numpy(np.stack(list(factor.settings.values())))
    alike = (x[:, columns].unsqueeze(1) == settings.to(x)).all(-1)
    there = alike.any(0)
    _check_levels(owner, [factor.name], int(there.sum()))
    alike, settings = alike[:, there], settings[there]
    names = np.asarray(list(factor.settings), dtype=object)[there.numpy()]
    counts = alike.sum(0).double().numpy()
    return Axis(factor.name, columns, settings, names, counts, alike.int().argmax(1))


def _factor(owner: str, x: Tensor, columns: list[int], names: list[str]) -> Axis:
    points, members, counts = torch.unique(
        x[:, columns].double(), dim=0, return_inverse=True, return_counts=True
    )
    _check_levels(owner, names, len(points))
    high = points > points.amin(0)
    level = [
        " and ".join(name for name, on in zip(names, row, strict=True) if on) or "none of them"
        for row in high.tolist()
    ]
    values = np.asarray(level, dtype=object)
    return Axis(", ".join(names), columns, points, values, counts.double().numpy(), members)


def _check_levels(owner: str, names: list[str], number: int) -> None:
    if not 1 < number <= MOST_LEVELS:
        raise DataError(
            f"{owner}: the columns {names} have {number} different settings in these rows; a factor has 2 to"
            f" {MOST_LEVELS} levels."
        )


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
