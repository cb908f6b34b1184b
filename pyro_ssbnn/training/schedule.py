"""Adam over a guide's parameters, and how its rates, the KL's weight and the temperature move over the epochs."""

from __future__ import annotations

import math

import torch

from pyro_ssbnn.guides import StructuredGuide
from pyro_ssbnn.training.options import TrainingOptions

__all__ = ["adam", "kl_weight", "set_rates", "temperature"]


def adam(
    guide: StructuredGuide, options: TrainingOptions, num_data: int, device: torch.device
) -> torch.optim.Adam:
    """One Adam for all parameters, in groups with rates of their own.

    A mean moves by ``mean_rate`` times the spread 1/sqrt(fan-in) of its layer's initial weights, so that one rate
    serves wide and narrow layers; log-scales and gate logits have no unit.
    """
    rates = {"log_scales": options.scale_rate, "gates": options.gate_step(num_data)}
    for group in guide.description.groups:
        fan_in = group.fan_in + group.removed_fan_in  # a layer keeps its rate when it shrinks
        rates[f"means.{group.name}"] = options.mean_rate / math.sqrt(fan_in)
    groups = [
        {"params": parameters, "lr": rates[kind], "base_rate": rates[kind]}
        for kind, parameters in guide.parameter_groups().items()
        if parameters
    ]
    # One fused kernel a group; unfused Adam costs several times as much on the CPU.
    return torch.optim.Adam(groups, fused=device.type in ("cpu", "cuda"))


def set_rates(optimizer: torch.optim.Adam, options: TrainingOptions, progress: float) -> None:
    """Set all rates for an epoch: constant, then a cosine down to a hundredth.

    :param progress: share of the epochs done, 0 to 1.
    """
    late = max(0.0, (progress - options.decay_after) / max(1 - options.decay_after, 1e-9))
    factor = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * late))
    for group in optimizer.param_groups:
        group["lr"] = group["base_rate"] * factor


def kl_weight(warmup: float, epoch: int) -> float:
    """Weight of the KL in an epoch (from 0): rising linearly to 1 over the warm-up, given in epochs."""
    return min(1.0, (epoch + 1) / warmup) if warmup > 0 else 1.0


def temperature(options: TrainingOptions, progress: float) -> float:
    """Temperature of the gates' relaxation, geometric between the first and the last."""
    first, last = options.temperature
    return first ** (1 - progress) * last**progress
