"""What was typed: read, checked, and written again."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import typer

from pyro_ssbnn.errors import ConfigurationError

__all__ = ["check_suffix", "command_line", "is_given", "names", "numbers"]


def is_given(context: typer.Context, name: str) -> bool:
    """Whether a parameter stands on the command line, and is no default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def command_line(context: typer.Context) -> str:
    """What was typed: the command with all that was given to it, quoted for a shell."""
    words = ["pyro-ssbnn", str(context.info_name)]
    for parameter in context.command.params:
        name = str(parameter.name)
        if not is_given(context, name):
            continue
        value = context.params[name]
        if parameter.param_type_name == "argument":
            words += map(_word, value if parameter.nargs != 1 else [value])
        elif isinstance(value, bool):
            words.append((parameter.opts if value else parameter.secondary_opts)[0])
        else:
            several = parameter.multiple or parameter.nargs > 1
            for part in value if several and parameter.nargs == 1 else [value]:
                given = part if parameter.nargs > 1 else [part]
                words += [parameter.opts[0], *map(_word, given)]
    return shlex.join(words)


def _word(value: Any) -> str:
    return str(value.value if isinstance(value, Enum) else value)


def check_suffix(out: Path | None, suffix: str) -> None:
    """Raise :class:`ConfigurationError` unless ``--out``, where it is given, names a file of this kind."""
    if out is not None and out.suffix != suffix:
        raise ConfigurationError(f"--out: expected a name ending in {suffix}; got {out.name}.")


def numbers(option: str, text: str, kind: Callable[[str], float], expected: str) -> list[Any]:
    """Read ``1,32,1024``; none from an empty text.

    :raises ConfigurationError: for anything else, in the words of ``expected``.
    """
    try:
        return [kind(part) for part in text.split(",")] if text.strip() else []
    except ValueError as error:
        raise ConfigurationError(f"{option}: expected {expected}; got {text!r}.") from error


def names(text: str | None) -> tuple[str, ...] | None:
    """Read ``age,region`` as the shell gives it; a name that holds a comma stands in quotation marks."""
    return None if text is None else tuple(name.strip() for name in next(csv.reader([text])))
