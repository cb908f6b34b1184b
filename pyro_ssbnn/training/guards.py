"""Guards of a training run: a loss that is not finite names its site, a collapsed layer is reported."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from pyro_ssbnn.description import NetworkDescription
from pyro_ssbnn.errors import CollapseWarning, NonFiniteLossError

__all__ = ["FiniteGuard", "collapsed_layers", "warn_of_collapse"]


class FiniteGuard:
    """Remembers, on the device and without synchronising, the first step at which each ELBO term was not finite."""

    def __init__(self) -> None:
        self.sites: tuple[str, ...] = ()
        self._first: Tensor | None = None
        self._steps = 0

    def watch(self, sites: tuple[str, ...], terms: Tensor) -> None:
        """Note one step's terms, ``[sites]``."""
        if self._first is None:
            self.sites, self._first = sites, torch.full_like(terms, float("inf"))
        self._first = torch.where(terms.isfinite(), self._first, self._first.clamp(max=self._steps))
        self._steps += 1

    def check(self, epoch: int) -> None:
        """Raise :class:`NonFiniteLossError` if any term has been not finite; call once an epoch (it synchronises)."""
        if self._first is None:
            return
        first = self._first.tolist()
        step = min(first)
        if step == float("inf"):
            return
        culprits = [s for s, at in zip(self.sites, first, strict=True) if at == step]
        if len(culprits) == len(self.sites):
            cause = "every term at once: the step before it made parameters that are not finite"
        else:
            cause = f"first in {', '.join(culprits)}"
        raise NonFiniteLossError(
            f"the ELBO is not finite in epoch {epoch + 1} (step {int(step) + 1} of the run), {cause}."
            " Scale the data (standardised predictors and targets), lower mean_rate and scale_rate, or set clip_norm"
            " (try 1.0); dtype='float64' tells overflow from divergence."
        )


def collapsed_layers(
    description: NetworkDescription, inclusion: dict[str, Tensor], threshold: float = 0.5
) -> list[str]:
    """Gated layers in which no node has inclusion above the threshold."""
    return [
        g.name for g in description.gated_layers if not bool((inclusion[g.name] > threshold).any())
    ]


def warn_of_collapse(layers: Sequence[str]) -> None:
    """Warn with :class:`CollapseWarning` when there are collapsed layers."""
    if layers:
        warnings.warn(
            f"collapse: no node of {', '.join(layers)} is active (inclusion above 1/2), so the selected network"
            " predicts a constant. If the data hold a signal: lower gate_rate, lengthen kl_warmup, train longer, or"
            " raise the prior inclusion probability.",
            CollapseWarning,
            stacklevel=3,
        )
