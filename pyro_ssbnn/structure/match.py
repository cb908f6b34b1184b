"""Whether networks and guides belong together: the first difference, in words.

Parameters carry no sign of what they are of. Tensors of a guide may fit another network's by chance, or by a broadcast,
and everything made of both would be nonsense that looks like an answer. So every public call that takes two of them
asks here.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.network import Network

__all__ = ["first_difference", "require_match"]

_MODEL = ("likelihood", "activation")  # what a guide may know of its network beside the description


def require_match(owner: str, model: Network, guide: Guide) -> None:
    """Raise :class:`ConfigurationError` unless the guide is one of this network; the message has the first difference.

    :param owner: the public function, for the message.
    """
    if not hasattr(model, "description") or not hasattr(guide, "inclusion"):
        raise ConfigurationError(
            f"{owner}: expected a network and its guide, such as result.model and result.guide of a fit; got"
            f" {type(model).__name__} and {type(guide).__name__}."
        )
    difference = first_difference(model, guide, ("the network", "the guide"))
    if difference:
        raise ConfigurationError(
            f"{owner}: the guide is that of another network: {difference}. Give the network that it was made for, or"
            " a guide made for this one."
        )


def first_difference(
    one: Network | Guide, other: Network | Guide, names: tuple[str, str]
) -> str | None:
    """The first thing in which two networks, or a network and a guide, differ; None when they agree.

    Compared are layers, their sizes, priors and inclusion, what feeds them, sums and names of predictors; likelihood
    and activation where both know them.

    :param names: what the two are called.
    """
    known = [name for name in _MODEL if hasattr(one, name) and hasattr(other, name)]
    if one.description == other.description and all(
        getattr(one, name) == getattr(other, name) for name in known
    ):
        return None
    here, there = _facts(one, known), _facts(other, known)
    for name in {**here, **there}:
        a, b = here.get(name), there.get(name)
        if a != b:
            said = f"{name} is {a!r} in {names[0]} and {b!r} in {names[1]}"
            return f"{said}, of two definitions of one class" if repr(a) == repr(b) else said
    return None


def _facts(of: Network | Guide, known: list[str]) -> dict[str, Any]:
    """What is compared, by its name in a message, the most telling first."""
    description, inputs = of.description, of.description.inputs
    facts: dict[str, Any] = {
        "the number of predictors": inputs.size,
        "the list of layers": [group.name for group in description.groups],
    }
    for group in (inputs, *description.groups):
        own = {f"{group.name}.{f.name}": getattr(group, f.name) for f in fields(group)}
        facts |= {name: value for name, value in own.items() if name != f"{inputs.name}.names"}
    facts |= {f"the sum {total.name}": total for total in description.sums}
    facts |= {f"the {name}": getattr(of, name) for name in known}
    facts |= {f"the name of predictor {i}": name for i, name in enumerate(inputs.names)}
    return facts
