"""The training loop: one run over a fit in the making."""

from __future__ import annotations

import time
from collections.abc import Callable
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_ssbnn.display import plain
from pyro_ssbnn.errors import TrainingInterrupted
from pyro_ssbnn.inference.boundary import Boundary
from pyro_ssbnn.inference.checkpoints import Checkpoints
from pyro_ssbnn.inference.engine import Engine
from pyro_ssbnn.inference.guards import FiniteGuard, Patience
from pyro_ssbnn.inference.history import History
from pyro_ssbnn.inference.minibatches import Minibatches
from pyro_ssbnn.inference.preparation import products_of
from pyro_ssbnn.inference.ranks import Ranks
from pyro_ssbnn.inference.result import Fit
from pyro_ssbnn.inference.schedule import set_rates
from pyro_ssbnn.inference.search import Search
from pyro_ssbnn.isolation import random_state, set_random_state

__all__ = ["Run"]

_BETWEEN_MARKS = 50  # times what marking the end of an epoch costs, so that it costs at most 2 %


class _Record(NamedTuple):
    """One row of the history to be, still on the device."""

    means: Tensor
    kl_weight: float
    seconds: float
    inclusion: dict[str, Tensor]


class Run:
    """One run of the training loop over a :class:`Fit` in the making.

    :param minibatches: its data, on the device of the run.
    :param resume: see :func:`~pyro_ssbnn.fit`.
    :param checkpoints: what is written of the run while it lasts; by default nothing.
    :param ranks: the processes of the run; by default this one alone.
    """

    def __init__(
        self,
        result: Fit,
        minibatches: Minibatches,
        *,
        resume: Fit | None = None,
        checkpoints: Checkpoints | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.result, self.ranks = result, ranks or Ranks()
        self.checkpoints = checkpoints or Checkpoints(None)
        self.schedule = result.schedule
        self.engine = Engine(result, minibatches, self.ranks)
        self.device = self.engine.device
        self.kl_weight = minibatches.x.new_ones(())
        self.start = time.perf_counter()
        self.random = random_state(self.device)  # at the end of the last block
        self._unread: list[_Record] = []
        self._boundary: Boundary | None = None
        self._next_mark = self.start
        self._in_block = False
        if resume is not None:
            result.history = deepcopy(resume.history)
            self.start -= resume.history.seconds[-1] if len(resume.history) else 0.0
            self.engine.resume(resume)
            set_random_state(resume.random_state, self.device)
            self.random = random_state(self.device)
        history = result.history
        self._first_step = self.schedule.steps_of(len(history))[0]
        self.guard = FiniteGuard(self.schedule.epoch_steps, self._first_step)
        self.patience = Patience(result.options, minibatches.num_data, self.schedule.first_free)
        self.patience.watch(history.elbo, history.kl_weight)
        self.search = Search(self.engine, self._first_step)
        if resume is None:
            self.search.begin()

    def train(self, progress: bool, callback: Callable[[int, Fit], None] | None) -> None:
        """Run the remaining epochs; whatever ends them, the result is whole, and its model in evaluation mode.

        :raises TrainingInterrupted: for a ``KeyboardInterrupt``.
        :raises RankError: when another process of the run has ended; the checkpoint is as of the last end of an epoch.
        """
        model = self.result.model.train()
        try:
            self._store()
            self.checkpoints.begin(self.result)
            with products_of(self.result.options):
                self._train(progress, callback)
            self._store()
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
            if self.ranks.size > 1:
                self.checkpoints.write(self.result)
                lost = self.ranks.lost(error)
                if lost is not None and lost is not error:
                    raise lost from error
            raise
        finally:
            model.train(False)

    def _train(self, progress: bool, callback: Callable[[int, Fit], None] | None) -> None:
        history, schedule = self.result.history, self.schedule
        if self.patience.exhausted:  # that of the run it goes on from
            return
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
                given = self.engine.minibatches.digest
                if given is not None and (decides or record + 1 == schedule.records):
                    self.ranks.require_same_rows(given)
                if decides:
                    self.ranks.require_same(self.engine.live.guide.parameters())
                    self.search.after_block(record)
                    self.engine.shrink()
                    self.engine.update_step()
                self.search.after_record(record)
                self.random = random_state(self.device)
                self._in_block = False
                bar.set_postfix_str(_status(history), refresh=False)
                if callback is not None:
                    self._store()
                    callback(record + 1, self.result)
                    set_random_state(self.random, self.device)
                if self.checkpoints.due:
                    self._store()
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
            self._boundary = Boundary(
                self.engine.live, self.engine.optimizer, self.result.history, self.random
            )
            now = time.perf_counter()
            self._next_mark = now + _BETWEEN_MARKS * (now - start)

    def _return(self) -> None:
        """Go back to the last end of a block that was noted, if in the midst of one; a step may be half done."""
        if self._in_block and self._boundary is not None:
            self._go_back(self._boundary)
        self._store()

    def _go_back(self, boundary: Boundary) -> None:
        self.engine.go_back(boundary)
        self.random = boundary.random

    def _train_record(self, record: int) -> None:
        """Train an epoch, or the part of it that is one record of the history; nothing is read from the device."""
        options, engine, schedule = self.result.options, self.engine, self.schedule
        step = engine.step
        first, last = schedule.steps_of(record)
        self.ranks.reseed(options.seed, record, self.device)
        each = []  # put together at the end: a sum a step would cost a small step on a GPU a tenth
        for number, (x, y) in enumerate(engine.minibatches.of_steps(first, last), first):
            self._follow_schedule(number)
            terms = step(x, y, self.kl_weight)
            rows = engine.minibatches.rows
            each.append(self.ranks.step(terms, engine.live.guide.parameters(), rows))
            if options.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(engine.live.guide.parameters(), options.clip_norm)
            engine.optimizer.step()
        terms = torch.stack(each)
        self.guard.watch((*step.observed, *step.latent), terms)
        means, weight = terms.mean(0), schedule.kl_weight(first)
        seconds = time.perf_counter() - self.start
        self._unread.append(_Record(means, weight, seconds, engine.live.inclusion()))

    def _follow_schedule(self, step: int) -> None:
        """Set rates, KL weight and temperature for a step (from 0)."""
        schedule = self.schedule
        factor, held = schedule.rate_factor(step), schedule.held(step)
        set_rates(self.engine.optimizer.param_groups, factor, held)
        self.kl_weight.fill_(schedule.kl_weight(step))
        if schedule.anneals or step == self._first_step:
            for guide in (self.engine.live.guide, self.result.guide):
                guide.temperature.fill_(schedule.temperature(step))

    def _read(self) -> None:
        """Bring the records of a block to the history: one reading from the device for each kind of number."""
        records, self._unread = self._unread, []
        history, observed = self.result.history, len(self.engine.step.observed)
        rows = torch.stack([record.means for record in records]).tolist()
        bounds = []
        for record, means in zip(records, rows, strict=True):
            history.log_likelihood.append(sum(means[:observed]))
            history.kl.append(sum(means[observed:]) + self.engine.live.removed_kl)
            history.kl_weight.append(record.kl_weight)
            history.seconds.append(record.seconds)
            bounds.append(history.log_likelihood[-1] - history.kl[-1])
        for name in records[0].inclusion:
            inclusion = torch.stack([record.inclusion[name] for record in records]).float().cpu()
            history.inclusion.setdefault(name, []).extend(inclusion.numpy())
        self.guard.check()
        self.patience.watch(bounds, history.kl_weight[-len(bounds) :])

    def _store(self) -> None:
        self.engine.store()
        self.result.random_state = self.random


def _status(history: History) -> str:
    """The last epoch; to count over all epochs after each one would be quadratic in their number."""
    counts = [f"{name} {(p[-1] > 0.5).sum()}" for name, p in history.inclusion.items()]
    log_likelihood, kl = history.log_likelihood[-1], history.kl[-1]
    terms = f"ELBO {plain(log_likelihood - kl)} = {plain(log_likelihood)} - KL {plain(kl)}"
    return f"{terms}; active {' '.join(counts)}"
