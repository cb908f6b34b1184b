"""CPU threads for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["limited_to"]


@contextmanager
def limited_to(threads: int | None) -> Iterator[int]:
    """Let torch use so many CPU threads in the block, afterwards as many as before; None leaves their number alone.

    Yields the number in use.
    """
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
