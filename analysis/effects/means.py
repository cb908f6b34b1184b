"""Expected y of every draw at many rows, block by block, by the predictive engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from pyro_ssbnn.posterior.ensemble import Ensemble

__all__ = ["mean_draws", "some_rows"]


def some_rows(x: Tensor, rows: int, seed: int) -> Tensor:
    """At most so many rows, a random part where there are more, on the CPU."""
    x = x.detach().cpu()
    if len(x) <= rows:
        return x
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:rows]]


def mean_draws(
    ensemble: Ensemble, blocks: Iterable[Tensor], to_target: Callable[[Tensor], Tensor] | None
) -> Iterator[Tensor]:
    """Expected y of every draw at blocks of rows, ``[S, n]`` (``[S, n, K]``) a block, several of them in one pass."""
    numbers = ensemble.num_draws * ensemble.likelihood.mean_columns
    most = max(1, ensemble.memory // 32 // numbers)  # a quarter of the memory, 8 bytes each

    def found(batch: list[Tensor]) -> Iterator[Tensor]:
        means = ensemble.means(torch.cat(batch))
        means = means if to_target is None else to_target(means)
        yield from means.split([len(block) for block in batch], 1)

    batch: list[Tensor] = []
    for block in blocks:
        if batch and sum(map(len, batch)) + len(block) > most:
            yield from found(batch)
            batch = []
        batch.append(block)
    yield from found(batch)
