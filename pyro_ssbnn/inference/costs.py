"""What steps cost, estimated from counts alone.

Times differ from machine to machine and from hour to hour; what a run does must not, or it could not be repeated nor
resumed bit by bit. So it is decided by these figures, of one core with AVX-512 (``docs/performance.md``), whether
tracing or compiling the step repays its time, and whether a smaller network repays a new trace. L counts layers, W
weights, R the rows of a step times the particles.

======== ============================================= =================
kind     seconds a step                                seconds to build
======== ============================================= =================
eager    2.2e-3 L + W (6e-8 + 7e-11 R)                 0
trace    7e-4 L + W (6e-8 + 7e-11 R)                   0.25 L
compile  1e-4 L + W (1.5e-8 + 7e-11 R)                 4.5 L
======== ============================================= =================

On CUDA a traced or compiled step is replayed as a CUDA graph, and Python is left to the eager one alone. Its figures
follow from the kernels of a step (some 60 a layer traced, 20 compiled, of 1.5 microseconds), from the bytes that they
move of each weight (some 200 and 60, at 2 TB/s) and from 40 TFLOP/s; they have not been measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pyro_ssbnn.structure.description import NetworkDescription

__all__ = ["best_kind", "repays"]


class _Cost(NamedTuple):
    """Seconds of one kind of step."""

    layer: float
    weight: float
    build: float


_ROW = {"cpu": 7e-11, "cuda": 3e-13}  # a multiply-add, forwards and backwards, of mean and variance
_COSTS = {
    ("cpu", "eager"): _Cost(2.2e-3, 6e-8, 0.0),
    ("cpu", "trace"): _Cost(7e-4, 6e-8, 0.25),
    ("cpu", "compile"): _Cost(1e-4, 1.5e-8, 4.5),
    ("cuda", "eager"): _Cost(2.2e-3, 1e-10, 0.0),
    ("cuda", "trace"): _Cost(9e-5, 1e-10, 0.25),
    ("cuda", "compile"): _Cost(3e-5, 3e-11, 4.5),
}


def best_kind(
    kinds: Iterable[str], description: NetworkDescription, rows: int, steps: int, where: str = "cpu"
) -> str:
    """The one of these kinds with which so many steps are done soonest, the time to build it included.

    :param rows: R.
    :param where: type of the device.
    """

    def seconds(kind: str) -> float:
        step = _step(kind, description, rows, where)
        return _build(kind, description, where) + steps * step

    return min(kinds, key=seconds)


def repays(
    now: tuple[str, NetworkDescription],
    then: tuple[str, NetworkDescription],
    rows: int,
    steps: int,
    where: str = "cpu",
) -> bool:
    """Whether another kind of step, or another network, saves in so many steps more than twice the time to build it.

    Twice, because a moment later more nodes may have closed, and one new step does for all.
    """
    saved = _step(*now, rows, where) - _step(*then, rows, where)
    return steps * saved >= 2 * _build(*then, where)


def _step(kind: str, description: NetworkDescription, rows: int, where: str) -> float:
    cost, layers = _COSTS[where, kind], len(description.groups)
    return cost.layer * layers + description.num_weights * (cost.weight + _ROW[where] * rows)


def _build(kind: str, description: NetworkDescription, where: str) -> float:
    return _COSTS[where, kind].build * len(description.groups)
