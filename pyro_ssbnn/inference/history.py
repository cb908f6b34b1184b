"""What a training run leaves behind for plots and tables: one row an epoch, or several of a long one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pyro_ssbnn.display import plain
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.structure.description import NetworkDescription

__all__ = ["History", "Reading", "Removal"]


class Removal(NamedTuple):
    """A node or predictor that left the network while it was trained.

    :param group: its group, such as ``hidden1``.
    :param node: its index in the original network.
    :param epoch: after which epoch it left, from 1; a fraction within a long one.
    :param inclusion: its inclusion probability then.
    """

    group: str
    node: int
    epoch: float
    inclusion: float


class Reading(NamedTuple):
    """The bound at a point of a run, on draws of its own.

    :param epoch: after which epoch.
    :param elbo: the bound, nats.
    :param error: its standard error, of the draws.
    """

    epoch: float
    elbo: float
    error: float


@dataclass
class History:
    """ELBO with its parts, and every inclusion probability, epoch by epoch.

    An epoch of more than 500 steps has several rows (``TrainingOptions.parts``), each a part of it.

    :param log_likelihood: expected log-likelihood of the whole data set, nats, mean over the epoch's steps.
    :param kl: KL of guide from prior, unweighted, nats; a removed node's part is that of a gate closed for good.
    :param kl_weight: factor on the KL in that epoch's objective.
    :param seconds: wall time since the start of the run.
    :param inclusion: ``{group: [epoch][node]}`` inclusion probabilities after the epoch, 0 for removed nodes.
    :param removed: nodes and predictors that left during training, in the order in which they left; at epoch 0 those
        that the run began without, at their prior inclusion.
    :param admitted: members among ``removed`` at epoch 0 that came in after all, and when.
    :param bounds: readings of the bound, with their errors, once the KL had its full weight and no gate was held.
    :param parts: rows of an epoch.
    """

    log_likelihood: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    kl_weight: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    inclusion: dict[str, list[NDArray[np.float32]]] = field(default_factory=dict)
    removed: list[Removal] = field(default_factory=list)
    admitted: list[Removal] = field(default_factory=list)
    bounds: list[Reading] = field(default_factory=list)
    parts: int = 1

    def __len__(self) -> int:
        return len(self.kl)

    def __repr__(self) -> str:
        lines = [
            f"History of {len(self)} epoch{'' if len(self) == 1 else 's'}",
            *self.last_in_words(),
        ]
        return "\n".join(lines)

    def last_in_words(self) -> list[str]:
        """Lines on the last epoch: the bound and its parts, active members, members removed so far."""
        if not len(self):
            return []
        lines = [
            f"  ELBO {plain(self.log_likelihood[-1] - self.kl[-1])} = log-likelihood"
            f" {plain(self.log_likelihood[-1])} - KL {plain(self.kl[-1])}, in {self.seconds[-1]:.1f} s"
        ]
        if self.bounds:
            last = self.bounds[-1]
            lines.append(
                f"  bound {last.elbo:,.1f} ± {last.error:,.1f}, read at epoch {last.epoch:g}"
            )
        counts = [
            f"{name} {int((p[-1] > 0.5).sum())} of {len(p[-1])}"
            for name, p in self.inclusion.items()
        ]
        gone = f"; {len(self.removed)} removed" if self.removed else ""
        if counts:
            lines.append(f"  active {', '.join(counts)}{gone}")
        return lines

    @property
    def epoch(self) -> float:
        """Epochs so far; a fraction within a long one."""
        return len(self) if self.parts == 1 else len(self) / self.parts

    @property
    def epochs(self) -> NDArray[np.float64]:
        """Epochs done at the end of each row, ``[rows]``."""
        return np.arange(1, len(self) + 1) / self.parts

    @property
    def elbo(self) -> NDArray[np.float64]:
        """The bound, log-likelihood minus the whole KL, ``[epochs]``, also where a warm-up optimised less."""
        return np.asarray(self.log_likelihood) - np.asarray(self.kl)

    def require_match(self, owner: str, description: NetworkDescription) -> None:
        """Raise :class:`ConfigurationError` unless this is a history of such a network.

        :param owner: the public function, for the message.
        """
        expected = {group.name: group.size for group in description.gate_groups}
        held = {name: len(rows[-1]) for name, rows in self.inclusion.items() if rows}
        gone = [r for r in self.removed if not 0 <= r.node < expected.get(r.group, 0)]
        if (held and held != expected) or gone:
            raise ConfigurationError(
                f"{owner}: the history is that of another network, with gates {held or gone}; this one has {expected}."
                " Give the history of the same fit."
            )

    def active(self, threshold: float = 0.5) -> dict[str, NDArray[np.int64]]:
        """Number of nodes with inclusion above the threshold, ``{group: [epochs]}``."""
        return {
            name: (np.stack(rows) > threshold).sum(1) if rows else np.zeros(0, dtype=np.int64)
            for name, rows in self.inclusion.items()
        }

    def to_frame(self) -> pd.DataFrame:
        """One row an epoch: ELBO, its parts, time, and ``active.{group}`` columns."""
        columns = {
            "elbo": self.elbo,
            "log_likelihood": self.log_likelihood,
            "kl": self.kl,
            "kl_weight": self.kl_weight,
            "seconds": self.seconds,
        }
        columns |= {f"active.{name}": count for name, count in self.active().items()}
        whole = pd.RangeIndex(1, len(self) + 1, name="epoch")
        index = whole if self.parts == 1 else pd.Index(self.epochs, name="epoch")
        return pd.DataFrame(columns, index=index)
