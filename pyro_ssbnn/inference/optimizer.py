"""The optimizer of a run: one torch optimizer for all parameters, or one for the means and another for the rest.

Parameters are numbered in the order of the guide's ``parameter_groups``, whatever optimizer they belong to, so that a
state says the same of a network that shrinks, and in a saved file, for one optimizer and for two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from pyro_ssbnn.inference.options import TrainingOptions
from pyro_ssbnn.inference.schedule import rate_groups
from pyro_ssbnn.structure.guide import Guide

__all__ = ["FusedAdam", "JointOptimizer", "means_optimizer", "optimizer_of"]


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
                if group["lr"] == 0 or not parameters:
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


def optimizer_of(
    guide: Guide, options: TrainingOptions, num_data: int, device: torch.device
) -> JointOptimizer:
    """Optimizer of a guide: Adam for log-scales and gates, and what the options say for the means."""
    groups = rate_groups(guide, options, num_data)
    if options.optimizer == "adam":
        return JointOptimizer([means_optimizer(groups, options, device)])
    means = sum(kind.startswith("means.") for kind in guide.parameter_groups())
    rest = _adam(groups[means:], device)
    return JointOptimizer([means_optimizer(groups[:means], options, device), rest])


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
        groups, momentum=options.momentum, weight_decay=weight_decay, fused=_fuses(device)
    )


def _adam(
    groups: list[dict[str, Any]], device: torch.device, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    # One fused kernel a group; unfused Adam costs several times as much on the CPU.
    kind = FusedAdam if _fuses(device) else torch.optim.Adam
    return kind(groups, weight_decay=weight_decay, fused=_fuses(device))


def _fuses(device: torch.device) -> bool:
    return device.type in ("cpu", "cuda")


def _renumbered(group: Mapping[str, Any], by: int) -> dict[str, Any]:
    return {**group, "params": [index + by for index in group["params"]]}
