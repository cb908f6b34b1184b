r"""Laws of the open weights of sets of predictors, those of as many open columns together.

Of a set z the precision :math:`\Lambda_{zz}` has the covariance A and the mean :math:`\mu = A h_z`. One more column k
changes the log evidence by

.. math:: \frac{r^2}{2 d} - \tfrac12\log d - E\log(t\sigma_0),\qquad
          d = \Lambda_{kk} - \Lambda_{kz} A \Lambda_{zk},\quad r = h_k - \Lambda_{kz}\mu,

one fewer, i, by :math:`-\mu_i^2/(2 A_{ii}) - \tfrac12\log A_{ii} + E\log(t\sigma_0)`. In the place of i, with
:math:`g = \Lambda_{kz} A`, the column k finds :math:`d + g_i^2/A_{ii}` and :math:`r + g_i\mu_i/A_{ii}`. So one
factorisation gives the evidence of all neighbours of a set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Around", "OpenLaws", "Part", "evidence", "evidence_around", "open_laws", "parted"]


class Part(NamedTuple):
    """Sets of m open columns."""

    rows: Tensor  # which sets, [n]
    places: Tensor  # the open columns, [n, m]
    pairs: Tensor  # places of their pairs in a matrix of all columns, row after row, [n, m, m]


class OpenLaws(NamedTuple):
    """Laws of the m open weights of n sets, of every node."""

    part: Part
    covariance: Tensor  # A, [size, n, m, m]
    mean: Tensor  # mu, [size, n, m]
    log_scale: Tensor  # half the log-determinant of A, [size, n]


class Around(NamedTuple):
    """Changes of the log evidence of n sets of m open columns by other columns."""

    part: Part
    more: Tensor  # by one more, [n, c]; of open ones without meaning
    fewer: Tensor  # by one fewer, [n, m]
    instead: Tensor  # by one in the place of another, [n, m, c]; of open ones without meaning


def parted(open: Tensor, *, closed: bool = False) -> list[Part]:
    """Sets by the number of their open columns.

    :param open: gates of the columns in every set, ``[S, c]``.
    :param closed: whether sets without any are a part, too.
    """
    number, c = open.sum(-1).long(), open.shape[-1]
    order = number.argsort(stable=True)
    counts = number.bincount().tolist()
    columns = open[order].nonzero()[:, 1].split([m * n for m, n in enumerate(counts)])
    found = []
    for m, (rows, of_rows) in enumerate(zip(order.split(counts), columns, strict=True)):
        if len(rows) and (m or closed):
            places = of_rows.view(len(rows), m)
            pairs = places.unsqueeze(-1) * c + places.unsqueeze(-2)
            found.append(Part(rows, places, pairs))
    return found


def open_laws(parts: Sequence[Part], linear: Tensor, precision: Tensor) -> list[OpenLaws]:
    """Laws of the sets of each part.

    :param linear: h of all columns, ``[size, c]``.
    :param precision: :math:`\\Lambda`, ``[size, c, c]``.
    """
    found = []
    for part in parts:
        root = torch.linalg.cholesky(_picked(precision.flatten(1), part.pairs))
        covariance = torch.cholesky_inverse(root)
        mean = (covariance @ _picked(linear, part.places).unsqueeze(-1)).squeeze(-1)
        log_scale = -root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        found.append(OpenLaws(part, covariance, mean, log_scale))
    return found


def evidence(laws: Sequence[OpenLaws], sets: int, linear: Tensor, log_slab: Tensor) -> Tensor:
    r"""Log evidence of all sets, up to a constant that they share, ``[S]``.

    .. math:: \sum_j \tfrac12 h_z^\top\mu_j + \tfrac12\log|A_j| - |z|\,E\log(t_j\sigma_0)

    :param sets: their number S; what is in no part has no open column.
    :param log_slab: :math:`E\log(t_j\sigma_0)`, ``[size]``.
    """
    out = linear.new_zeros(sets)
    for law in laws:
        explained = 0.5 * (law.mean * _picked(linear, law.part.places)).sum(-1)
        of_slab = law.mean.shape[-1] * log_slab.unsqueeze(-1)
        out[law.part.rows] = (explained + law.log_scale - of_slab).sum(0)
    return out


def evidence_around(
    laws: Sequence[OpenLaws], linear: Tensor, precision: Tensor, slab: Tensor, log_slab: Tensor
) -> Iterator[Around]:
    """What the neighbours of sets change.

    :param slab: precision of the slab, ``[size]``, of which d has as much at least.
    :param log_slab: :math:`E\\log(t_j\\sigma_0)`, ``[size]``.
    """
    least, of_slab = slab[:, None, None], log_slab[:, None, None]
    for law in laws:
        across = precision.index_select(1, law.part.places.flatten())
        across = across.view(*law.mean.shape, linear.shape[-1])  # [size, n, m, c]
        gain = law.covariance @ across
        own = precision.diagonal(dim1=-2, dim2=-1).unsqueeze(1)
        d = (own - (gain * across).sum(-2)).maximum(least)
        r = linear.unsqueeze(1) - (law.mean.unsqueeze(-2) @ across).squeeze(-2)
        more = 0.5 * (r.square() / d - d.log()) - of_slab
        spread = law.covariance.diagonal(dim1=-2, dim2=-1)
        fewer = of_slab - 0.5 * (law.mean.square() / spread + spread.log())
        d = d.unsqueeze(-2) + gain.square() / spread.unsqueeze(-1)
        r = r.unsqueeze(-2) + gain * (law.mean / spread).unsqueeze(-1)
        instead = 0.5 * (r.square() / d - d.log()) + (fewer - of_slab).unsqueeze(-1)
        yield Around(law.part, more.sum(0), fewer.sum(0), instead.sum(0))


def _picked(values: Tensor, places: Tensor) -> Tensor:
    """Entries of the last dimension, ``[size, *places]``, of ``[size, c]``."""
    return values.index_select(-1, places.flatten()).view(len(values), *places.shape)
