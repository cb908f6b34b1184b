"""Guards of a run: unfit data refused, a loss that is not finite names its site, collapse and arrival noticed."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from pyro_ssbnn.checks import check_rows, check_that
from pyro_ssbnn.errors import CollapseWarning, DataError, NonFiniteLossError
from pyro_ssbnn.inference.options import TrainingOptions
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.flow import cut_off
from pyro_ssbnn.structure.network import Network

__all__ = [
    "FiniteGuard",
    "Patience",
    "check_data",
    "collapsed_layers",
    "require_network",
    "warn_of_collapse",
]


def require_network(owner: str, model: object) -> None:
    """Raise :class:`ConfigurationError` for anything but a network with a description and a likelihood."""
    network = hasattr(model, "description") and hasattr(model, "likelihood")
    check_that(owner, "model", model, network, "a network of this package, such as ss.MLP")


def check_data(owner: str, model: Network, x: Tensor, y: Tensor) -> None:
    """Raise :class:`DataError` unless x, ``[N, p]``, and y are data for the model: shapes, finite values, targets.

    :param owner: the public function, for the message.
    """
    require_network(owner, model)
    if y is None:
        raise DataError(f"{owner}: y must be a torch.Tensor; got None.")
    check_rows(owner, x, y, model.description.inputs.column_names)
    if len(x) < 2:
        raise DataError(f"{owner}: at least two rows of data are needed; got {len(x)}.")
    model.likelihood.check_data(y)


class FiniteGuard:
    """Remembers, on the device and without synchronising, the first step at which each ELBO term was not finite.

    :param epoch_steps: steps of an epoch, for the message.
    :param first_step: steps of the run before those watched.
    """

    def __init__(self, epoch_steps: int, first_step: int = 0) -> None:
        self.sites: tuple[str, ...] = ()
        self._first: Tensor | None = None
        self._steps, self._epoch_steps = first_step, epoch_steps

    def watch(self, sites: tuple[str, ...], terms: Tensor) -> None:
        """Note the terms of some steps, ``[steps, sites]``."""
        numbers = torch.arange(len(terms), dtype=terms.dtype, device=terms.device) + self._steps
        first = numbers.unsqueeze(-1).masked_fill(terms.isfinite(), float("inf")).amin(0)
        self.sites = sites
        self._first = first if self._first is None else torch.minimum(self._first, first)
        self._steps += len(terms)

    def check(self) -> None:
        """Raise :class:`NonFiniteLossError` if any term has been not finite; it synchronises, so call it rarely."""
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
        epoch = int(step) // self._epoch_steps + 1
        raise NonFiniteLossError(
            f"the ELBO is not finite in epoch {epoch} (step {int(step) + 1} of the run), {cause}."
            " Scale the data (standardised predictors and targets), lower mean_rate and scale_rate, or set clip_norm"
            " (try 1.0); dtype='float64' tells overflow from divergence."
        )


def collapsed_layers(
    description: NetworkDescription, inclusion: dict[str, Tensor], threshold: float = 0.5
) -> list[str]:
    """Gated layers without a node of inclusion above the threshold that leave a constant: those no sum bypasses.

    Linear terms bypass all layers, as long as one is active.
    """
    gated = [g.name for g in description.groups if g.gated]
    empty = [name for name in gated if not bool((inclusion[name] > threshold).any())]
    return cut_off(description, empty)


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


class Patience:
    """Whether the bound has stopped rising, at full KL weight and with gates let go; what was seen is kept.

    :param free: first row of the history of which all gates are free.
    """

    def __init__(self, options: TrainingOptions, num_data: int, free: int = 0) -> None:
        self._least = options.min_delta * num_data
        self._wait = free
        self._recent: deque[float] | None = None
        if options.patience is not None:
            self._recent = deque(maxlen=options.patience)
        self._before = -math.inf  # best of those that are no longer recent

    def watch(self, elbo: Iterable[float], kl_weight: Iterable[float]) -> None:
        """Take in rows of the history, oldest first."""
        if self._recent is None:
            return
        for bound, weight in zip(elbo, kl_weight, strict=True):
            self._wait -= 1
            if weight == 1.0 and self._wait < 0:
                if len(self._recent) == self._recent.maxlen:
                    self._before = max(self._before, self._recent[0])
                self._recent.append(float(bound))

    @property
    def exhausted(self) -> bool:
        """Whether the best of the last ``patience`` rows is no better than the best before them."""
        if self._recent is None or self._before == -math.inf:
            return False
        return max(self._recent) - self._before < self._least
