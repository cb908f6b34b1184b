"""Whether a run holds its gates at first, and how they move then: what network, guide and rows decide of options."""

from __future__ import annotations

from dataclasses import replace

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference.options import MANY_ROWS, TrainingOptions
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.flow import flip_cost
from pyro_ssbnn.structure.guide import Guide

__all__ = ["settled_options"]

_HOLD = (0.6, 0.7)
_HOLD_OF_MANY = (0.3, 0.35)  # as many steps of a run that is twice as long
_FLIP_COST = 500_000  # multiply-adds of a row through all flips, up to which they cost little


def settled_options(
    asked: TrainingOptions,
    description: NetworkDescription,
    num_data: int,
    guide: Guide | None = None,
) -> TrainingOptions:
    """Options with what depends on network, guide and rows filled in; those already settled stay as they are.

    Gates that depend on each other, or are soft, follow the gradient from the start.

    :param asked: what the user gave.
    :param num_data: observations.
    :param guide: the guide to train; None stands for a new one of independent gates.
    :raises ConfigurationError: where the user asked for an ascent that cannot be.
    """
    usual = _HOLD if num_data < MANY_ROWS else _HOLD_OF_MANY
    hold = asked.gate_hold or (usual if _should_hold(asked, description) else (0.0, 0.0))
    ascends = max(hold) > 0 and asked.hard_gates and asked.gate_rate is None and asked.rate is None
    method = asked.gate_method or ("ascent" if ascends else "gradient")
    independent = guide is None or not getattr(guide, "coupled", ())
    hard = asked.hard_gates if guide is None else guide.hard
    if method == "gradient" or (hard and independent):
        return replace(asked, gate_hold=hold, gate_method=method)
    if asked.ascends:
        kind = "soft gates" if not hard else f"the gates of a {type(guide).__name__}"
        raise ConfigurationError(
            f"gate_method='ascent' asks for hard gates that do not depend on each other; {kind} are none. Take"
            " gate_method='gradient'."
        )
    return replace(asked, gate_method="gradient", gate_hold=asked.gate_hold or (0.0, 0.0))


def _should_hold(asked: TrainingOptions, description: NetworkDescription) -> bool:
    """Whether gates are held unless the user says otherwise.

    Linear predictors need no help: what they are for is learned at once. Soft gates have no two branches, and a rate is
    of gates that follow the gradient.
    """
    rated = asked.gate_rate is not None or asked.rate is not None
    if not asked.hard_gates or rated or len(description.groups) == 1:
        return False
    cheap = description.is_dense and flip_cost(description) <= _FLIP_COST
    return bool(description.gate_groups) and (cheap or description.inputs.gated)
