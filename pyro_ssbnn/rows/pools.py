"""Shuffled minibatches of rows that come block by block.

Blocks are gathered to a *pool* of 32 MB, whose rows are shuffled and cut into minibatches; what is left over goes into
the next pool. So every row comes once an epoch (but for less than a minibatch at its end), and data of up to 32 MB are
shuffled completely.

How good that is where there are more: let B blocks of a pool be drawn at random from a file whose rows are sorted by
what matters, so that the rows of a block are all alike, and let a quantity vary by :math:`\\sigma^2` over all rows. Its
mean over a minibatch of m rows then has a variance of at most :math:`\\sigma^2 (1/m + 1/B)`, where a complete shuffle
has :math:`\\sigma^2/m`. Blocks of 32 kB make B = 1,024: at m = 256 a quarter more at the worst, and nothing where
neighbours in the file are no more alike than others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from pyro_ssbnn.rows.source import Block

__all__ = ["POOL", "minibatches"]

POOL = 2**25
"""Bytes of predictors that are shuffled together."""

_LEAST = 8  # minibatches in a pool, however wide the rows are


def minibatches(
    blocks: Iterable[Block], rows: int, generator: torch.Generator, pool: int = POOL
) -> Iterator[tuple[Tensor, Tensor]]:
    """Minibatches of so many rows, ``[rows, p]`` and their targets.

    :param blocks: with targets.
    :param generator: of the shuffle, on the CPU.
    :param pool: bytes of predictors shuffled together.
    """
    for x, y in _pools(blocks, rows, generator, pool):
        yield from zip(x.split(rows), y.split(rows), strict=True)


def _pools(
    blocks: Iterable[Block], rows: int, generator: torch.Generator, pool: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Shuffled rows, as many as make whole minibatches."""
    held: list[Block] = []
    number, size = 0, 0
    for block in blocks:
        held.append(block)
        number, size = number + len(block[0]), size + block[0].nbytes
        if size >= pool and number >= _LEAST * rows:
            x, y = _shuffled(held, generator)
            whole = number // rows * rows
            yield x[:whole], y[:whole]
            held = [(x[whole:].clone(), y[whole:].clone())]
            number, size = number - whole, held[0][0].nbytes
    if number >= rows:
        x, y = _shuffled(held, generator)
        whole = number // rows * rows
        yield x[:whole], y[:whole]


def _shuffled(held: list[Block], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """All rows of some blocks in random order; the blocks are given up."""
    x = torch.cat([block[0] for block in held])
    y = torch.cat([block[1] for block in held if block[1] is not None])
    held.clear()
    order = torch.randperm(len(x), generator=generator)
    return x.index_select(0, order), y.index_select(0, order)
