"""``fit``: stochastic variational inference for the package's networks, or for any Pyro model with a description."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import NamedTuple

import pyro
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_ssbnn.errors import ConfigurationError, TrainingInterrupted
from pyro_ssbnn.guides import StructuredGuide
from pyro_ssbnn.inference.boundary import Boundary
from pyro_ssbnn.inference.elbo import AnalyticELBO
from pyro_ssbnn.inference.guards import (
    FiniteGuard,
    Patience,
    check_data,
    collapsed_layers,
    warn_of_collapse,
)
from pyro_ssbnn.inference.history import History
from pyro_ssbnn.inference.optimizer import optimizer_of
from pyro_ssbnn.inference.options import TrainingOptions
from pyro_ssbnn.inference.preparation import Augmentation, augmented, placed, require_trainable
from pyro_ssbnn.inference.resumption import renew_rates, require_resumable
from pyro_ssbnn.inference.schedule import Schedule, row_order, set_rates
from pyro_ssbnn.inference.shrinking import LiveNetwork, due_for_removal
from pyro_ssbnn.inference.start import GuideMaker, Start, is_guide, resumed_start, start_of
from pyro_ssbnn.inference.step import CompiledStep, EagerStep
from pyro_ssbnn.isolation import isolated, random_state, set_random_state
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.match import require_match
from pyro_ssbnn.structure.network import Network

__all__ = ["Fit", "Run", "fit"]

_BETWEEN_MARKS = 50  # times what marking the end of an epoch costs, so that it costs at most 2 %
_WORTH_REMOVING = 0.1  # share of the weights below which a removal saves less than it disturbs
# The same where the step is compiled: a new network then costs ten seconds or more.
_WORTH_COMPILING = 0.3


@dataclass
class Fit:
    """A fitted network: model, guide, and all that is needed to go on training.

    :param model: the network, with the running statistics of this run.
    :param guide: its guide, on the device and in the dtype of the run.
    :param options: the run's options.
    :param history: one row an epoch.
    :param num_data: observations fitted to.
    :param optimizer_state: ``state_dict`` of the optimizer.
    :param random_state: state of the random number generators, ``{device type: uint8 tensor}``.
    :param start: how it began, beside what options and guide tell.
    """

    model: Network
    guide: Guide
    options: TrainingOptions
    history: History
    num_data: int
    optimizer_state: dict = field(default_factory=dict)
    random_state: dict[str, Tensor] = field(default_factory=dict)
    start: Start = field(default_factory=Start)

    def __repr__(self) -> str:
        kinds = f"{type(self.guide).__name__} of {type(self.model).__name__}"
        planned, parts = self.options.num_epochs(self.num_data), self.options.parts(self.num_data)
        first = f"Fit of a {kinds} to {self.num_data:,} rows, epoch {len(self.history) / parts:g} of {planned}"
        network = f"  {self.model.description.in_words()}"
        return "\n".join([first, network, *self.history.last_in_words()])

    @property
    def collapsed(self) -> list[str]:
        """Gated layers without an active node."""
        return collapsed_layers(self.model.description, self.guide.inclusion())

    def require_match(self, owner: str) -> None:
        """Raise :class:`ConfigurationError` unless network, guide and history belong together.

        :param owner: the public function, for the message.
        """
        require_match(owner, self.model, self.guide)
        self.history.require_match(owner, self.model.description)


def fit(
    model: Network,
    x: Tensor,
    y: Tensor,
    options: TrainingOptions | None = None,
    *,
    guide: Guide | GuideMaker | None = None,
    resume: Fit | None = None,
    augment: Augmentation | None = None,
    progress: bool = True,
    callback: Callable[[int, Fit], None] | None = None,
) -> Fit:
    """Fit the guide of a network to data.

    What comes out depends on the arguments alone. The model given stays as it is: the result's model is a copy, on the
    device and in the dtype of the run, in evaluation mode. Where there are batch norms only that copy has the run's
    running statistics; they start from those of the model given, so after ``fit_deterministic(model, ...)`` from the
    deterministic network's.

    :param model: the network, for example :class:`~pyro_ssbnn.models.MLP`.
    :param x: predictors ``[N, p]``, real numbers of any dtype; converted and moved to the device once.
    :param y: targets, ``[N]`` (``[N, K]`` for several).
    :param options: see :class:`TrainingOptions`.
    :param guide: a guide to train; by default a new :class:`StructuredGuide`. It is trained in place, and moved to the
        device and dtype of the run. Or what makes one of the network, such as the class :class:`CoupledGuide`: it then
        starts from the run's seed, too.
    :param resume: an earlier result to continue from, up to ``options.epochs`` in all; it stays as it is. Continued
        and uninterrupted runs are the same bit by bit when their options are. The remaining epochs follow the options
        given; seed, dtype, optimizer, batch size, ``hard_gates`` and ``initial_inclusion`` must be those of the run.
    :param augment: changes the predictors of every minibatch, ``[rows, p]`` to ``[rows, p]``, on their device, such as
        :class:`~pyro_ssbnn.ImageAugmentation`. Random numbers from torch's own generators keep runs repeatable.
    :param progress: show a progress bar.
    :param callback: called after each epoch (each part of it that is a row of the history) with its number (from 1) and
        the unfinished result. Random numbers that it draws do not change the run.
    :raises ConfigurationError: for both ``guide`` and ``resume``; for a guide or a run of another network; for options
        that a resumed run cannot change, or another number of rows.
    :raises DataError: for data that do not fit the model.
    :raises NonFiniteLossError: when the loss is no longer a finite number; the message names the site.
    :raises TrainingInterrupted: a ``KeyboardInterrupt`` with the result so far. Whatever ends the run early, a guide
        that was given is left as of the end of an epoch, or of a few where they have few steps.
    :warns CollapseWarning: when a layer ends without an active node.
    """
    options = options or TrainingOptions()
    check_data(model, x, y)
    if resume is not None and guide is not None:
        raise ConfigurationError(
            "fit: give resume or guide, not both; resume brings its own guide."
        )
    if resume is not None:
        resume.require_match("fit")
        before = (resume.model, resume.options, resume.num_data)
        require_resumable(model, options, len(x), before)
    elif guide is not None and is_guide(guide):
        require_match("fit", model, guide)
    x, y = placed(model.likelihood, x, y, options)
    with isolated(options.seed, x, grad=True):
        if resume is not None:
            guide = deepcopy(resume.guide)
        elif guide is None:
            guide = StructuredGuide(
                model,
                hard=options.hard_gates,
                temperature=options.temperature[0],
                initial_inclusion=options.initial_inclusion,
            )
        elif not is_guide(guide):
            guide = guide(model)
            require_match("fit", model, guide)
        require_trainable(guide)
        if resume is None:
            start = start_of(guide, model, augment)
        else:
            start = resumed_start(resume.start, augment, resume.options, options)
        guide.to(x)
        model = deepcopy(model).to(x)
        if resume is not None:
            model.load_state_dict(resume.model.state_dict())
        result = Fit(model, guide, options, History(), len(x), start=start)
        Run(result, x, y, augment=augment, resume=resume).train(progress, callback)
    warn_of_collapse(result.collapsed)
    return result


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
    :param augment: see :func:`fit`.
    :param resume: see :func:`fit`.
    """

    def __init__(
        self,
        result: Fit,
        x: Tensor,
        y: Tensor,
        *,
        augment: Augmentation | None = None,
        resume: Fit | None = None,
    ) -> None:
        self.result, self.x, self.y, self.augment = result, x, y, augment
        options = result.options
        self.schedule = Schedule(options, len(x))
        self.batch = options.batch_rows(len(x))
        self.live = LiveNetwork(result.model, result.guide)
        self.columns: Tensor | None = None  # predictors left, None for all
        self.live_x = x
        self.optimizer = optimizer_of(result.guide, options, len(x), x.device)
        self.kl_weight = x.new_ones(())
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

    def _resume(self, earlier: Fit) -> None:
        history = self.result.history = deepcopy(earlier.history)
        self.start -= history.seconds[-1] if len(history) else 0.0
        removed: dict[str, list[int]] = {}
        for removal in history.removed:
            removed.setdefault(removal.group, []).append(removal.node)
        wanted = [dict(group) for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(deepcopy(earlier.optimizer_state))  # torch shares tensors
        renew_rates(self.optimizer.param_groups, wanted)
        if removed:
            self.remove(removed)
        set_random_state(earlier.random_state, self.x.device)
        self.random = random_state(self.x.device)

    def train(self, progress: bool, callback: Callable[[int, Fit], None] | None) -> None:
        """Run the remaining epochs; whatever ends them, the result is whole, and its model in evaluation mode.

        :raises TrainingInterrupted: for a ``KeyboardInterrupt``.
        """
        model = self.result.model.train()
        try:
            self._train(progress, callback)
            self._store()
        except BaseException as error:
            self._return()
            if isinstance(error, KeyboardInterrupt):
                done = len(self.result.history) / self.schedule.parts
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
                    self._shrink()
                self.random = random_state(self.x.device)
                self._in_block = False
                bar.set_postfix_str(_status(history), refresh=False)
                if callback is not None:
                    self._store()
                    callback(record + 1, self.result)
                    set_random_state(self.random, self.x.device)
                if decides and self.patience.exhausted:
                    break

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
            self._boundary.restore(self.result.history)
            self.live, self.optimizer = self._boundary.live, self._boundary.optimizer
            self.random = self._boundary.random
        self._store()

    def freeze_gates(self) -> None:
        """Keep all gates where they are: their rate is 0 from now on, also in the optimizer's saved state."""
        for group in self.optimizer.param_groups:
            if group["kind"] == "gates":
                group["base_rate"] = 0.0

    def _train_record(self, record: int) -> None:
        """Train an epoch, or the part of it that is one record of the history; nothing is read from the device."""
        options, step, schedule = self.result.options, self.step, self.schedule
        first, last = schedule.steps_of(record)
        total = self.x.new_zeros(())
        for number, (x, y) in enumerate(self._minibatches(first, last), first):
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
        set_rates(self.optimizer.param_groups, schedule.rate_factor(step))
        self.kl_weight.fill_(schedule.kl_weight(step))
        if schedule.anneals or step == self._first_step:
            for guide in (self.live.guide, self.result.guide):
                guide.temperature.fill_(schedule.temperature(step))

    def _minibatches(self, first: int, last: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Minibatches of these steps; each epoch has its own order of the rows, by the run's seed."""
        whole = self.live_x if self.augment is None else self.x
        if self.batch == len(self.x):
            for _ in range(first, last):
                yield self._changed(whole), self.y
            return
        epoch, start = divmod(first, self.schedule.epoch_steps)
        order = row_order(self.result.options.seed, epoch, self.x)
        # a random remainder waits for the next epoch
        part = order[start * self.batch : (start + last - first) * self.batch]
        for rows in part.split(self.batch):
            yield self._changed(whole.index_select(0, rows)), self.y.index_select(0, rows)

    def _changed(self, x: Tensor) -> Tensor:
        """Minibatch as the live network reads it; augmentation sees all predictors."""
        if self.augment is None:
            return x
        x = augmented(self.augment, x)
        return x if self.columns is None else x.index_select(1, self.columns)

    def _shrink(self) -> None:
        """Remove what has stayed closed, once that saves enough of the work."""
        history, options = self.result.history, self.result.options
        if options.remove_below is not None:
            due = due_for_removal(
                history, self.result.model, options.remove_below, options.remove_after
            )
            compiled = isinstance(self.step, CompiledStep)
            worth = _WORTH_COMPILING if compiled else _WORTH_REMOVING
            if due and self.live.size_without(due) <= (1 - worth) * self.live.size:
                history.removed += self.live.removals(due, history)
                self.remove(due)
        self._set_step()

    def remove(self, due: Mapping[str, Sequence[int]]) -> None:
        """Take members, given by their original indices, out of network, guide, optimizer and data."""
        options, live = self.result.options, self.live
        state = live.whole_state(self.optimizer.state_dict())
        live.remove(due)
        pyro.clear_param_store()  # the run's own, where the new guide takes over the names
        self.optimizer = optimizer_of(live.guide, options, len(self.x), self.x.device)
        self.optimizer.load_state_dict(live.live_state(state))
        kept = live.kept.get(live.whole_model.description.inputs.name)
        self.columns = None if kept is None else kept.to(self.x.device)
        if self.columns is not None and self.augment is None:
            self.live_x = self.x.index_select(1, self.columns)

    def _set_step(self) -> None:
        """Choose the step for the live network: compiled where asked for, but not while the network still shrinks."""
        options, history = self.result.options, self.result.history
        shrinks = options.remove_below is not None and self.result.model.description.gate_groups
        last = history.removed[-1].epoch if history.removed else 0
        settled = len(history) >= max(self.schedule.warmup_records, last + options.remove_after)
        kind = CompiledStep if options.compile and (settled or not shrinks) else EagerStep
        current = getattr(self, "step", None)
        if type(current) is kind and current.guide is self.live.guide:
            return
        elbo = AnalyticELBO(
            options.particles(len(self.x)),
            local_reparameterization=options.draws_locally(self.live.model.description),
        )
        self.step = kind(self.live.model, self.live.guide, elbo, self.result.num_data)

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

    def _store(self) -> None:
        self.live.store()
        self.result.optimizer_state = self.live.whole_state(self.optimizer.state_dict())
        self.result.random_state = self.random


def _status(history: History) -> str:
    """The last epoch; to count over all epochs after each one would be quadratic in their number."""
    counts = [f"{name} {(p[-1] > 0.5).sum()}" for name, p in history.inclusion.items()]
    log_likelihood, kl = history.log_likelihood[-1], history.kl[-1]
    terms = f"ELBO {log_likelihood - kl:.4g} = {log_likelihood:.4g} - KL {kl:.4g}"
    return f"{terms}; active {' '.join(counts)}"
