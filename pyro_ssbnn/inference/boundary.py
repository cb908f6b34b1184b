"""The end of a block of epochs, to which a run that breaks off in the midst of the next one goes back."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Any

import torch
from torch import Tensor

from pyro_ssbnn.inference.history import History
from pyro_ssbnn.inference.optimizer import JointOptimizer
from pyro_ssbnn.inference.shrinking import LiveNetwork

__all__ = ["Boundary"]


class Boundary:
    """What a run was at the end of a block: its live network, optimizer, history and random numbers.

    :param random: states of the generators.
    """

    def __init__(
        self,
        live: LiveNetwork,
        optimizer: JointOptimizer,
        history: History,
        random: dict[str, Tensor],
    ) -> None:
        self.live, self.optimizer, self.random = copy(live), optimizer, random
        self._rows = len(history)
        self._moves = list(history.removed), list(history.admitted), list(history.bounds)
        self._state = _mapped(optimizer.state_dict(), Tensor.clone)
        modules = (live.guide, live.model)
        tensors = [value for module in modules for value in module.state_dict().values()]
        tensors += live.present.values()
        self._tensors = [(value, value.clone()) for value in tensors]

    @torch.no_grad()
    def restore(self, history: History) -> None:
        """Bring the tensors of live network and optimizer, and the history, back to what they were."""
        for value, before in self._tensors:
            value.copy_(before)
        self.optimizer.load_state_dict(self._state)
        rows = self._rows
        for series in (history.log_likelihood, history.kl, history.kl_weight, history.seconds):
            del series[rows:]
        for inclusion in history.inclusion.values():
            del inclusion[rows:]
        history.removed[:], history.admitted[:], history.bounds[:] = self._moves


def _mapped(state: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """An optimizer's state with its tensors changed."""
    if isinstance(state, Tensor):
        return change(state)
    if isinstance(state, dict):
        return {key: _mapped(value, change) for key, value in state.items()}
    return [_mapped(value, change) for value in state] if isinstance(state, list) else state
