"""Exceptions and warnings of the package.

Every message says where the trouble is, what was expected, what came, and what to do about it.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "CheckpointError",
    "CollapseWarning",
    "ConfigurationError",
    "DataError",
    "DataWarning",
    "ExportError",
    "MissingKLError",
    "NonFiniteLossError",
    "RankError",
    "SelectionError",
    "TrainingInterrupted",
]


class DataError(ValueError):
    """The data given by the user cannot be used as they are (missing values, one class, a cut file)."""


class ConfigurationError(ValueError):
    """A model, prior, guide or training option is outside its domain."""


class MissingKLError(RuntimeError):
    """A latent site has no closed-form KL between its guide and its prior.

    Deliberately not a ``NotImplementedError``: Pyro catches that one and samples the KL instead.
    """


class NonFiniteLossError(RuntimeError):
    """The training loss became NaN or infinite; the message names the site that caused it."""


class TrainingInterrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C or a notebook's stop button.

    :ivar result: the :class:`~pyro_ssbnn.Fit` as of the last epoch that was completed (of the last few, where an epoch
        takes milliseconds); ``fit(..., resume=error.result)`` goes on as the uninterrupted run would have, bit by bit.
    """

    def __init__(self, message: str, result: Any) -> None:
        super().__init__(message)
        self.result = result


class RankError(RuntimeError):
    """A run on several processes has lost one of them, or they have come apart; the message names it."""


class SelectionError(ValueError):
    """A selection of nodes cannot be made or cannot be pruned to (a layer with no node left)."""


class CheckpointError(RuntimeError):
    """A saved file is foreign, of a newer format, damaged, or does not match the model."""


class ExportError(RuntimeError):
    """A network cannot be exported: a package is missing, or the exported network does not compute the same."""


class BoundWarning(UserWarning):
    """The bound fell towards the end of a run, which therefore went back to an earlier epoch."""


class DataWarning(UserWarning):
    """Data can be used, though hardly as they are meant (a level that training never saw, a copy of the target)."""


class MisfitWarning(UserWarning):
    """Data and likelihood do not go together: numbers far from unit scale, or more spread than it allows."""


class ShortRunWarning(UserWarning):
    """A run was too short for its gates to close, so that inclusion probabilities say little."""


class CollapseWarning(UserWarning):
    """A hidden layer lost all its nodes: the network's prediction no longer depends on its input."""
