"""What is asked of the values of a :class:`~pyro_ssbnn.TrainingOptions`: their kinds, and their domains."""

from __future__ import annotations

import itertools
from dataclasses import fields
from functools import partial
from typing import Any

from pyro_ssbnn.arguments import is_number, is_whole
from pyro_ssbnn.errors import ConfigurationError

__all__ = ["check_domains", "take_own_kinds"]

_OPTIMIZERS = ("adam", "sgd")
_GATE_METHODS = ("gradient", "ascent")
_DTYPES = ("float32", "float64")
_PRECISIONS = ("full", "tf32", "bf16")
_LARGEST = 1e6
_KINDS = {"bool": bool, "str": str}


def take_own_kinds(options: Any) -> None:
    """Bring numbers of any library to Python's own, which files hold, and refuse what is none."""
    for field in fields(options):
        name, kind, value = field.name, str(field.type), getattr(options, field.name)
        if name == "compile" or (value is None and kind.endswith("None")):
            continue
        if name == "device":
            value = str(value)
        if kind.startswith("tuple"):
            numbers = isinstance(value, tuple | list) and all(map(is_number, value))
            _require(options, name, numbers, "finite numbers")
            value = tuple(float(v) for v in value)
        elif kind.startswith("int"):
            _require(options, name, is_whole(value) and abs(value) < 2**63, "a whole number")
            value = int(value)
        elif kind.startswith("float"):
            sensible = is_number(value) and abs(value) <= _LARGEST
            _require(options, name, sensible, f"a number, at most {_LARGEST:g}")
            value = float(value)
        else:
            _require(options, name, isinstance(value, _KINDS[kind.split()[0]]), f"of type {kind}")
        object.__setattr__(options, name, value)


def check_domains(options: Any) -> None:
    """Refuse values outside their domains.

    :raises ConfigurationError: for the first of them.
    """
    require = partial(_require, options)
    if options.gate_hold is not None:
        held = len(options.gate_hold) == 2 and all(0 <= part <= 1 for part in options.gate_hold)
        require("gate_hold", held, "two fractions of the epochs, 0 to 1, or None")
    require("remove_after", options.remove_after >= 1, "at least 1")
    for name in ("epochs", "batch_size", "num_particles", "patience"):
        chosen = getattr(options, name)
        require(name, chosen is None or chosen >= 1, "at least 1, or None")
    require("scale_rate", options.scale_rate > 0, "positive")
    for name in ("mean_rate", "gate_rate", "latent_rate", "rate"):
        chosen = getattr(options, name)
        require(name, chosen is None or chosen > 0, "positive or None")
    for name in ("kl_warmup", "decay_after"):
        chosen = getattr(options, name)
        fraction = chosen is None or 0 <= chosen <= 1
        require(name, fraction, "a fraction of the epochs, 0 to 1")
    rising = all(a < b for a, b in itertools.pairwise((0.0, *options.milestones, 1.0)))
    require("milestones", rising, "rising fractions of the epochs, between 0 and 1")
    require("milestone_factor", 0 < options.milestone_factor <= 1, "within (0, 1]")
    require(
        "gate_method",
        options.gate_method in (None, *_GATE_METHODS),
        "'gradient', 'ascent' or None",
    )
    rateless = options.gate_rate is None or options.gate_method != "ascent"
    require("gate_rate", rateless, "None where gate_method is 'ascent', which has no rate")
    require("optimizer", options.optimizer in _OPTIMIZERS, "'adam' or 'sgd'")
    require("momentum", 0 <= options.momentum < 1, "within [0, 1)")
    require("clip_norm", options.clip_norm is None or options.clip_norm > 0, "positive or None")
    sensible = len(options.temperature) == 2 and all(1e-3 <= t <= 1e3 for t in options.temperature)
    require("temperature", sensible, "two positive numbers, from 0.001 to 1,000")
    particles = options.num_particles
    require("num_particles", particles is None or particles <= 1_000, "at most 1,000")
    require("seed", 0 <= options.seed < 2**32, "from 0 to 4,294,967,295")
    below = options.remove_below
    require("remove_below", below is None or 0 < below <= 0.5, "within (0, 0.5], or None")
    start = options.initial_inclusion
    require("initial_inclusion", start is None or 0 < start < 1, "within (0, 1), or None")
    require("dtype", options.dtype in _DTYPES, "'float32' or 'float64'")
    require("precision", options.precision in _PRECISIONS, "'full', 'tf32' or 'bf16'")
    rounds = options.precision != "full"
    require("dtype", not rounds or options.dtype == "float32", f"'float32' for {options.precision}")
    known = isinstance(options.compile, bool) or options.compile in ("auto", "trace", "on", "off")
    require("compile", known, "'auto', 'trace', True ('on') or False ('off')")


def _require(options: Any, name: str, holds: bool, expected: str) -> None:
    if not holds:
        raise ConfigurationError(
            f"TrainingOptions: {name} must be {expected}; got {getattr(options, name)!r}."
        )
