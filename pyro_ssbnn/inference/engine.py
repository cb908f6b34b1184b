"""What a run trains: the live network, its optimizer, its data and its step, which change together."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from itertools import groupby
from operator import attrgetter
from typing import cast

import pyro
from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference.boundary import Boundary
from pyro_ssbnn.inference.costs import best_kind, repays
from pyro_ssbnn.inference.elbo import AnalyticELBO
from pyro_ssbnn.inference.graph import has_compiler
from pyro_ssbnn.inference.history import Removal
from pyro_ssbnn.inference.minibatches import Minibatches
from pyro_ssbnn.inference.optimizer import optimizer_of
from pyro_ssbnn.inference.ranks import Ranks
from pyro_ssbnn.inference.result import Fit
from pyro_ssbnn.inference.resumption import renew_rates
from pyro_ssbnn.inference.shared_moments import SharedELBO
from pyro_ssbnn.inference.shrinking import LiveNetwork, due_for_removal, may_lose_members
from pyro_ssbnn.inference.step import STEPS, EagerStep, TracedStep
from pyro_ssbnn.isolation import random_state, set_random_state

__all__ = ["Engine"]

_WORTH_REMOVING = 0.1  # share of the weights below which a removal saves less than it disturbs
_SPARE = 4  # predictors that may come in without a new shape
_log = logging.getLogger(__name__)


class Engine:
    """The live network of a run, with all that is made for it and made anew when it changes.

    :param result: the fit in the making.
    :param minibatches: its data, on the device of the run.
    :param ranks: of the run; by default this process is alone.

    ``rows`` are those of a step, of all ranks, times the particles.
    """

    def __init__(self, result: Fit, minibatches: Minibatches, ranks: Ranks | None = None) -> None:
        self.result, self.minibatches, self.schedule = result, minibatches, result.schedule
        options, description = result.options, result.model.description
        self.num_data, self.device = minibatches.num_data, minibatches.x.device
        self.ranks = ranks or Ranks()
        minibatches.part = self.ranks.part(minibatches.rows)
        self.live = LiveNetwork(result.model, result.guide)
        self.optimizer = optimizer_of(result.guide, options, self.num_data, self.device)
        self.rows = minibatches.rows * options.particles(self.num_data)
        self.where = self.device.type
        self.kinds = options.step_kinds(description, has_compiler(self.device), self.where)
        self.kind = best_kind(self.kinds, description, self.rows, self.schedule.steps, self.where)
        self._step: EagerStep | None = None

    @property
    def step(self) -> EagerStep:
        """The step of the live network, as of the last :meth:`update_step`."""
        if self._step is None:
            self.update_step()
        return cast(EagerStep, self._step)

    def update_step(self) -> None:
        """See to it that there is a step, and that it is up to date: to ask costs too much for every record."""
        step = self._step
        if step is None or step.guide is not self.live.guide or step.is_stale():
            self._step = self._built_step()

    def resume(self, earlier: Fit) -> None:
        """Bring network and optimizer to where an earlier run of this history left them."""
        history = self.result.history
        wanted = [dict(group) for group in self.optimizer.param_groups]
        trained = deepcopy(dict(self.result.guide.state_dict()))
        without = [move._replace(epoch=0) for move in history.admitted]
        for epoch, moves in groupby(without + history.removed, key=attrgetter("epoch")):
            self.remove(_members(moves), round(epoch * self.schedule.parts))
            if epoch == 0 and history.admitted:
                record = round(history.admitted[0].epoch * self.schedule.parts)
                self.admit(_members(history.admitted), record, trained)
        state = deepcopy(earlier.optimizer_state)  # torch shares tensors
        self.optimizer.load_state_dict(self.live.live_state(state))
        renew_rates(self.optimizer.param_groups, wanted)

    def store(self) -> None:
        """Bring the result up to date with the live network and the optimizer."""
        self.live.store()
        self.result.optimizer_state = self.live.whole_state(self.optimizer.state_dict())

    def go_back(self, boundary: Boundary) -> None:
        """Be again what it was at the end of a block."""
        boundary.restore(self.result.history)
        self.live, self.optimizer = boundary.live, boundary.optimizer

    def freeze_gates(self) -> None:
        """Keep all gates where they are: their rate is 0 from now on, also in the optimizer's saved state."""
        for group in self.optimizer.param_groups:
            if group["kind"].startswith("gates."):
                group["base_rate"] = 0.0

    def shrink(self) -> None:
        """Remove what has stayed closed, once it is worth a disturbance."""
        history, options, live = self.result.history, self.result.options, self.live
        if options.remove_below is not None:
            due = due_for_removal(
                history, self.result.model, options.remove_below, options.remove_after
            )
            left = live.narrowest.num_weights
            if due and live.size_without(due) <= (1 - _WORTH_REMOVING) * left:
                history.removed += live.removals(due, history)
                self.remove(due, len(history))

    def remove(self, due: Mapping[str, Sequence[int]], record: int = 0) -> None:
        """Close members, given by their original indices, after so many records, and make the network smaller by them.

        It keeps its size while a step built for it would not repay a new one; whether it does is decided by counts, so
        that a resumed run decides alike.
        """
        live = self.live
        live.close(due)
        steps = self.schedule.steps - self.schedule.steps_of(record)[0]
        now, then = live.model.description, live.narrowest
        kind = best_kind(self.kinds, then, self.rows, steps, self.where)
        changed = (self.kind, now), (kind, then)
        narrows = record == 0 or repays(*changed, self.rows, steps, self.where)
        inputs = then.inputs.name
        comes_in = self.schedule.admits_after(record) and inputs in live.kept
        self._renew(kind if narrows else None, {inputs: _SPARE} if comes_in else {})

    def admit(
        self,
        back: Mapping[str, Sequence[int]],
        record: int,
        trained: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Let predictors that the run began without, given by their original indices, in after so many records.

        They take the places of spare ones as far as there are any. As many as before leave the shapes as they are, so
        that torch's compiler cache has the step.

        :param trained: parameters of the guide, of a run that let them in before; None starts theirs anew.
        """
        live, (name,) = self.live, back
        before, kind = live.model.description, self.kind
        live.admit(back, trained)
        steps = self.schedule.steps - self.schedule.steps_of(record)[0]
        spare = max(0, before[name].size - len(live.kept[name]))
        best = best_kind(self.kinds, live.narrowest, self.rows, steps, self.where)
        self._renew(best, {name: spare})
        if live.model.description.num_weights == before.num_weights:
            self.kind = kind

    def _renew(self, kind: str | None, spare: Mapping[str, int]) -> None:
        """Bring optimizer and data up to date with the live network.

        :param kind: of the steps of a network that is made anew, of the members it has; None keeps its size.
        :param spare: closed members that it has besides, by group.
        """
        live = self.live
        state = live.whole_state(self.optimizer.state_dict())
        if kind is not None:
            self.kind = kind
            live.narrow(spare)
            pyro.clear_param_store()  # the run's own, where the new guide takes over the names
            self.optimizer = optimizer_of(
                live.guide, self.result.options, self.num_data, self.device
            )
            inputs = live.whole_model.description.inputs
            self.minibatches.keep(
                inputs.columns.indices(live.places) if inputs.name in live.places else None
            )
        self.optimizer.load_state_dict(live.live_state(state))

    def _built_step(self) -> EagerStep:
        """The step for the live network, of the kind that repays, or of a simpler one that can be built."""
        options, model = self.result.options, self.live.model
        particles = options.particles(self.num_data)
        locally = options.draws_locally(model.description)
        elbo = AnalyticELBO(particles, local_reparameterization=locally)
        if self.ranks.size > 1:
            shared = (self.ranks, self.minibatches.rows)
            elbo = SharedELBO(*shared, particles, local_reparameterization=locally)
        shrinks = options.remove_below is not None or self.live.kept
        present = {
            group.name: self.live.present[group.name]
            for group in model.description.groups
            if group.name in self.live.present and shrinks and may_lose_members(model, group.name)
        }
        rounded = options.precision == "bf16"
        random = random_state(self.device)
        x, y = self.minibatches.example()
        set_random_state(random, self.device)  # augmentation may have drawn
        while True:
            step = STEPS[self.kind](
                model, self.live.guide, elbo, self.result.num_data, present, rounded
            )
            if isinstance(step, TracedStep):
                step.replays = options.cuda_graphs
            try:
                step.prepare(x, y)
                return step
            except ConfigurationError as error:
                simpler = self.kinds[: self.kinds.index(self.kind)]
                if not simpler:
                    raise
                _log.info("%s; a simpler step is taken.", error)
                self.kinds, self.kind = simpler, simpler[-1]


def _members(moves: Iterable[Removal]) -> dict[str, list[int]]:
    """Members that leave or come in together, ``{group: [members]}``."""
    members: dict[str, list[int]] = {}
    for move in moves:
        members.setdefault(move.group, []).append(move.node)
    return members
