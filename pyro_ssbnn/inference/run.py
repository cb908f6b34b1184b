"""The training loop: one run over a fit in the making."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

import pyro
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_ssbnn.errors import ConfigurationError, TrainingInterrupted
from pyro_ssbnn.inference.boundary import Boundary
from pyro_ssbnn.inference.checkpoints import Checkpoints
from pyro_ssbnn.inference.costs import best_kind, repays
from pyro_ssbnn.inference.elbo import AnalyticELBO
from pyro_ssbnn.inference.graph import has_compiler
from pyro_ssbnn.inference.guards import FiniteGuard, Patience
from pyro_ssbnn.inference.history import History, Removal
from pyro_ssbnn.inference.minibatches import Minibatches
from pyro_ssbnn.inference.optimizer import optimizer_of
from pyro_ssbnn.inference.preparation import Augmentation
from pyro_ssbnn.inference.result import Fit
from pyro_ssbnn.inference.resumption import renew_rates
from pyro_ssbnn.inference.schedule import Schedule, set_rates
from pyro_ssbnn.inference.search import Search
from pyro_ssbnn.inference.shrinking import LiveNetwork, due_for_removal, may_lose_members
from pyro_ssbnn.inference.step import STEPS, EagerStep
from pyro_ssbnn.isolation import random_state, set_random_state

__all__ = ["Run"]

_BETWEEN_MARKS = 50  # times what marking the end of an epoch costs, so that it costs at most 2 %
_WORTH_REMOVING = 0.1  # share of the weights below which a removal saves less than it disturbs
_log = logging.getLogger(__name__)


class _Record(NamedTuple):
    """One row of the history to be, still on the device."""

    means: Tensor
    kl_weight: float
    seconds: float
    inclusion: dict[str, Tensor]


class Run:
    """One run of the training loop over a :class:`Fit` in the making.

    :param x: predictors ``[N, p]`` on the device of the run.
    :param y: targets, there too.
    :param augment: see :func:`~pyro_ssbnn.fit`.
    :param resume: see :func:`~pyro_ssbnn.fit`.
    :param checkpoints: what is written of the run while it lasts; by default nothing.
    """

    def __init__(
        self,
        result: Fit,
        x: Tensor,
        y: Tensor,
        *,
        augment: Augmentation | None = None,
        resume: Fit | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.result, self.x = result, x
        self.checkpoints = checkpoints or Checkpoints(None)
        options = result.options
        self.schedule = Schedule(options, len(x), result.model.description)
        self.minibatches = Minibatches(x, y, options, augment)
        self.live = LiveNetwork(result.model, result.guide)
        self.optimizer = optimizer_of(result.guide, options, len(x), x.device)
        self.kl_weight = x.new_ones(())
        self.rows = self.minibatches.rows * options.particles(len(x))
        description = result.model.description
        self.kinds = options.step_kinds(description, has_compiler(x.device))
        self.kind = best_kind(self.kinds, description, self.rows, self.schedule.steps)
        self.start = time.perf_counter()
        self.random = random_state(x.device)  # at the end of the last block
        self._unread: list[_Record] = []
        self._boundary: Boundary | None = None
        self._next_mark = self.start
        self._in_block = False
        if resume is not None:
            self._resume(resume)
        history = result.history
        self._first_step = self.schedule.steps_of(len(history))[0]
        self.guard = FiniteGuard(self.schedule.epoch_steps, self._first_step)
        self.patience = Patience(options, len(x))
        self.patience.watch(history.elbo, history.kl_weight)
        self.search = Search(self, self._first_step)
        if resume is None:
            self.search.begin()

    def _resume(self, earlier: Fit) -> None:
        history = self.result.history = deepcopy(earlier.history)
        self.start -= history.seconds[-1] if len(history) else 0.0
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
        set_random_state(earlier.random_state, self.x.device)
        self.random = random_state(self.x.device)

    def train(self, progress: bool, callback: Callable[[int, Fit], None] | None) -> None:
        """Run the remaining epochs; whatever ends them, the result is whole, and its model in evaluation mode.

        :raises TrainingInterrupted: for a ``KeyboardInterrupt``.
        """
        model = self.result.model.train()
        try:
            self.store()
            self.checkpoints.begin(self.result)
            self._train(progress, callback)
            self.store()
            self.checkpoints.write(self.result)
        except BaseException as error:
            self._return()
            if isinstance(error, KeyboardInterrupt):
                self.checkpoints.write(self.result)
                done = self.result.history.epoch
                raise TrainingInterrupted(
                    f"training was interrupted after {done:g} of {self.schedule.epochs} epochs; the result as of then"
                    " is this exception's .result, and fit(..., resume=error.result) goes on from it.",
                    self.result,
                ) from error
            raise
        finally:
            model.train(False)

    def _train(self, progress: bool, callback: Callable[[int, Fit], None] | None) -> None:
        history, schedule = self.result.history, self.schedule
        if self.patience.exhausted:  # that of the run it goes on from
            return
        self._set_step()
        done = len(history)
        unit = "epoch" if schedule.parts == 1 else "part"
        bar = tqdm(total=schedule.records, initial=done, disable=not progress, unit=unit)
        with bar:
            for record in range(done, schedule.records):
                if not self._unread:
                    self._mark()
                self._in_block = True
                self._train_record(record)
                decides = (record + 1) % schedule.block == 0
                if not decides and callback is None and record + 1 < schedule.records:
                    continue
                bar.update(len(self._unread))
                self._read()
                if decides:
                    self.search.after_block(record)
                    self._shrink()
                self.search.after_record(record)
                self.random = random_state(self.x.device)
                self._in_block = False
                bar.set_postfix_str(_status(history), refresh=False)
                if callback is not None:
                    self.store()
                    callback(record + 1, self.result)
                    set_random_state(self.random, self.x.device)
                if self.checkpoints.due:
                    self.store()
                    self.checkpoints.write(self.result)
                if decides and self.patience.exhausted:
                    break
        better = self.search.better()
        if better is not None:
            self._go_back(better)

    def _mark(self) -> None:
        """Note the end of a block, unless one has just been noted."""
        start = time.perf_counter()
        if self._boundary is None or start >= self._next_mark:
            self._boundary = Boundary(self.live, self.optimizer, self.result.history, self.random)
            now = time.perf_counter()
            self._next_mark = now + _BETWEEN_MARKS * (now - start)

    def _return(self) -> None:
        """Go back to the last end of a block that was noted, if in the midst of one; a step may be half done."""
        if self._in_block and self._boundary is not None:
            self._go_back(self._boundary)
        self.store()

    def _go_back(self, boundary: Boundary) -> None:
        boundary.restore(self.result.history)
        self.live, self.optimizer, self.random = (
            boundary.live,
            boundary.optimizer,
            boundary.random,
        )

    def freeze_gates(self) -> None:
        """Keep all gates where they are: their rate is 0 from now on, also in the optimizer's saved state."""
        for group in self.optimizer.param_groups:
            if group["kind"].startswith("gates."):
                group["base_rate"] = 0.0

    def _train_record(self, record: int) -> None:
        """Train an epoch, or the part of it that is one record of the history; nothing is read from the device."""
        options, step, schedule = self.result.options, self.step, self.schedule
        first, last = schedule.steps_of(record)
        total = self.x.new_zeros(())
        for number, (x, y) in enumerate(self.minibatches.of_steps(first, last), first):
            self._follow_schedule(number)
            terms = step(x, y, self.kl_weight)
            if options.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(self.live.guide.parameters(), options.clip_norm)
            self.optimizer.step()
            self.guard.watch((*step.observed, *step.latent), terms)
            total = total + terms
        means, weight = total / (last - first), schedule.kl_weight(first)
        seconds = time.perf_counter() - self.start
        self._unread.append(_Record(means, weight, seconds, self.live.inclusion()))

    def _follow_schedule(self, step: int) -> None:
        """Set rates, KL weight and temperature for a step (from 0)."""
        schedule = self.schedule
        factor, held = schedule.rate_factor(step), schedule.held(step)
        set_rates(self.optimizer.param_groups, factor, held)
        self.kl_weight.fill_(schedule.kl_weight(step))
        if schedule.anneals or step == self._first_step:
            for guide in (self.live.guide, self.result.guide):
                guide.temperature.fill_(schedule.temperature(step))

    def _shrink(self) -> None:
        """Remove what has stayed closed, once it is worth a disturbance; see to it that the step is up to date."""
        history, options, live = self.result.history, self.result.options, self.live
        if options.remove_below is not None:
            due = due_for_removal(
                history, self.result.model, options.remove_below, options.remove_after
            )
            left = live.narrowest.num_weights
            if due and live.size_without(due) <= (1 - _WORTH_REMOVING) * left:
                history.removed += live.removals(due, history)
                self.remove(due, len(history))
        self._set_step()

    def remove(self, due: Mapping[str, Sequence[int]], record: int = 0) -> None:
        """Close members, given by their original indices, after so many records, and make the network smaller by them.

        It keeps its size while a step built for it would not repay a new one; whether it does is decided by counts, so
        that a resumed run decides alike.
        """
        live = self.live
        live.close(due)
        steps = self.schedule.steps - self.schedule.steps_of(record)[0]
        now, then = live.model.description, live.narrowest
        kind = best_kind(self.kinds, then, self.rows, steps)
        self._renew(
            kind
            if record == 0 or repays((self.kind, now), (kind, then), self.rows, steps)
            else None
        )

    def admit(
        self,
        back: Mapping[str, Sequence[int]],
        record: int,
        trained: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Let members that the run began without, given by their original indices, in after so many records.

        :param trained: parameters of the guide, of a run that let them in before; None starts theirs anew.
        """
        self.live.admit(back, trained)
        steps = self.schedule.steps - self.schedule.steps_of(record)[0]
        self._renew(best_kind(self.kinds, self.live.narrowest, self.rows, steps))

    def _renew(self, kind: str | None) -> None:
        """Bring optimizer and data up to date with the live network.

        :param kind: of the steps of a network that is made anew, of the members it has; None keeps its size.
        """
        live = self.live
        state = live.whole_state(self.optimizer.state_dict())
        if kind is not None:
            self.kind = kind
            live.narrow()
            pyro.clear_param_store()  # the run's own, where the new guide takes over the names
            self.optimizer = optimizer_of(
                live.guide, self.result.options, len(self.x), self.x.device
            )
            inputs = live.whole_model.description.inputs
            self.minibatches.keep(
                inputs.columns.indices(live.kept) if inputs.name in live.kept else None
            )
        self.optimizer.load_state_dict(live.live_state(state))

    def _set_step(self) -> None:
        """Build the step for the live network, unless there is one."""
        current: EagerStep | None = getattr(self, "step", None)
        if current is not None and current.guide is self.live.guide and not current.is_stale():
            return
        options, model = self.result.options, self.live.model
        elbo = AnalyticELBO(
            options.particles(len(self.x)),
            local_reparameterization=options.draws_locally(model.description),
        )
        shrinks = options.remove_below is not None or self.live.kept
        present = {
            group.name: self.live.present[group.name]
            for group in model.description.groups
            if group.gated and shrinks and may_lose_members(model, group.name)
        }
        random = random_state(self.x.device)
        x, y = next(self.minibatches.of_steps(0, 1))
        set_random_state(random, self.x.device)  # augmentation may have drawn
        while True:
            step = STEPS[self.kind](model, self.live.guide, elbo, self.result.num_data, present)
            try:
                step.prepare(x, y)
                break
            except ConfigurationError as error:
                simpler = self.kinds[: self.kinds.index(self.kind)]
                if not simpler:
                    raise
                _log.info("%s; a simpler step is taken.", error)
                self.kinds, self.kind = simpler, simpler[-1]
        self.step: EagerStep = step

    def _read(self) -> None:
        """Bring the records of a block to the history: one reading from the device for each kind of number."""
        records, self._unread = self._unread, []
        history, observed = self.result.history, len(self.step.observed)
        rows = torch.stack([record.means for record in records]).tolist()
        bounds = []
        for record, means in zip(records, rows, strict=True):
            history.log_likelihood.append(sum(means[:observed]))
            history.kl.append(sum(means[observed:]) + self.live.removed_kl)
            history.kl_weight.append(record.kl_weight)
            history.seconds.append(record.seconds)
            bounds.append(history.log_likelihood[-1] - history.kl[-1])
        for name in records[0].inclusion:
            inclusion = torch.stack([record.inclusion[name] for record in records]).float().cpu()
            history.inclusion.setdefault(name, []).extend(inclusion.numpy())
        self.guard.check()
        self.patience.watch(bounds, history.kl_weight[-len(bounds) :])

    def store(self) -> None:
        """Bring the result up to date with the live network and the optimizer."""
        self.live.store()
        self.result.optimizer_state = self.live.whole_state(self.optimizer.state_dict())
        self.result.random_state = self.random


def _members(moves: Iterable[Removal]) -> dict[str, list[int]]:
    """Members that leave or come in together, ``{group: [members]}``."""
    members: dict[str, list[int]] = {}
    for move in moves:
        members.setdefault(move.group, []).append(move.node)
    return members


def _status(history: History) -> str:
    """The last epoch; to count over all epochs after each one would be quadratic in their number."""
    counts = [f"{name} {(p[-1] > 0.5).sum()}" for name, p in history.inclusion.items()]
    log_likelihood, kl = history.log_likelihood[-1], history.kl[-1]
    terms = f"ELBO {log_likelihood - kl:.4g} = {log_likelihood:.4g} - KL {kl:.4g}"
    return f"{terms}; active {' '.join(counts)}"
