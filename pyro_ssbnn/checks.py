"""Checks of arguments that several rooms share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_ssbnn.arguments import check_that, is_number, is_whole
from pyro_ssbnn.errors import ConfigurationError, DataError

__all__ = [
    "check_at_least_one",
    "check_draws",
    "check_positive",
    "check_probability",
    "check_rows",
    "check_seed",
    "check_tensors",
    "check_that",
    "is_number",
    "is_whole",
    "require_memory",
    "resolve_device",
    "tensor_of",
]

_MOST_DRAWS = 1_000_000
_DEVICES = ("cpu", "cuda")
_WANTING = {"mps": ", which has no float64, in which gates are weighed"}


def check_at_least_one(owner: str, **values: int) -> None:
    """Raise :class:`ConfigurationError` for any number below 1, or that is not whole."""
    for name, value in values.items():
        check_that(owner, name, value, is_whole(value), "a whole number")
        check_that(owner, name, value, value >= 1, "at least 1")


def check_draws(owner: str, num_draws: int, least: int = 1) -> None:
    """Raise :class:`ConfigurationError` unless this is a number of draws that anyone could wait for."""
    check_that(owner, "num_draws", num_draws, is_whole(num_draws), "a whole number")
    check_that(owner, "num_draws", num_draws, num_draws >= least, f"at least {least}")
    most = f"at most {_MOST_DRAWS:,}"
    check_that(owner, "num_draws", num_draws, num_draws <= _MOST_DRAWS, most)


def check_positive(owner: str, **values: float) -> None:
    """Raise :class:`ConfigurationError` for any value that is not a positive finite number."""
    for name, value in values.items():
        check_that(owner, name, value, is_number(value) and value > 0, "a positive finite number")


def check_probability(owner: str, value: float) -> None:
    """Raise :class:`ConfigurationError` unless 0 < value < 1."""
    if not (is_number(value) and 0 < value < 1):
        raise ConfigurationError(
            f"{owner}: a prior inclusion probability lies strictly between 0 and 1; got {value!r}."
            " Leave the nodes ungated (inclusion=None) for a network without selection."
        )


def check_seed(seed: int) -> None:
    """Raise :class:`ConfigurationError` unless this is a seed of torch's generators."""
    check_that("seed", "it", seed, is_whole(seed) and 0 <= seed < 2**63, "a whole number from 0")


def require_memory(
    owner: str,
    needed: float,
    what: str,
    advice: str = "Take narrower layers, or fewer of them.",
) -> None:
    """Raise :class:`ConfigurationError` where this machine, or what of it this process may use, has less memory.

    :param needed: bytes.
    :param what: what needs them, for the message.
    :param advice: the end of the message.
    """
    limits = [float("inf")]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # "max": no limit
            limits.append(int(Path(file).read_text()))
    with suppress(AttributeError, OSError, ValueError):  # not on every system
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    if needed > min(limits):
        raise ConfigurationError(
            f"{owner}: {what} would take about {needed / 2**30:,.0f} GiB of memory; there are"
            f" {min(limits) / 2**30:,.0f}. {advice}"
        )


def check_tensors(owner: str, **values: object) -> None:
    """Raise :class:`DataError` for anything but a dense tensor of real numbers; None stands for what is not given."""
    for name, value in values.items():
        if value is None:
            continue
        if not isinstance(value, Tensor):
            raise DataError(
                f"{owner}: {name} must be a torch.Tensor; got {type(value).__name__}. Convert it with"
                " torch.as_tensor (a pandas object by its to_numpy() first)."
            )
        if value.is_complex():
            raise DataError(
                f"{owner}: {name} is complex; give real numbers, for example real and imaginary part, or modulus and"
                " phase, as columns of their own."
            )
        if value.device.type == "meta":
            raise DataError(f"{owner}: {name} is on the device 'meta', which holds no numbers.")
        if value.layout != torch.strided:
            raise DataError(f"{owner}: {name} is sparse; give {name}.to_dense().")


def tensor_of(owner: str, name: str, values: Any, columns: Sequence[str] = ()) -> Tensor:
    """An array, a frame or a list of numbers as a tensor; a tensor as it is.

    :param name: what the caller calls it.
    :param columns: names of the columns wanted: a frame that has just these is put in their order.
    :raises DataError: for text, dates and other objects.
    """
    if isinstance(values, Tensor):
        return values
    held = getattr(values, "columns", None)
    if held is not None and columns and sorted(map(str, held)) == sorted(columns):
        values = values[list(columns)]
    array = np.array(values)  # copied: a tensor must be able to write
    if array.dtype.kind not in "biufc":
        raise DataError(
            f"{owner}: {name} holds {array.dtype} values, not numbers. Tables with text, dates or categories are for"
            " the estimators in pyro_ssbnn.sklearn, or for pyro_ssbnn.data.Preprocessing."
        )
    return torch.from_numpy(array)


def check_rows(owner: str, x: Tensor, y: Tensor | None, names: Sequence[str]) -> None:
    """Raise :class:`DataError` unless x, ``[N, p]``, and y, where given, are finite and of matching shapes.

    :param names: of the p predictors.
    """
    if x is None:
        raise DataError(f"{owner}: x must be a torch.Tensor; got None.")
    check_tensors(owner, x=x, y=y)
    size = len(names)
    if x.ndim != 2 or x.shape[1] != size or not len(x):
        raise DataError(f"{owner}: x must be [N, {size}], N at least 1; got {list(x.shape)}.")
    if y is not None and len(y) != len(x):
        raise DataError(f"{owner}: x has {len(x)} rows and y has {len(y)}; give one target a row.")
    for what, values in (("x", x), ("y", y)):
        # A sum is not finite when one of its terms is not, and needs no memory.
        if values is None or not values.is_floating_point() or values.sum().isfinite():
            continue
        bad = (~values.reshape(len(values), -1).isfinite()).nonzero()
        if not len(bad):  # finite values whose sum is not
            continue
        row, column = bad[0].tolist()
        where = f" of column {names[column]!r} ({column + 1} of {size})" if what == "x" else ""
        raise DataError(
            f"{owner}: {what} has {len(bad):,} missing or infinite values, the first in row {row}{where}. Drop those"
            " rows or fill in the values."
        )


def resolve_device(device: str | torch.device) -> torch.device:
    """The torch device of a name; "auto" is CUDA where there is one, else the CPU.

    :raises ConfigurationError: for a name torch does not know, for a device that is neither the CPU nor CUDA, and for
        one on which torch cannot compute here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ConfigurationError(f"device {device!r}: {error}") from error
    if found.type not in _DEVICES:
        raise ConfigurationError(
            f"device {device!r}: this package computes on 'cpu' and on 'cuda' (an AMD card is 'cuda' to torch, too);"
            f" nothing has been tried on '{found.type}'{_WANTING.get(found.type, '')}. Use 'auto' or 'cpu'; a pruned"
            " network is a plain torch module, and goes wherever torch does by .to(...)."
        )
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError(
            f"device {device!r}: torch finds no CUDA here; use 'auto' or 'cpu'."
        )
    try:
        torch.zeros((), device=found).item()
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        raise ConfigurationError(
            f"device {device!r}: torch cannot compute there on this machine; use 'auto' or 'cpu'."
        ) from error
    return found
