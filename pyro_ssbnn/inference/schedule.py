"""The optimizer's rates, the KL's weight and the temperature, and how they move over the epochs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from pyro_ssbnn.inference.options import TrainingOptions
from pyro_ssbnn.structure.guide import Guide

__all__ = ["kl_weight", "rate_factor", "rate_groups", "set_rates", "temperature"]


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


def set_rates(groups: Iterable[dict[str, Any]], options: TrainingOptions, progress: float) -> None:
    """Set all rates for an epoch.

    :param groups: the optimizer's parameter groups.
    :param progress: share of the epochs done, 0 to 1.
    """
    factor = rate_factor(options, progress)
    for group in groups:
        group["lr"] = group["base_rate"] * factor


def rate_factor(options: TrainingOptions, progress: float) -> float:
    """What the rates are multiplied by: the milestones passed, or a constant, then a cosine down to a hundredth."""
    if options.milestones:
        return options.milestone_factor ** sum(progress >= at for at in options.milestones)
    late = max(0.0, (progress - options.decay_after) / max(1 - options.decay_after, 1e-9))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * late))


def kl_weight(warmup: float, epoch: int) -> float:
    """Weight of the KL in an epoch (from 0): rising linearly to 1 over the warm-up, given in epochs."""
    return min(1.0, (epoch + 1) / warmup) if warmup > 0 else 1.0


def temperature(options: TrainingOptions, progress: float) -> float:
    """Temperature of the gates' relaxation, geometric between the first and the last."""
    first, last = options.temperature
    return first ** (1 - progress) * last**progress
