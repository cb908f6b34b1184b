"""Going on with a run: what must be as it was, and what the new options change.

=================================================== =================================================================
``seed``, ``dtype``, ``optimizer``, ``batch_size``, must be those of the run: the random state, the parameters, the
``hard_gates``, ``initial_inclusion``               optimizer's moments and the epochs' steps are taken up as they are
all others                                          may change, and are those of the remaining epochs: rates and their
                                                    schedule, warm-up, temperature, removal, particles, patience, device
=================================================== =================================================================

Gates that fine-tuning holds stay held, whatever the rate of gates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference.options import TrainingOptions
from pyro_ssbnn.structure.match import first_difference
from pyro_ssbnn.structure.network import Network

__all__ = ["FIXED", "renew_rates", "require_resumable"]

FIXED = ("seed", "dtype", "optimizer", "hard_gates", "initial_inclusion", "batch_size")
"""Options that a run that is gone on with keeps."""


def require_resumable(
    model: Network,
    options: TrainingOptions,
    num_data: int,
    before: tuple[Network, TrainingOptions, int],
) -> None:
    """Raise :class:`ConfigurationError` unless a run can go on with this network, these options, so many rows.

    :param before: network, options and number of rows of the run to resume.
    """
    earlier, chosen, rows = before
    difference = first_difference(model, earlier, ("the network", "the run to resume"))
    if difference:
        raise ConfigurationError(
            f"fit: the run to resume is that of another network: {difference}. Give its own: fit(run.model, ...,"
            " resume=run)."
        )
    if num_data != rows:
        raise ConfigurationError(
            f"fit: the run to resume was fitted to {rows} rows; x has {num_data}. Give the same rows, or go on with"
            " others in a new run: fit(run.model, x, y, options, guide=run.guide)."
        )
    pairs = {name: (getattr(options, name), getattr(chosen, name)) for name in FIXED}
    pairs["batch_size"] = (options.batch_rows(rows), chosen.batch_rows(rows))
    changed = [
        f"{name}={new!r} (it used {old!r})" for name, (new, old) in pairs.items() if new != old
    ]
    if changed:
        raise ConfigurationError(
            f"fit: a resumed run cannot change {', '.join(changed)}. Leave them as they were, or start a new run from"
            " its guide: fit(run.model, x, y, options, guide=run.guide)."
        )


def renew_rates(groups: Iterable[dict[str, Any]], wanted: Iterable[Mapping[str, Any]]) -> None:
    """Give parameter groups of a state just taken up the rates and momentum of the new options; held gates stay held.

    :param groups: the optimizer's parameter groups, changed in place.
    :param wanted: the same groups as the options make them.
    """
    for group, new in zip(groups, wanted, strict=True):
        if group["base_rate"] > 0:
            group |= {name: new[name] for name in ("base_rate", "momentum") if name in new}
