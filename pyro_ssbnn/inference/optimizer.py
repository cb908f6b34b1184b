"""The optimizer of a run: one torch optimizer for all parameters, or one for the means and another for the rest.

Parameters are numbered in the order of the guide's ``parameter_groups``, whatever optimizer they belong to, so that a
state says the same of a network that shrinks, and in a saved file, for one optimizer and for two.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from pyro_ssbnn.inference.cuda_graph import Recording, records
from pyro_ssbnn.inference.options import TrainingOptions
from pyro_ssbnn.inference.schedule import rate_groups
from pyro_ssbnn.structure.guide import Guide

__all__ = ["FusedAdam", "JointOptimizer", "RecordedOptimizer", "means_optimizer", "optimizer_of"]

_log = logging.getLogger(__name__)


class FusedAdam(torch.optim.Adam):
    """Torch's fused Adam without its bookkeeping at every step, which costs a small network more than the arithmetic.

    Parameter groups of rate 0 wait: their moments begin when they are let go.
    """

    _moving: list[tuple[dict[str, Any], list[Tensor], list[list[Tensor]]]] | None = None

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move all parameters by their gradients."""
        if self._moving is None:
            self._moving = [(group, *self._slots(group["params"])) for group in self.param_groups]
        with torch.no_grad():
            for group, parameters, (means, squares, steps) in self._moving:
                if _is_zero(group["lr"]) or not parameters:
                    continue
                torch._foreach_add_(steps, 1.0)
                beta1, beta2 = group["betas"]
                torch._fused_adam_(
                    parameters,
                    [parameter.grad for parameter in parameters],  # type: ignore[misc]
                    means,
                    squares,
                    [],
                    steps,
                    lr=group["lr"],
                    beta1=beta1,
                    beta2=beta2,
                    weight_decay=group["weight_decay"],
                    eps=group["eps"],
                    amsgrad=False,
                    maximize=False,
                )

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """As torch's."""
        super().load_state_dict(dict(state_dict))
        self._moving = None

    def _slots(self, parameters: Iterable[Tensor]) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Those parameters that have gradients, their moments and their numbers of steps."""
        reached = [parameter for parameter in parameters if parameter.grad is not None]
        for parameter in reached:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        slots = [[self.state[p][key] for p in reached] for key in ("exp_avg", "exp_avg_sq", "step")]
        return reached, slots


def _is_zero(rate: float | Tensor) -> bool:
    return not isinstance(rate, Tensor) and rate == 0  # those on a device are of groups that move


class JointOptimizer:
    """Several torch optimizers that step together and have one state.

    :param parts: the optimizers, in the order in which their parameters are numbered.
    """

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = tuple(parts)
        sizes = [sum(len(group["params"]) for group in part.param_groups) for part in parts]
        self._starts = [0, *accumulate(sizes)]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of all parts, to be changed in place."""
        return [group for part in self.parts for group in part.param_groups]

    def step(self) -> None:
        """Move all parameters by their gradients."""
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """State of all parts, laid out as that of one torch optimizer."""
        slots: dict[int, Any] = {}
        groups = []
        for part, start in zip(self.parts, self._starts, strict=False):
            own = part.state_dict()
            slots |= {start + index: entry for index, entry in own["state"].items()}
            groups += [_renumbered(group, start) for group in own["param_groups"]]
        return {"state": slots, "param_groups": groups}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what :meth:`state_dict` gave.

        :raises ValueError: for the state of another optimizer, or of other parameters.
        """
        groups = list(state["param_groups"])
        if len(groups) != len(self.param_groups):
            raise ValueError(
                f"the optimizer's state has {len(groups)} parameter groups, where {len(self.param_groups)} were"
                " expected: it belongs to another network or other options."
            )
        for part, start, end in zip(self.parts, self._starts, self._starts[1:], strict=False):
            own, groups = groups[: len(part.param_groups)], groups[len(part.param_groups) :]
            slots = {i - start: v for i, v in state["state"].items() if start <= i < end}
            part.load_state_dict(
                {"state": slots, "param_groups": [_renumbered(group, -start) for group in own]}
            )


class RecordedOptimizer(JointOptimizer):
    """Replays its step from a recording (:mod:`pyro_ssbnn.inference.cuda_graph`), with the rates of each step.

    Where gradients have the memory of the step before, as those of a recorded step have: else it steps as it is. The
    recording is made anew when other groups move, or the state is another one.
    """

    records = True
    _recording: Recording | None = None
    _moving: list[bool] | None = None
    _gradient: weakref.ref[Tensor] | None = None  # the first one of the step before

    def step(self) -> None:
        """Move all parameters by their gradients."""
        rates = [group["lr"] for group in self.param_groups]
        moving = [rate != 0 for rate in rates]
        first = next(p.grad for g in self.param_groups for p in g["params"] if p.grad is not None)
        alike = self._gradient is not None and self._gradient() is first
        if not alike or moving != self._moving or not self.records:
            self._recording, self._moving = None, moving
            self._gradient = weakref.ref(first)
            super().step()  # the first one makes moments
            return
        if self._recording is None:
            try:
                self._record(rates)
            except Exception as error:  # it steps as it is
                _log.warning("The optimizer's step cannot be recorded as a CUDA graph: %s", error)
                self.records = False
                super().step()
                return
        torch._foreach_zero_(self._rates)
        torch._foreach_add_(self._rates, [rate for rate in rates if rate != 0])
        self._recording.replay()  # type: ignore[union-attr]

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As :meth:`JointOptimizer.load_state_dict`."""
        super().load_state_dict(state)
        self._moving = None

    def _record(self, rates: Sequence[float]) -> None:
        """Record a step that reads its rates from the device."""
        groups = self.param_groups
        parameters = [p for group in groups for p in group["params"]]
        states = [
            value
            for part in self.parts
            for slots in part.state.values()
            for value in slots.values()
        ]
        self._rates = [
            parameters[0].new_full((), rate, dtype=torch.float32) for rate in rates if rate != 0
        ]
        on_device = iter(self._rates)
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = next(on_device) if rate != 0 else 0.0
        try:
            changed = [*parameters, *(value for value in states if isinstance(value, Tensor))]
            self._recording = Recording(super().step, changed, parameters[0].device)
        finally:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate


