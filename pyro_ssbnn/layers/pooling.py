"""Max-pooling of maps, in the forms that are fast where it is done."""

from __future__ import annotations

from functools import reduce
from itertools import product

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message, effectful
from torch import Tensor
from torch.nn.functional import max_pool2d

__all__ = ["FusiblePooling", "max_pool"]


@effectful(type="max_pool")
def max_pool(x: Tensor, size: int) -> Tensor:
    """Maxima over squares of ``size`` pixels side by side, ``[..., C, H, W]`` to ``[..., C, H // size, W // size]``."""
    if x.requires_grad or torch.compiler.is_compiling():
        return max_pool2d(x.flatten(0, -4), size).unflatten(0, x.shape[:-3])
    # Without a gradient nobody asks which pixel it was: elementwise maxima take a tenth of the time on the CPU, first
    # those of whole rows, which lie side by side in memory.
    height, width = _covered(x, size)
    rows = reduce(torch.maximum, (x[..., row:height:size, :width] for row in range(size)))
    return reduce(torch.maximum, (rows[..., column::size] for column in range(size)))


class FusiblePooling(Messenger):
    """Pool by elementwise choices, for steps that are compiled.

    The compiler fuses them, forwards and backwards, with the activation before: on the CPU a LeNet's step takes two
    thirds of the time that it does with the compiler's own pooling. Eagerly they are slower. The first of several
    largest pixels gets the gradient, as in :func:`max_pool`; the maps of a closed filter are all ties.
    """

    def _pyro_max_pool(self, msg: Message) -> None:
        msg["value"], msg["done"] = _first_largest(*msg["args"]), True


def _first_largest(x: Tensor, size: int) -> Tensor:
    """The first of the largest pixels of each square, two compared at a time, row by row."""
    height, width = _covered(x, size)
    corners = product(range(size), repeat=2)
    return reduce(_larger, (x[..., row:height:size, column:width:size] for row, column in corners))


def _covered(x: Tensor, size: int) -> tuple[int, int]:
    """Height and width that whole squares cover."""
    return x.shape[-2] - x.shape[-2] % size, x.shape[-1] - x.shape[-1] % size


def _larger(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b > a, b, a)
