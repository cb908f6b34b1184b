"""``fit``: stochastic variational inference for the package's networks, or for any Pyro model with a description."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pyro
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pyro_ssbnn.elbo import AnalyticELBO
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.guides import StructuredGuide
from pyro_ssbnn.network import Network
from pyro_ssbnn.randomness import seeded
from pyro_ssbnn.training.guards import FiniteGuard, collapsed_layers, warn_of_collapse
from pyro_ssbnn.training.history import History
from pyro_ssbnn.training.options import TrainingOptions, resolve_device, resolve_dtype
from pyro_ssbnn.training.step import CompiledStep, EagerStep

__all__ = ["Fit", "fit"]


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

    :param model: the network, for example :class:`~pyro_ssbnn.models.MLP`.
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
    _check_data(model, x, y)
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
        result = Fit(model, guide, options, History(), len(x))
        run = _Run(result, x, y, resume)
        run.train(progress, callback)
    warn_of_collapse(result.collapsed)
    return result


class _Run:
    """One run of the training loop over a :class:`Fit` in the making."""

    def __init__(self, result: Fit, x: Tensor, y: Tensor, resume: Fit | None) -> None:
        self.result, self.x, self.y = result, x, y
        options = result.options
        self.batch = options.batch_rows(len(x))
        self.steps = len(x) // self.batch  # a random remainder waits for the next epoch
        elbo = AnalyticELBO(
            options.num_particles, local_reparameterization=options.local_reparameterization
        )
        step = CompiledStep if options.compile else EagerStep
        self.step = step(result.model, result.guide, elbo, result.num_data)
        self.optimizer = _adam(result.guide, options, x.device)
        self.guard = FiniteGuard()
        self.start = time.perf_counter()
        if resume is not None:
            result.history = resume.history
            self.start -= resume.history.seconds[-1] if len(resume.history) else 0.0
            self.optimizer.load_state_dict(resume.optimizer_state)
            _set_random_state(resume.random_state)

    def train(self, progress: bool, callback: Callable[[int, Fit], None] | None) -> None:
        """Run the remaining epochs."""
        result, options = self.result, self.result.options
        done = len(result.history)
        bar = tqdm(
            total=options.epochs, initial=done, disable=not progress, unit="epoch", leave=True
        )
        with bar:
            for epoch in range(done, options.epochs):
                self._epoch(epoch)
                self.guard.check(epoch)
                bar.set_postfix_str(_status(result.history), refresh=False)
                bar.update()
                if callback is not None:
                    self._store()
                    callback(epoch + 1, result)
                if _has_converged(result.history, options, result.num_data):
                    break
        self._store()

    def _epoch(self, epoch: int) -> None:
        result, step = self.result, self.step
        kl_weight = self._set_schedule(epoch)
        weight, total = self.x.new_full((), kl_weight), self.x.new_zeros(())
        for x, y in self._minibatches():
            terms = step(x, y, weight)
            if result.options.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(result.guide.parameters(), result.options.clip_norm)
            self.optimizer.step()
            self.guard.watch((*step.observed, *step.latent), terms)
            total = total + terms
        means = (total / self.steps).tolist()  # the epoch's one synchronisation
        observed = len(step.observed)
        self._record(sum(means[:observed]), sum(means[observed:]), kl_weight)

    def _minibatches(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.batch == len(self.x):
            yield self.x, self.y
            return
        order = torch.randperm(len(self.x), device=self.x.device)
        for rows in order[: self.steps * self.batch].split(self.batch):
            yield self.x.index_select(0, rows), self.y.index_select(0, rows)

    def _set_schedule(self, epoch: int) -> float:
        """Set rates and temperature for the epoch; returns the KL's weight."""
        options = self.result.options
        progress = epoch / max(options.epochs - 1, 1)
        late = max(0.0, (progress - options.decay_after) / max(1 - options.decay_after, 1e-9))
        factor = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * late))
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_rate"] * factor
        first, last = options.temperature
        self.result.guide.temperature.fill_(first ** (1 - progress) * last**progress)
        warmup = options.kl_warmup * options.epochs
        return min(1.0, (epoch + 1) / warmup) if warmup > 0 else 1.0

    def _record(self, log_likelihood: float, kl: float, kl_weight: float) -> None:
        history = self.result.history
        history.log_likelihood.append(log_likelihood)
        history.kl.append(kl)
        history.kl_weight.append(kl_weight)
        history.seconds.append(time.perf_counter() - self.start)
        for name, probabilities in self.result.guide.inclusion().items():
            history.inclusion.setdefault(name, []).append(probabilities.float().cpu().numpy())

    def _store(self) -> None:
        self.result.optimizer_state = self.optimizer.state_dict()
        self.result.random_state = _random_state(self.x.device)


def _check_data(model: Network, x: Tensor, y: Tensor) -> None:
    expected = model.description.inputs.size
    if x.ndim != 2 or x.shape[1] != expected:
        raise DataError(f"fit: x must be [N, {expected}] for this network; got {list(x.shape)}.")
    if len(x) != len(y):
        raise DataError(f"fit: x has {len(x)} rows and y has {len(y)}; give one target per row.")
    if len(x) < 2:
        raise DataError(f"fit: at least two rows of data are needed; got {len(x)}.")
    bad = (~torch.isfinite(x)).any(0).nonzero().flatten().tolist()
    if bad:
        names = [model.description.inputs.names[i] for i in bad[:5]]
        raise DataError(
            f"fit: x has missing or infinite values in {len(bad)} of {expected} columns ({', '.join(names)}"
            f"{', ...' if len(bad) > 5 else ''}); remove or impute them."
        )
    model.likelihood.check_target(y)


def _adam(
    guide: StructuredGuide, options: TrainingOptions, device: torch.device
) -> torch.optim.Adam:
    rates = {
        "means": options.mean_rate,
        "log_scales": options.scale_rate,
        "gates": options.gate_rate,
    }
    groups = [
        {"params": parameters, "lr": rates[kind], "base_rate": rates[kind]}
        for kind, parameters in guide.parameter_groups().items()
        if parameters
    ]
    # One fused kernel over all parameters; unfused Adam costs several times as much on the CPU.
    return torch.optim.Adam(groups, fused=device.type in ("cpu", "cuda"))


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
