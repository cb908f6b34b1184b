"""Options of the training: one for each field of TrainingOptions, in its own words."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, get_type_hints

import typer

from pyro_ssbnn.inference.options import TrainingOptions

__all__ = ["option", "with_training_options"]

# What the names and docstrings of TrainingOptions' fields cannot say.
_FLAGS = {
    "hard_gates": "--hard-gates/--soft-gates",
    "local_reparameterization": "--local-draws/--weight-draws",
}
_METAVARS = {
    "compile": "auto|trace|on|off",
    "dtype": "float32|float64",
    "milestones": "FRACTION, several times",
    "optimizer": "adam|sgd",
    "gate_hold": "PREDICTORS NODES",
    "gate_method": "gradient|ascent",
    "precision": "full|tf32|bf16",
    "temperature": "FIRST LAST",
}


def option(name: str) -> str:
    """What the command line calls a field of TrainingOptions."""
    return _FLAGS.get(name, f"--{name.replace('_', '-')}")


def with_training_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each field of TrainingOptions, in place of its ``**training``.

    Name, type, default and help are the field's own.
    """
    own = inspect.signature(command, eval_str=True).parameters.values()
    kinds, meanings = get_type_hints(TrainingOptions), _meanings(TrainingOptions)
    parameters = [p for p in own if p.kind is not p.VAR_KEYWORD]
    for field in fields(TrainingOptions):
        kind, default = kinds[field.name], field.default
        if kind == tuple[float, ...]:  # given several times
            kind, default = list[float], []
        elif kind == bool | str:
            kind = str
        option = typer.Option(
            *([_FLAGS[field.name]] if field.name in _FLAGS else []),
            help=meanings[field.name],
            metavar=_METAVARS.get(field.name),
            show_default=default not in (None, []),
            rich_help_panel="Training",
        )
        parameters.append(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[kind, option],
            )
        )
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _meanings(options: type) -> dict[str, str]:
    """What a docstring says of each parameter, in the words of a command line."""
    found = {}
    # Without the indentation, which Python itself drops from 3.13 on.
    docstring = inspect.getdoc(options) or ""
    for name, text in re.findall(r":param (\w+): (.*?)(?=\n:)", docstring, re.S):
        text = re.sub(r"``(\w+)``", lambda m: f"--{m[1].replace('_', '-')}", " ".join(text.split()))
        text = re.sub(r"\bNone keeps", "0 keeps", text)
        text = re.sub(r"\bNone( takes| for)?\b", "by default", text)
        found[name] = re.sub(r"(^|\. )[a-z]", lambda m: m[0].upper(), text)
    return found
