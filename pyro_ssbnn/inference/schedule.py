"""The optimizer's rates, the KL's weight and the temperature, and how they move over the steps of a run."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable
from typing import Any

from pyro_ssbnn.inference.options import TrainingOptions
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.guide import Guide

__all__ = ["Schedule", "rate_factor", "rate_groups", "set_rates", "temperature"]

_ASCENTS = 100
_MOST_WIDTHS = 2.6  # of the posterior, by which a mean moves in a step
_TRAVEL = 32.0  # log-odds, three times those from open to closed
_BLOCK_STEPS = 20  # between two readings from the device
_FIRST_WEIGHT = 0.01
_ADMITS = 0.8  # of the hold of predictors' gates: the rest is for those that come in


def rate_groups(guide: Guide, options: TrainingOptions, num_data: int) -> list[dict[str, Any]]:
    """Parameter groups with rates of their own, in the guide's order: means layer by layer, log-scales, gates.

    Under Adam a mean moves by ``mean_rate`` times the spread 1/sqrt(fan-in) of its layer's initial weights, so that one
    rate serves wide and narrow layers; log-scales and gate logits have no unit.
    """
    rates = {
        "log_scales": options.scale_rate,
        "latents": options.latent_rate or options.scale_rate,
    }
    gates = [f"gates.{group.name}" for group in guide.description.gate_groups]
    rates |= dict.fromkeys(gates, options.gate_step(num_data))
    for group in guide.description.groups:
        fan_in = group.fan_in + group.removed_fan_in  # a layer keeps its rate when it shrinks
        rates[f"means.{group.name}"] = _mean_rate(options, fan_in, num_data)
    if options.rate is not None:
        rates = dict.fromkeys(rates, options.rate)
    return [
        {"params": parameters, "kind": kind, "lr": rates[kind], "base_rate": rates[kind]}
        for kind, parameters in guide.parameter_groups().items()
        if parameters
    ]


def _mean_rate(options: TrainingOptions, fan_in: int, num_data: int) -> float:
    """Rate of a layer's means.

    Means tremble by about their rate, and the posterior is as wide as 1/sqrt(rows). Gates that are moved by the
    evidence ask for means that stay within a few of its widths, or needed nodes seem to be worth little.
    """
    if options.optimizer != "adam":
        return options.mean_step
    rate = options.mean_step / math.sqrt(fan_in)
    settled = options.holds and options.mean_rate is None
    return min(rate, _MOST_WIDTHS / math.sqrt(num_data)) if settled else rate


def set_rates(groups: Iterable[dict[str, Any]], factor: float, held: Container[str] = ()) -> None:
    """Set the rates of parameter groups to so much of their base rates, and those of the held kinds to 0."""
    for group in groups:
        group["lr"] = 0.0 if group["kind"] in held else group["base_rate"] * factor


class Schedule:
    """Rates, KL weight and temperature of every step of a run (from 0), and when a run looks at itself.

    Everything is counted in steps, so that it means the same for one epoch of a million rows and for thousands of
    epochs of a single step. An epoch is one *record* of the history, or several where it has more than 500 steps. At
    the end of a *block* of records, of at least 20 steps, the records are read from the device, and only then nodes
    are removed or the run stops early.

    :param num_data: observations.
    :param description: of the network, where its gates may be held.
    """

    def __init__(
        self,
        options: TrainingOptions,
        num_data: int,
        description: NetworkDescription | None = None,
    ) -> None:
        self.options = options
        self.epochs, self.parts = options.num_epochs(num_data), options.parts(num_data)
        self.epoch_steps = options.epoch_steps(num_data)
        self.steps, self.records = self.epochs * self.epoch_steps, self.epochs * self.parts
        self.warmup = options.warmup_steps(num_data)
        self.block = max(1, math.ceil(_BLOCK_STEPS * self.parts / self.epoch_steps))
        predictors, nodes = options.gate_hold or (0.0, 0.0)
        self._predictors = description.inputs.name if description else ""
        self._holds = {
            group.name: predictors if group.name == self._predictors else nodes
            for group in (description.gate_groups if description else ())
        }
        self.let_go = math.ceil(max(self._holds.values(), default=0.0) * self.steps)
        self.gate_rate = options.gate_step(num_data)
        self.anneals = options.temperature[0] != options.temperature[1]

    def steps_of(self, record: int) -> tuple[int, int]:
        """First step of a record (from 0), and the first one after it."""
        epoch, part = divmod(record, self.parts)
        first, last = (k * self.epoch_steps // self.parts for k in (part, part + 1))
        return epoch * self.epoch_steps + first, epoch * self.epoch_steps + last

    def progress(self, step: int) -> float:
        """Share of the run done before a step, 0 for the first and 1 for the last."""
        return min(1.0, step / max(self.steps - 1, 1))

    def rate_factor(self, step: int) -> float:
        """What the rates are multiplied by."""
        return rate_factor(self.options, self.progress(step))

    def kl_weight(self, step: int) -> float:
        """Weight of the KL, rising to 1 over the warm-up: linearly, or geometrically from 0.01 where gates are held.

        Held gates give the weights time to learn, and so does a KL that counts little for most of it.
        """
        done = min(1.0, (step + 1) / self.warmup) if self.warmup > 0 else 1.0
        return _FIRST_WEIGHT ** (1 - done) if self.let_go else done

    def admits(self, record: int) -> bool:
        """Whether predictors may come in after a record: once, when four fifths of their gates' hold are over."""
        before, now = self._block_of(record)
        return before < self._admission <= now

    def admits_after(self, records: int) -> bool:
        """Whether predictors may yet come in after so many records."""
        return self.steps_of(records)[0] < self._admission

    @property
    def _admission(self) -> int:
        """Steps after which predictors may come in; 0 for never."""
        return math.ceil(_ADMITS * self._holds.get(self._predictors, 0.0) * self.steps)

    def _block_of(self, record: int) -> tuple[int, int]:
        """Steps done before and after the block that ends with a record."""
        return self.steps_of(max(0, record + 1 - self.block))[0], self.steps_of(record + 1)[0]

    def held(self, step: int) -> set[str]:
        """Kinds of parameters that the optimizer leaves alone at a step: gates not let go, or moved by ascent."""
        names = self._holds.keys() if self.options.ascends else self._holds.keys() - self.free(step)
        return {f"gates.{name}" for name in names}

    def free(self, step: int) -> set[str]:
        """Groups whose gates are let go."""
        return {name for name, hold in self._holds.items() if step >= hold * self.steps}

    @property
    def first_free(self) -> int:
        """First record of which all gates are free."""
        epoch, step = divmod(self.let_go, self.epoch_steps)
        return epoch * self.parts + math.ceil(step * self.parts / self.epoch_steps)

    def ascends(self, record: int) -> bool:
        """Whether gates are moved by ascent after a record: a hundred times, once the first of them are let go."""
        if not (self.options.ascends and self._holds):
            return False
        first = math.ceil(min(self._holds.values()) * self.steps)
        every = max(1, (self.steps - first) // _ASCENTS)
        before, now = self._block_of(record)
        return now >= first and (now - first) // every > (before - first) // every

    @property
    def ascents(self) -> int:
        """How often gates move by ascent once all are let go, about: a run of few steps has fewer blocks."""
        block = self.steps_of(self.block)[0]
        return max(1, min(_ASCENTS, (self.steps - self.let_go) // block))

    @property
    def ascent(self) -> float:
        """Log-odds by which a gate moves at most in one ascent: from open to closed in about a third of them."""
        return min(4.0, _TRAVEL / self.ascents)

    def travel(self, last: int | None = None) -> float:
        """Log-odds by which gates can move once they are let go and the KL has its full weight.

        Adam moves one by about its rate a step at most, an ascent by so much.

        :param last: steps done; None for all.
        """
        first = max(self.let_go, math.ceil(self.warmup))
        steps = max(0, (self.steps if last is None else last) - first)
        if self.options.ascends:
            return self.ascent * self.ascents * steps / max(1, self.steps - first)
        sample = range(first, first + steps, max(1, steps // 100))
        mean = sum(self.rate_factor(step) for step in sample) / max(1, len(sample))
        return self.gate_rate * mean * steps

    def temperature(self, step: int) -> float:
        """Temperature of the gates' relaxation."""
        return temperature(self.options, self.progress(step))


def rate_factor(options: TrainingOptions, progress: float) -> float:
    """What the rates are multiplied by: the milestones passed, or a constant, then a cosine down to a hundredth.

    :param progress: share of the steps done, 0 to 1.
    """
    if options.milestones:
        return options.milestone_factor ** sum(progress >= at for at in options.milestones)
    after = options.decay_from
    late = max(0.0, (progress - after) / max(1 - after, 1e-9))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * late))


def temperature(options: TrainingOptions, progress: float) -> float:
    """Temperature of the gates' relaxation, geometric between the first and the last."""
    first, last = options.temperature
    return first if first == last else first ** (1 - progress) * last**progress
