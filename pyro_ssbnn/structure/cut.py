"""A layer after the cut: what pruning hands to a network to be put together."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["CutLayer"]


@dataclass(frozen=True)
class CutLayer:
    """A layer after the cut.

    :param weight: ``[kept, kept_in]`` or ``[S, kept, kept_in]``.
    :param bias: ``[kept]`` or ``[S, kept]``, with the closed sources' constant folded in.
    :param rows: original indices of the kept nodes, ``[kept]``.
    :param columns: original indices of the kept incoming weights, ``[kept_in]``.
    """

    weight: Tensor
    bias: Tensor
    rows: Tensor
    columns: Tensor
