"""Checks of numbers and kinds that need no torch: the command line's help comes without it."""

from __future__ import annotations

from math import isfinite
from numbers import Integral, Real

from typing_extensions import TypeIs

from pyro_ssbnn.errors import ConfigurationError

__all__ = ["check_that", "is_number", "is_whole"]


def check_that(owner: str, name: str, value: object, holds: bool, expected: str) -> None:
    """Raise :class:`ConfigurationError`, in these words, unless something holds of an argument."""
    if not holds:
        told = repr(value)
        told = told if len(told) <= 100 else f"a {type(value).__name__}"
        raise ConfigurationError(f"{owner}: {name} must be {expected}; got {told}.")


def is_whole(value: object) -> TypeIs[int]:
    """Whether a value is a whole number; a truth value is none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> TypeIs[float]:
    """Whether a value is a finite real number; a truth value is none."""
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)
