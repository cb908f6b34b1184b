"""Checks of arguments that several rooms share."""

from __future__ import annotations

from pyro_ssbnn.errors import ConfigurationError

__all__ = ["check_positive", "check_probability"]


def check_positive(owner: str, **values: float) -> None:
    """Raise :class:`ConfigurationError` for any value that is not a positive finite number."""
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise ConfigurationError(
                f"{owner}: {name} must be a positive finite number; got {value!r}."
            )


def check_probability(owner: str, value: float) -> None:
    """Raise :class:`ConfigurationError` unless 0 < value < 1."""
    if not 0 < value < 1:
        raise ConfigurationError(
            f"{owner}: a prior inclusion probability lies strictly between 0 and 1; got {value!r}."
            " Leave the nodes ungated (inclusion=None) for a network without selection."
        )
