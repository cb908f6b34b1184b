"""Stochastic variational inference: options, the training loop, its history and its guards."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from pyro_ssbnn.training.options import TrainingOptions

if TYPE_CHECKING:
    from pyro_ssbnn.training.augmentation import ImageAugmentation
    from pyro_ssbnn.training.deterministic import fit_deterministic
    from pyro_ssbnn.training.fine_tuning import fine_tune
    from pyro_ssbnn.training.guards import collapsed_layers
    from pyro_ssbnn.training.history import History, Removal
    from pyro_ssbnn.training.loop import Fit, fit

__all__ = [
    "Fit",
    "History",
    "ImageAugmentation",
    "Removal",
    "TrainingOptions",
    "collapsed_layers",
    "fine_tune",
    "fit",
    "fit_deterministic",
]

_HOME = {
    "Fit": "loop",
    "History": "history",
    "ImageAugmentation": "augmentation",
    "Removal": "history",
    "collapsed_layers": "guards",
    "fine_tune": "fine_tuning",
    "fit": "loop",
    "fit_deterministic": "deterministic",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: the options alone need no torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
