"""``fit``: stochastic variational inference for the package's networks, or for any Pyro model with a description."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyro
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_ssbnn.elbo import AnalyticELBO
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides import StructuredGuide
from pyro_ssbnn.network import Network
from pyro_ssbnn.randomness import seeded
from pyro_ssbnn.training.guards import (
    FiniteGuard,
    check_data,
    collapsed_layers,
    warn_of_collapse,
)
from pyro_ssbnn.training.history import History
from pyro_ssbnn.training.options import TrainingOptions, resolve_device, resolve_dtype
from pyro_ssbnn.training.schedule import adam, kl_weight, set_rates, temperature
from pyro_ssbnn.training.shrinking import LiveNetwork, due_for_removal
from pyro_ssbnn.training.step import CompiledStep, EagerStep

__all__ = ["Fit", "fit"]

_WORTH_REMOVING = 0.1  # share of the weights below which a removal saves less than it disturbs
_WORTH_COMPILING = (
    0.3  # the same where the step is compiled: a new network then costs ten seconds or more
)


@dataclass
class Fit:
    """A fitted network: model, guide, and all that is needed to go on training.

    :param model: the network.
    :param guide: its guide, on the device and in the dtype of the run.
    :param options: the run's options.
    :param history: one row an epoch.
    :param num_data: observations fitted to.
    :param optimizer_state: ``state_dict`` of the optimizer.
    :param random_state: state of the random number generators, ``{device type: uint8 tensor}``.
    """

    model: Network
    guide: StructuredGuide
    options: TrainingOptions
    history: History
    num_data: int
    optimizer_state: dict = field(default_factory=dict)
    random_state: dict[str, Tensor] = field(default_factory=dict)

    @property
    def collapsed(self) -> list[str]:
        """Gated layers without an active node."""
        return collapsed_layers(self.model.description, self.guide.inclusion())


def fit(
    model: Network,
    x: Tensor,
    y: Tensor,
    options: TrainingOptions | None = None,
    *,
    guide: StructuredGuide | None = None,
    resume: Fit | None = None,
    progress: bool = True,
    callback: Callable[[int, Fit], None] | None = None,
) -> Fit:
    """Fit the guide of a network to data.

    :param model: the network, for example :class:`~pyro_ssbnn.models.MLP`. Its batch norms are in training mode
        meanwhile, and in evaluation mode, with the run's running statistics, afterwards.
    :param x: predictors ``[N, p]``; moved to the device once.
    :param y: targets, ``[N]`` (``[N, K]`` for several).
    :param options: see :class:`TrainingOptions`.
    :param guide: a guide to train; by default a new :class:`StructuredGuide`. It is trained in place.
    :param resume: an earlier result to continue from, up to ``options.epochs`` in all; its guide and history are
        trained and extended in place. Continued and uninterrupted runs are the same bit by bit when their options
        are.
    :param progress: show a progress bar.
    :param callback: called after each epoch with the epoch's number (from 1) and the unfinished result.
    :raises DataError: for data that do not fit the model.
    :raises NonFiniteLossError: when the loss is no longer a finite number; the message names the site.
    :warns CollapseWarning: when a layer ends without an active node.
    """
    options = options or TrainingOptions()
    device, dtype = resolve_device(options.device), resolve_dtype(options.dtype)
    check_data(model, x, y)
    if resume is not None and guide is not None:
        raise ConfigurationError(
            "fit: give resume or guide, not both; resume brings its own guide."
        )
    x = x.to(device, dtype)
    y = y.to(device, dtype) if y.dtype.is_floating_point else y.to(device)
    with (
        seeded(options.seed, device),
        pyro.get_param_store().scope(),  # the caller's parameters stay theirs
        pyro.validation_enabled(False),  # data were checked above, and checks synchronise
    ):
        if resume is not None:
            guide = resume.guide
        elif guide is None:
            guide = StructuredGuide(
                model,
                hard=options.hard_gates,
                temperature=options.temperature[0],
                initial_inclusion=options.initial_inclusion,
            )
        guide.to(device=device, dtype=dtype)
        if resume is not None and resume.model is not model:
            model.load_state_dict(resume.model.state_dict())
        model.to(device=device, dtype=dtype)
        model.train()
        result = Fit(model, guide, options, History(), len(x))
        run = _Run(result, x, y, resume)
        run.train(progress, callback)
        model.train(False)
    warn_of_collapse(result.collapsed)
    return result


class _Run:
    """One run of the training loop over a :class:`Fit` in the making."""

    def __init__(self, result: Fit, x: Tensor, y: Tensor, resume: Fit | None) -> None:
        self.result, self.x, self.y = result, x, y
        options = result.options
        self.epochs, self.warmup = options.num_epochs(len(x)), options.warmup_epochs(len(x))
        self.batch = options.batch_rows(len(x))
        self.steps = len(x) // self.batch  # a random remainder waits for the next epoch
        self.live = LiveNetwork(result.model, result.guide)
        self.live_x = x
        self.optimizer = adam(result.guide, options, len(x), x.device)
        self.guard = FiniteGuard()
        self.start = time.perf_counter()
        if resume is not None:
            self._resume(resume)
        self._set_step()

    def _resume(self, earlier: Fit) -> None:
        history = self.result.history = earlier.history
        self.start -= history.seconds[-1] if len(history) else 0.0
        removed: dict[str, list[int]] = {}
        for removal in history.removed:
            removed.setdefault(removal.group, []).append(removal.node)
        self.optimizer.load_state_dict(earlier.optimizer_state)
        if removed:
            self._remove(removed)
        _set_random_state(earlier.random_state)

    def train(self, progress: bool, callback: Callable[[int, Fit], None] | None) -> None:
        """Run the remaining epochs."""
        result, options = self.result, self.result.options
        done = len(result.history)
        bar = tqdm(total=self.epochs, initial=done, disable=not progress, unit="epoch", leave=True)
        with bar:
            for epoch in range(done, self.epochs):
                self._epoch(epoch)
                self.guard.check(epoch)
                self._shrink()
                bar.set_postfix_str(_status(result.history), refresh=False)
                bar.update()
                if callback is not None:
                    self._store()
                    callback(epoch + 1, result)
                if _has_converged(result.history, options, result.num_data):
                    break
        self._store()

    def _epoch(self, epoch: int) -> None:
        options, step = self.result.options, self.step
        progress = epoch / max(self.epochs - 1, 1)
        set_rates(self.optimizer, options, progress)
        for guide in (self.live.guide, self.result.guide):
            guide.temperature.fill_(temperature(options, progress))
        beta = kl_weight(self.warmup, epoch)
        weight, total = self.x.new_full((), beta), self.x.new_zeros(())
        for x, y in self._minibatches():
            terms = step(x, y, weight)
            if options.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(self.live.guide.parameters(), options.clip_norm)
            self.optimizer.step()
            self.guard.watch((*step.observed, *step.latent), terms)
            total = total + terms
        means = (total / self.steps).tolist()  # the epoch's one synchronisation
        observed = len(step.observed)
        self._record(sum(means[:observed]), sum(means[observed:]) + self.live.removed_kl, beta)

    def _minibatches(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.batch == len(self.x):
            yield self.live_x, self.y
            return
        order = torch.randperm(len(self.x), device=self.x.device)
        for rows in order[: self.steps * self.batch].split(self.batch):
            yield self.live_x.index_select(0, rows), self.y.index_select(0, rows)

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
                self._remove(due)
        self._set_step()

    def _remove(self, due: Mapping[str, Sequence[int]]) -> None:
        options, live = self.result.options, self.live
        state = live.whole_state(self.optimizer.state_dict())
        live.remove(due)
        self.optimizer = adam(live.guide, options, len(self.x), self.x.device)
        self.optimizer.load_state_dict(live.live_state(state))
        kept = live.kept.get(live.whole_model.description.inputs.name)
        self.live_x = self.x if kept is None else self.x.index_select(1, kept.to(self.x.device))

    def _set_step(self) -> None:
        """Choose the step for the live network: compiled where asked for, but not while the network still shrinks."""
        options, history = self.result.options, self.result.history
        shrinks = options.remove_below is not None and self.result.model.description.gate_groups
        last = history.removed[-1].epoch if history.removed else 0
        settled = len(history) >= max(self.warmup, last + options.remove_after)
        kind = CompiledStep if options.compile and (settled or not shrinks) else EagerStep
        current = getattr(self, "step", None)
        if type(current) is kind and current.guide is self.live.guide:
            return
        elbo = AnalyticELBO(
            options.particles(len(self.x)),
            local_reparameterization=options.local_reparameterization,
        )
        self.step = kind(self.live.model, self.live.guide, elbo, self.result.num_data)

    def _record(self, log_likelihood: float, kl: float, kl_weight: float) -> None:
        history = self.result.history
        history.log_likelihood.append(log_likelihood)
        history.kl.append(kl)
        history.kl_weight.append(kl_weight)
        history.seconds.append(time.perf_counter() - self.start)
        for name, probabilities in self.live.inclusion().items():
            history.inclusion.setdefault(name, []).append(probabilities.float().cpu().numpy())

    def _store(self) -> None:
        self.live.store()
        self.result.optimizer_state = self.live.whole_state(self.optimizer.state_dict())
        self.result.random_state = _random_state(self.x.device)


def _status(history: History) -> str:
    active = " ".join(f"{name} {count[-1]}" for name, count in history.active().items())
    return (
        f"ELBO {history.elbo[-1]:.4g} = {history.log_likelihood[-1]:.4g} - KL {history.kl[-1]:.4g}; "
        f"active {active}"
    )


def _has_converged(history: History, options: TrainingOptions, num_data: int) -> bool:
    """Whether the best ELBO of the last ``patience`` epochs is no better than the best before them."""
    if options.patience is None:
        return False
    full = [e for e, weight in zip(history.elbo, history.kl_weight, strict=True) if weight == 1.0]
    if len(full) <= options.patience:
        return False
    recent, before = max(full[-options.patience :]), max(full[: -options.patience])
    return recent - before < options.min_delta * num_data


def _random_state(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random_state(states: dict[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
