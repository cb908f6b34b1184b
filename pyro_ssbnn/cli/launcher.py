"""Whether a launcher of several processes, such as torchrun, has started this one; known before torch is imported."""

from __future__ import annotations

import os

from pyro_ssbnn.errors import ConfigurationError

__all__ = ["follows", "require_one_fit", "several"]

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables of the environment by which torchrun, or another launcher, tells a process which of how many it is."""


def several() -> bool:
    """Whether this process is one of several that train one run."""
    return all(name in os.environ for name in _NEEDED) and int(os.environ["WORLD_SIZE"]) > 1


def follows() -> bool:
    """Whether this process is one of several, and not the first."""
    return several() and int(os.environ["RANK"]) > 0


def require_one_fit(fits: int) -> None:
    """Raise :class:`ConfigurationError` where several processes are to train several fits."""
    if fits > 1 and several():
        raise ConfigurationError(
            "--fits: several processes train one fit together. Take --jobs, without torchrun, to train several fits"
            " side by side."
        )
