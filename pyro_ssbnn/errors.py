"""Exceptions and warnings of the package.

Every message says where the trouble is, what was expected, what came, and what to do about it.
"""

__all__ = [
    "CheckpointError",
    "CollapseWarning",
    "ConfigurationError",
    "DataError",
    "ExportError",
    "MissingKLError",
    "NonFiniteLossError",
    "SelectionError",
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


class SelectionError(ValueError):
    """A selection of nodes cannot be made or cannot be pruned to (a layer with no node left)."""


class CheckpointError(RuntimeError):
    """A saved file is foreign, of a newer format, damaged, or does not match the model."""


class ExportError(RuntimeError):
    """A network cannot be exported: a package is missing, or the exported network does not compute the same."""


class CollapseWarning(UserWarning):
    """A hidden layer lost all its nodes: the network's prediction no longer depends on its input."""
