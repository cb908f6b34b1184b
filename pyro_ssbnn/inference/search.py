"""What a run does beside its steps: it chooses the predictors it begins with, lets others in, and moves its gates."""

from __future__ import annotations

from dataclasses import replace

import torch

from pyro_ssbnn.inference.best import Best
from pyro_ssbnn.inference.boundary import Boundary
from pyro_ssbnn.inference.engine import Engine
from pyro_ssbnn.inference.gate_evidence import GateEvidence, branch_evidence
from pyro_ssbnn.inference.gates import ascend
from pyro_ssbnn.inference.history import Removal
from pyro_ssbnn.inference.screening import scores, screens, useful
from pyro_ssbnn.inference.training_rows import TrainingRows
from pyro_ssbnn.isolation import random_state, seeded
from pyro_ssbnn.posterior.draws import evaluating
from pyro_ssbnn.structure.flow import flip_cost

__all__ = ["Search"]

_DRAWS, _FEWEST_DRAWS = 16, 4  # of one ascent
_FLIPS = 2**28  # multiply-adds of one ascent: where all rows cost more, it takes fewer
_LEAST_ROWS = 512


class Search:
    """The search of one run, whose network it changes.

    :param engine: of the run, ready for its first step.
    :param first_step: steps done before.
    """

    def __init__(self, engine: Engine, first_step: int) -> None:
        self.engine, seed = engine, engine.result.options.seed
        counts = (engine.rows, engine.num_data)
        self._best = Best(engine.schedule, *counts, seed, first_step, engine.ranks)

    def begin(self) -> None:
        """Begin without the predictors in which the trees find no use, where there are many.

        A guide that has been trained keeps all that it has: it knows more than the trees.
        """
        result = self.engine.result
        inputs = result.model.description.inputs
        if result.start.obstacle or not screens(result.model.description, result.options):
            return
        without = sorted(set(range(inputs.size)) - set(self._useful(explained=False)))
        if without:
            prior = inputs.prior_inclusion.tolist() if inputs.gated else [0.0] * inputs.size
            result.history.removed += [Removal(inputs.name, j, 0, prior[j]) for j in without]
            self.engine.remove({inputs.name: without})

    def after_block(self, record: int) -> None:
        """Do what is due after a record at which a block ends."""
        if self.engine.schedule.admits(record):
            self._admit()
        if self.engine.schedule.ascends(record):
            self._ascend(record)

    def after_record(self, record: int) -> None:
        """Read the bound where it is due."""
        if self._best.due(record):
            engine, data = self.engine, self.engine.minibatches
            random = random_state(engine.device)
            history = engine.result.history
            rows = TrainingRows(data.whole, data.y, data.num_data)
            self._best.read(engine.live, engine.optimizer, history, random, rows)

    def better(self) -> Boundary | None:
        """The state to go back to at the end, if any."""
        return self._best.better(self.engine.result.history)

    def _admit(self) -> None:
        """Let in the predictors in which the trees find a use for what the network leaves unexplained."""
        history, name = self.engine.result.history, self.engine.result.model.description.inputs.name
        if not any(move.group == name for move in history.removed):
            return
        self.engine.store()
        wanted = set(self._useful(explained=True))
        back = [move for move in history.removed if move.group == name and move.node in wanted]
        if back:
            history.removed = [move for move in history.removed if move not in back]
            history.admitted += [move._replace(epoch=history.epoch) for move in back]
            self.engine.admit({name: [move.node for move in back]}, len(history))

    def _ascend(self, record: int) -> None:
        """Move the gates that are let go towards what the evidence asks for."""
        live, schedule = self.engine.live, self.engine.schedule
        step = schedule.steps_of(record + 1)[0]
        free, factor = schedule.free(step), schedule.rate_factor(step)
        ascend(live.guide, self._evidence(), free, schedule.ascent, factor)

    def _evidence(self) -> dict[str, GateEvidence]:
        """Evidence for the gates of the live network.

        Rows come before draws: what a node gains is often the gain of few rows, while draws are others each time.
        """
        live, data, ranks = self.engine.live, self.engine.minibatches, self.engine.ranks
        x, y = data.whole, data.y
        groups = live.model.description.gate_groups
        most = _FLIPS // flip_cost(live.model.description)
        draws = min(_DRAWS, max(_FEWEST_DRAWS, most // len(x)))
        most = max(_LEAST_ROWS, most // draws)
        if len(x) > most:
            chosen = torch.randperm(len(x), device=x.device)[:most]
            x, y = x.index_select(0, chosen), y.index_select(0, chosen)
        rows = len(x)
        x, y = x[ranks.part(rows)], y[ranks.part(rows)]
        with torch.no_grad(), evaluating(live.model, live.guide):
            evidence = branch_evidence(
                live.model, live.guide, groups, (x, y), self.engine.num_data, draws
            )
        return {
            name: replace(each, fixed_point=ranks.mean(each.fixed_point, rows))
            for name, each in evidence.items()
        }

    def _useful(self, *, explained: bool) -> list[int]:
        """Predictors that the trees find useful; the first rank asks them, for all."""
        result, x, ranks = self.engine.result, self.engine.minibatches.x, self.engine.ranks
        if not ranks.first:
            return ranks.chosen(None)
        inputs, seed = result.model.description.inputs, result.options.seed
        with seeded(seed, x.device):
            y = self.engine.minibatches.y
            score = scores(result.model, result.guide, x, y, explained=explained)
        return ranks.chosen(useful(inputs, x, score, seed, first=not explained))