def optimizer_of(
    guide: Guide, options: TrainingOptions, num_data: int, device: torch.device
) -> JointOptimizer:
    """Optimizer of a guide: Adam for log-scales and gates, and what the options say for the means, or for all."""
    groups = rate_groups(guide, options, num_data)
    kind = RecordedOptimizer if options.cuda_graphs and records(device) else JointOptimizer
    if options.optimizer == "adam" or options.rate is not None:
        return kind([means_optimizer(groups, options, device)])
    means = sum(name.startswith("means.") for name in guide.parameter_groups())
    rest = _adam(groups[means:], device)
    return kind([means_optimizer(groups[:means], options, device), rest])


def means_optimizer(
    groups: list[dict[str, Any]],
    options: TrainingOptions,
    device: torch.device,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """Adam or gradient descent with momentum, as the options say.

    :param weight_decay: factor on the parameters themselves, added to their gradients.
    """
    if options.optimizer == "adam":
        return _adam(groups, device, weight_decay)
    return torch.optim.SGD(
        groups, momentum=options.momentum, weight_decay=weight_decay, fused=fuses(device)
    )


def _adam(
    groups: list[dict[str, Any]], device: torch.device, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    # One fused kernel a group; unfused Adam costs several times as much on the CPU.
    kind = FusedAdam if fuses(device) else torch.optim.Adam
    return kind(groups, weight_decay=weight_decay, fused=fuses(device))


def fuses(device: torch.device) -> bool:
    """Whether a device has fused optimizers."""
    return device.type in ("cpu", "cuda")


def _renumbered(group: Mapping[str, Any], by: int) -> dict[str, Any]:
    return {**group, "params": [index + by for index in group["params"]]}
