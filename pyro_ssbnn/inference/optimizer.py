"""The optimizer of a run: one torch optimizer for all parameters, or one for the means and another for the rest.

Parameters are numbered in the order of the guide's ``parameter_groups``, whatever optimizer they belong to, so that a
state says the same of a network that shrinks, and in a saved file, for one optimizer and for two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch

from pyro_ssbnn.inference.options import TrainingOptions
from pyro_ssbnn.inference.schedule import rate_groups
from pyro_ssbnn.structure.guide import Guide

__all__ = ["JointOptimizer", "means_optimizer", "optimizer_of"]


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
    rest = torch.optim.Adam(groups[means:], fused=_fuses(device))
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
    # One fused kernel a group; unfused Adam costs several times as much on the CPU.
    if options.optimizer == "adam":
        return torch.optim.Adam(groups, weight_decay=weight_decay, fused=_fuses(device))
    return torch.optim.SGD(
        groups, momentum=options.momentum, weight_decay=weight_decay, fused=_fuses(device)
    )


def _fuses(device: torch.device) -> bool:
    return device.type in ("cpu", "cuda")


def _renumbered(group: Mapping[str, Any], by: int) -> dict[str, Any]:
    return {**group, "params": [index + by for index in group["params"]]}
