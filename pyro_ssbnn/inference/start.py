"""How a run began, so that another seed can begin like it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from typing_extensions import TypeIs

from pyro_ssbnn.guides import BlockGuide, StructuredGuide, has_block_law
from pyro_ssbnn.inference.options import TrainingOptions
from pyro_ssbnn.inference.preparation import Augmentation
from pyro_ssbnn.isolation import isolated
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.network import Network

__all__ = ["GuideMaker", "Start", "default_guide", "is_guide", "resumed_start", "start_of"]

GuideMaker = Callable[[Network], Guide]
"""Makes a new guide of a network: a guide's class, its method ``restarted``, or a function."""

# What may change when a run is resumed without making it another one.
_HOW_LONG = ("epochs", "patience", "min_delta", "device", "compile")


@dataclass(frozen=True)
class Start:
    """What a run's options do not tell of its beginning; class, options and first weights are the guide's to tell.

    :param augment: what changed the predictors of every minibatch.
    :param lost: name of an augmentation that the fit's file does not hold.
    :param obstacle: why the run cannot begin again from another seed, in words; empty where it can.
    """

    augment: Augmentation | None = None
    lost: str = ""
    obstacle: str = ""


def default_guide(model: Network, options: TrainingOptions, *, streamed: bool = False) -> Guide:
    """The guide that a run trains unless it is given one, at new starting values.

    :param streamed: whether the rows are read in pieces, on which joint laws are not settled.
    """
    initial: dict[str, Any] = {
        "temperature": options.temperature[0],
        "initial_inclusion": options.start_inclusion,
    }
    if has_block_law(model) and options.hard_gates and not streamed:
        return BlockGuide(model, **initial)
    return StructuredGuide(model, hard=options.hard_gates, **initial)


def is_guide(guide: Guide | GuideMaker) -> TypeIs[Guide]:
    """Whether this is a guide, and not what makes one: both can be called."""
    return hasattr(guide, "description")


def start_of(guide: Guide, model: Network, augment: Augmentation | None) -> Start:
    """Start of a run with a guide that is about to be trained.

    It can begin again if the guide is as new: as others of its class and options, where those agree with each other.
    """
    kind = type(guide).__name__
    if not hasattr(guide, "restarted"):
        return Start(augment, obstacle=f"{kind} has no method `restarted` that makes a new guide")
    like = next(guide.parameters())
    new = []
    for seed in (0, 1):
        with isolated(seed, like):
            try:
                new.append(guide.restarted(model).to(like).state_dict())
            except TypeError as error:
                return Start(
                    augment, obstacle=f"a new {kind} cannot be made of its options ({error})"
                )
    fixed = [name for name in new[0] if torch.equal(new[0][name], new[1][name])]
    now: Mapping[str, torch.Tensor] = guide.state_dict()
    if not all(torch.allclose(now[k], new[0][k], rtol=1e-5, atol=1e-6) for k in fixed):
        return Start(augment, obstacle="its guide had been trained, or changed, before the run")
    return Start(augment)


def resumed_start(
    start: Start, augment: Augmentation | None, earlier: TrainingOptions, options: TrainingOptions
) -> Start:
    """Start of a run that goes on from another."""
    kept = {name: getattr(earlier, name) for name in _HOW_LONG}
    if start.obstacle:
        return replace(start, augment=augment, lost="")
    if replace(options, **kept) != earlier:
        return Start(augment, obstacle="it was resumed with other options")
    if augment != start.augment:
        return Start(augment, obstacle="it was resumed with another augmentation")
    return start
