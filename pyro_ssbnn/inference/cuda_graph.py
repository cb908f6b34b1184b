"""Work on a CUDA device that is recorded once and replayed by a single call (a CUDA graph).

A step of a small network is hundreds of kernels of a few microseconds, and to ask for one takes Python as long. A
replay asks for all of them at once. It runs the same kernels on the same memory: what changes from step to step must be
written into the tensors that the recording read, and what comes out lies where it lay then. Random draws go on from
where the device's generator is, as those of the work itself would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from pyro_ssbnn.isolation import random_state, set_random_state

__all__ = ["Recording", "records"]

_WARMUPS = 3  # runs in which libraries choose their algorithms and take their memory


def records(device: torch.device) -> bool:
    """Whether work on a device can be recorded."""
    return device.type == "cuda"


class Recording:
    """A recording of work; parameters and random numbers are as before once it is made.

    :param work: without arguments; it reads no value on the host and sends none to the device.
    :param changed: tensors that it changes in place.
    :raises Exception: whatever torch raises for work that cannot be recorded.

    ``result`` is what the work returned; :meth:`replay` fills its tensors anew.
    """

    def __init__(
        self, work: Callable[[], Any], changed: Iterable[Tensor], device: torch.device
    ) -> None:
        random = random_state(device)
        before = [(value, value.detach().clone()) for value in changed]
        try:
            self.replay, self.result = _recorded(work, device)
        finally:
            set_random_state(random, device)
            with torch.no_grad():
                for value, old in before:
                    value.copy_(old)


def _recorded(work: Callable[[], Any], device: torch.device) -> tuple[Callable[[], None], Any]:
    with torch.cuda.device(device):
        side, current = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(_WARMUPS):
                work()
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Threads that load data may allocate meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = work()
    return graph.replay, result
