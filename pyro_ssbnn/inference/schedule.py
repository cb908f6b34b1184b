"""The optimizer's rates, the KL's weight and the temperature, and how they move over the steps of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from pyro_ssbnn.inference.options import TrainingOptions
from pyro_ssbnn.structure.guide import Guide

__all__ = ["Schedule", "rate_factor", "rate_groups", "set_rates", "temperature"]

_BLOCK_STEPS = 20  # between two readings from the device


def rate_groups(guide: Guide, options: TrainingOptions, num_data: int) -> list[dict[str, Any]]:
    """Parameter groups with rates of their own, in the guide's order: means layer by layer, log-scales, gates.

    Under Adam a mean moves by ``mean_rate`` times the spread 1/sqrt(fan-in) of its layer's initial weights, so that one
    rate serves wide and narrow layers; log-scales and gate logits have no unit.
    """
    rates = {
        "log_scales": options.scale_rate,
        "latents": options.latent_rate or options.scale_rate,
        "gates": options.gate_step(num_data),
    }
    for group in guide.description.groups:
        fan_in = group.fan_in + group.removed_fan_in  # a layer keeps its rate when it shrinks
        unit = math.sqrt(fan_in) if options.optimizer == "adam" else 1.0
        rates[f"means.{group.name}"] = options.mean_rate / unit
    return [
        {"params": parameters, "kind": kind, "lr": rates[kind], "base_rate": rates[kind]}
        for kind, parameters in guide.parameter_groups().items()
        if parameters
    ]


def set_rates(groups: Iterable[dict[str, Any]], factor: float) -> None:
    """Set the rates of parameter groups to so much of their base rates."""
    for group in groups:
        group["lr"] = group["base_rate"] * factor


class Schedule:
    """Rates, KL weight and temperature of every step of a run (from 0), and when a run looks at itself.

    Everything is counted in steps, so that it means the same for one epoch of a million rows and for thousands of
    epochs of a single step. An epoch is one *record* of the history, or several where it has more than 500 steps. At
    the end of a *block* of records, of at least 20 steps, the records are read from the device, and only then nodes
    are removed or the run stops early.

    :param num_data: observations.
    """

    def __init__(self, options: TrainingOptions, num_data: int) -> None:
        self.options = options
        self.epochs, self.parts = options.num_epochs(num_data), options.parts(num_data)
        self.epoch_steps = options.epoch_steps(num_data)
        self.steps, self.records = self.epochs * self.epoch_steps, self.epochs * self.parts
        self.warmup = options.warmup_steps(num_data)
        self.block = max(1, math.ceil(_BLOCK_STEPS * self.parts / self.epoch_steps))
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
        """Weight of the KL: rising linearly to 1 over the warm-up."""
        return min(1.0, (step + 1) / self.warmup) if self.warmup > 0 else 1.0

    def temperature(self, step: int) -> float:
        """Temperature of the gates' relaxation."""
        return temperature(self.options, self.progress(step))


def rate_factor(options: TrainingOptions, progress: float) -> float:
    """What the rates are multiplied by: the milestones passed, or a constant, then a cosine down to a hundredth.

    :param progress: share of the steps done, 0 to 1.
    """
    if options.milestones:
        return options.milestone_factor ** sum(progress >= at for at in options.milestones)
    late = max(0.0, (progress - options.decay_after) / max(1 - options.decay_after, 1e-9))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * late))


def temperature(options: TrainingOptions, progress: float) -> float:
    """Temperature of the gates' relaxation, geometric between the first and the last."""
    first, last = options.temperature
    return first if first == last else first ** (1 - progress) * last**progress
