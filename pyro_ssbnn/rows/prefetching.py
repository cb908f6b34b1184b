"""Minibatches that are sent to a GPU while the one before is worked on."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

__all__ = ["sent_ahead"]


def sent_ahead(
    minibatches: Iterator[tuple[Tensor, Tensor]], device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """The same minibatches, in the same order; for CUDA on the device, one of them on its way there.

    They go from pinned memory, beside the work of the current stream, which waits for the one it is given and nothing
    else. Other devices' minibatches are passed on as they are.
    """
    if device.type != "cuda":
        yield from minibatches
        return
    side = torch.cuda.Stream(device)
    waiting: tuple[Tensor, Tensor, torch.cuda.Event] | None = None
    for minibatch in minibatches:
        with torch.cuda.stream(side):
            x, y = (value.pin_memory().to(device, non_blocking=True) for value in minibatch)
            sent = x, y, side.record_event()
        if waiting is not None:
            yield _arrived(*waiting)
        waiting = sent
    if waiting is not None:
        yield _arrived(*waiting)


def _arrived(x: Tensor, y: Tensor, gone: torch.cuda.Event) -> tuple[Tensor, Tensor]:
    current = torch.cuda.current_stream(x.device)
    current.wait_event(gone)
    for value in (x, y):
        value.record_stream(current)  # its memory is not given away before the step is done
    return x, y
