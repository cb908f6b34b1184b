"""Priors of node groups: spike-and-slab and their ungated forms, one scale hierarchy a module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.priors.base import Inclusion, Latents, Prior
from pyro_ssbnn.priors.gaussian import SSIG, Gaussian
from pyro_ssbnn.priors.group_horseshoe import SSGHS, GroupHorseshoe
from pyro_ssbnn.priors.group_lasso import SSGL, GroupLasso
from pyro_ssbnn.priors.inclusion import TheoryInclusion, theory_inclusion
from pyro_ssbnn.registry import class_of

__all__ = [
    "SSGHS",
    "SSGL",
    "SSIG",
    "Gaussian",
    "GroupHorseshoe",
    "GroupLasso",
    "Inclusion",
    "Latents",
    "Prior",
    "TheoryInclusion",
    "from_config",
    "theory_inclusion",
]


def from_config(config: Mapping[str, Any]) -> Prior:
    """Make a prior from :meth:`Prior.to_config`'s record.

    :raises ConfigurationError: for a name that is not registered, or unknown hyperparameters.
    """
    cls: type[Prior] = class_of("prior", config)
    options = {key: value for key, value in config.items() if key not in ("name", "module")}
    inclusion = options.get("inclusion")
    if isinstance(inclusion, Mapping):
        options["inclusion"] = TheoryInclusion(**inclusion["theory"])
    elif isinstance(inclusion, list):
        options["inclusion"] = tuple(inclusion)
    try:
        return cls(**options)
    except TypeError as error:
        raise ConfigurationError(f"prior {config['name']!r}: {error}") from error
