"""Priors of node groups: spike-and-slab and their ungated forms, one scale hierarchy a module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyro_ssbnn.priors.base import (
    Inclusion,
    Latents,
    Prior,
    inclusion_from_config,
    inclusion_to_config,
)
from pyro_ssbnn.priors.beta_inclusion import BetaInclusion
from pyro_ssbnn.priors.gaussian import SSIG, Gaussian
from pyro_ssbnn.priors.group_horseshoe import SSGHS, GroupHorseshoe
from pyro_ssbnn.priors.group_lasso import SSGL, GroupLasso
from pyro_ssbnn.priors.inclusion import TheoryInclusion, each_of_two, theory_inclusion
from pyro_ssbnn.registry import made_of

__all__ = [
    "SSGHS",
    "SSGL",
    "SSIG",
    "BetaInclusion",
    "Gaussian",
    "GroupHorseshoe",
    "GroupLasso",
    "Inclusion",
    "Latents",
    "Prior",
    "TheoryInclusion",
    "each_of_two",
    "from_config",
    "inclusion_from_config",
    "inclusion_to_config",
    "theory_inclusion",
]


def from_config(config: Mapping[str, Any]) -> Prior:
    """Make a prior from :meth:`Prior.to_config`'s record.

    :raises ConfigurationError: for a name that is not registered, or unknown hyperparameters.
    """
    given = config.get("inclusion")
    changed = {"inclusion": inclusion_from_config(given)} if isinstance(given, Mapping) else {}
    prior: Prior = made_of("prior", config, **changed)
    return prior
