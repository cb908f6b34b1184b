"""Words shared by the messages of this folder: ordinals, shortened lists, columns, near misses, options, problems."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from pyro_ssbnn.errors import DataError

_LONGEST = 100  # characters of a name or value in a message


def ordinal(position: int) -> str:
    """Write a 1-based position in words: ``ordinal(3) == "3rd"``."""
    teen = 10 <= position % 100 <= 20
    suffix = "th" if teen else {1: "st", 2: "nd", 3: "rd"}.get(position % 10, "th")
    return f"{position}{suffix}"


def listed(items: Iterable[object], most: int = 10) -> str:
    """Quote strings (of long ones the beginning), show at most ``most`` items, and say how many are left out."""
    every = list(items)
    shown = ", ".join(quoted(i) if isinstance(i, str) else str(i) for i in every[:most])
    left = len(every) - most
    return f"{shown} and {left} more" if left > 0 else shown


def quoted(text: str) -> str:
    """A name or a value in quotation marks, of a long one the beginning."""
    return repr(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")


def column(names: Sequence[str], index: int) -> str:
    """Name a column and its place: ``column 'age' (3rd of 10)``; ``index`` counts from 0."""
    return f"column {names[index]!r} ({ordinal(index + 1)} of {len(names)})"


@contextmanager
def located(where: object) -> Iterator[None]:
    """Say of what a :class:`Dataset` of the block does not take in which file or folder it stands."""
    try:
        yield
    except DataError as error:
        found = re.sub(r"^Dataset(\.\w+)?: ", f"{where}: ", str(error))
        raise DataError(found) from error


def check_different(where: str, names: Sequence[str]) -> None:
    """Raise :class:`DataError` that names those which occur more than once, in the order in which they come."""
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(
            f"{where}: expected different names, but {listed(twice)} occur more than once. Rename or drop the copies."
        )


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """End a message with the nearest known name, or with nothing when none is near."""
    lowered = {other.lower(): other for other in reversed(known)}
    near = difflib.get_close_matches(name.lower(), list(lowered), n=1)
    return f" Did you mean {lowered[near[0]]!r}?" if near else ""


def python_option(name: str, value: object) -> str:
    """An option as a script says it: ``task='count'``; another surface has words of its own."""
    return f"{name}={value!r}"


def command_option(name: str, value: object) -> str:
    """An option as the shell says it: ``--task count``."""
    values = (
        [value]
        if isinstance(value, str)
        else list(value)
        if isinstance(value, Sequence)
        else [value]
    )
    words = ",".join(str(v) for v in values)
    return f"--{name.replace('_', '-')} {words if ' ' not in words else repr(words)}"


class Problems:
    """All that is wrong with some data, gathered, so that it is told at once.

    :param where: name of the table.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.found: list[str] = []

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Note a :class:`DataError` of the block instead of raising it."""
        try:
            yield
        except DataError as error:
            self.found.append(str(error))

    def tell(self) -> None:
        """Raise one :class:`DataError` with everything that was noted, if there is anything."""
        if len(self.found) == 1:
            raise DataError(f"{self.where}: {self.found[0]}")
        if self.found:
            lines = "\n".join(f"  {i}. {text}" for i, text in enumerate(self.found, 1))
            raise DataError(f"{self.where}: {len(self.found)} problems.\n{lines}")
