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


def _subclasses(cls: Any) -> list[type[Prior]]:
    found: list[type[Prior]] = []
    children: list[type[Prior]] = cls.__subclasses__()
    for child in children:
        found += [child, *_subclasses(child)]
    return found


def from_config(config: Mapping[str, Any]) -> Prior:
    """Make a prior from :meth:`Prior.to_config`'s record; priors of your own are found by their ``name``.

    :raises ConfigurationError: for an unknown name or unknown hyperparameters.
    """
    classes = {cls.name: cls for cls in _subclasses(Prior)}
    options = dict(config)
    name = options.pop("name", None)
    if name not in classes:
        raise ConfigurationError(f"prior: expected one of {sorted(classes)}; got {name!r}.")
    inclusion = options.get("inclusion")
    if isinstance(inclusion, Mapping):
        options["inclusion"] = TheoryInclusion(**inclusion["theory"])
    elif isinstance(inclusion, list):
        options["inclusion"] = tuple(inclusion)
    try:
        return classes[name](**options)
    except TypeError as error:
        raise ConfigurationError(f"prior {name!r}: {error}") from error
