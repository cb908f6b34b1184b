"""The best state of a run: its bound is read at a few points, with its error, and the best one is what comes back.

The trace of a run cannot tell: its values are means of few draws, and one draw in which a needed gate is closed by
chance lies hundreds of nats below the rest. So the bound is read on draws of its own
(:func:`~pyro_ssbnn.evaluate_bound`), the same at every point, once all gates are let go and the KL has its full weight.
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from pyro_ssbnn.errors import BoundWarning
from pyro_ssbnn.inference.boundary import Boundary
from pyro_ssbnn.inference.evaluation import bound_of
from pyro_ssbnn.inference.history import History, Reading
from pyro_ssbnn.inference.optimizer import JointOptimizer
from pyro_ssbnn.inference.ranks import Ranks
from pyro_ssbnn.inference.schedule import Schedule
from pyro_ssbnn.inference.shrinking import LiveNetwork
from pyro_ssbnn.inference.training_rows import TrainingRows

__all__ = ["Best"]

_READINGS = 5
_DRAWS = 256
_FEWEST = 32  # fewer draws say too little
_MOST_ROWS, _LEAST_ROWS = 20_000, 1_000
_SHARE = 0.05  # of the run's arithmetic that all readings together may cost
_MUCH = 5.0  # nats beyond its error: a fall that should be known of
_ERRORS = 3.0  # by which one bound must lie below another to be worse


class Best:
    """Readings of the bound, and the run as it was at the best of them.

    :param rows: rows of a step times particles.
    :param seed: of the draws.
    :param first_step: steps done before.
    :param ranks: of the run: each reads the bound on rows and draws of its own.
    """

    def __init__(
        self,
        schedule: Schedule,
        rows: int,
        num_data: int,
        seed: int,
        first_step: int = 0,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        self.schedule, self.seed, self._seen = schedule, seed, first_step
        # A pass with gradients costs three without.
        passes = int(3 * _SHARE / _READINGS * schedule.steps * rows)
        self.max_rows = min(num_data, _MOST_ROWS, max(1, passes // _FEWEST))
        self.num_draws = min(_DRAWS, passes // self.max_rows)
        few = self.max_rows < min(num_data, _LEAST_ROWS)  # rows that cannot speak for all
        self.affordable = self.num_draws >= _FEWEST and not few
        first = max(schedule.let_go, math.ceil(schedule.warmup))
        self._points = [
            first + (schedule.steps - first) * k // _READINGS for k in range(1, _READINGS + 1)
        ]
        self._best: tuple[Reading, Boundary] | None = None

    def due(self, record: int) -> bool:
        """Whether the bound is to be read after a record."""
        before, self._seen = self._seen, self.schedule.steps_of(record + 1)[0]
        passed = any(before < point <= self._seen for point in self._points)
        return passed and self.affordable

    def read(
        self,
        live: LiveNetwork,
        optimizer: JointOptimizer,
        history: History,
        random: dict[str, Tensor],
        rows: TrainingRows,
    ) -> None:
        """Read the bound of the live network, and keep its state if none before was better.

        :param rows: all of them or a sample, as the live network takes them.
        """
        ranks, count = self.ranks, len(rows.x)
        part = ranks.part(count)
        own = TrainingRows(rows.x[part], rows.y[part], rows.num_data)
        bound = bound_of(
            live.model,
            live.guide,
            own,
            num_draws=self.num_draws,
            max_rows=-(-self.max_rows // ranks.size),
            seed=ranks.own_seed(self.seed),
        )
        elbo, error = bound.elbo, bound.error
        if ranks.size > 1:
            variance = bound.error**2 * len(own.x) / count
            both = ranks.mean(rows.x.new_tensor([elbo, variance], dtype=torch.float64), count)
            elbo, error = float(both[0]), math.sqrt(both[1])
        elbo -= live.removed_kl
        history.bounds.append(Reading(history.epoch, elbo, error))
        if self._best is None or elbo > self._best[0].elbo:
            self._best = history.bounds[-1], Boundary(live, optimizer, history, random)

    def better(self, history: History) -> Boundary | None:
        """The state to go back to, where the last bound is worse than the best by more than their errors."""
        if self._best is None:
            return None
        (best, state), last = self._best, history.bounds[-1]
        fallen = best.elbo - last.elbo - _ERRORS * math.hypot(best.error, last.error)
        if fallen <= 1:
            return None
        if fallen > _MUCH:
            warnings.warn(
                f"the bound fell from {best.elbo:.1f} at epoch {best.epoch:g} to {last.elbo:.1f} at epoch"
                f" {last.epoch:g}; the result is that of epoch {best.epoch:g}. Lower the rates, or train longer.",
                BoundWarning,
                stacklevel=2,
            )
        return state
