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


_ROW = 7e-11  # a multiply-add, forwards and backwards, of mean and variance
_COSTS = {
    "eager": _Cost(2.2e-3, 6e-8, 0.0),
    "trace": _Cost(7e-4, 6e-8, 0.25),
    "compile": _Cost(1e-4, 1.5e-8, 4.5),
}


def best_kind(kinds: Iterable[str], description: NetworkDescription, rows: int, steps: int) -> str:
    """The one of these kinds with which so many steps are done soonest, the time to build it included.

    :param rows: R.
    """
    return min(kinds, key=lambda k: _build(k, description) + steps * _step(k, description, rows))


def repays(
    now: tuple[str, NetworkDescription],
    then: tuple[str, NetworkDescription],
    rows: int,
    steps: int,
) -> bool:
    """Whether another kind of step, or another network, saves in so many steps more than twice the time to build it.

    Twice, because a moment later more nodes may have closed, and one new step does for all.
    """
    saved = _step(*now, rows) - _step(*then, rows)
    return steps * saved >= 2 * _build(*then)


def _step(kind: str, description: NetworkDescription, rows: int) -> float:
    cost, layers = _COSTS[kind], len(description.groups)
    return cost.layer * layers + description.num_weights * (cost.weight + _ROW * rows)


def _build(kind: str, description: NetworkDescription) -> float:
    return _COSTS[kind].build * len(description.groups)
