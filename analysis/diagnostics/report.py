"""What a check says, and the report that gathers all checks.

Verdicts speak one language: nats per observation. ``MATTERS``, 0.01, is what a noise scale wrong by a tenth costs in
expected log predictive density; ``SERIOUS``, 0.1, what one wrong by four tenths costs (``log s + s^-2 / 2 - 1 / 2`` at
s = 1.1 and s = 1.4). Below the first nothing a reader would do changes; above the second every interval is wrong.
Chance is kept apart from size: a verdict worse than ``ok`` also asks for three standard errors.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

import pandas as pd

from pyro_ssbnn.display import as_html

__all__ = ["MATTERS", "SCALE_RATIO", "SERIOUS", "SIGMAS", "Check", "Report", "Verdict"]

Verdict = Literal["ok", "note", "warning"]

MATTERS = 0.01
"""Nats per observation above which a difference is told."""

SERIOUS = 0.1
"""Nats per observation above which a difference spoils the answer."""

SCALE_RATIO = 1.4
"""How far a predictive scale must be off to cost ``SERIOUS`` nats per observation."""

SIGMAS = 3.0
"""Standard errors that count as more than chance: a false alarm in 370 two-sided comparisons."""


@dataclass(frozen=True)
class Check:
    """One finding.

    :param name: of the check, such as ``convergence``.
    :param verdict: ``ok``; ``note``, something to know when reading the fit; ``warning``, do not trust it as it is.
    :param finding: what was seen, one or two plain sentences.
    :param advice: what to do; empty where there is nothing to do.
    :param values: the numbers behind it, JSON's own types.
    """

    name: str
    verdict: Verdict
    finding: str
    advice: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """All checks of a fit, in the order in which they should be read.

    >>> report = Report((Check("convergence", "ok", "The ELBO has stopped rising."),))
    >>> report.trustworthy
    True
    """

    checks: tuple[Check, ...]

    @property
    def trustworthy(self) -> bool:
        """False as soon as one check is a warning; notes leave it True."""
        return not self.warnings

    @property
    def warnings(self) -> tuple[Check, ...]:
        """The checks that warn."""
        return tuple(check for check in self.checks if check.verdict == "warning")

    def __getitem__(self, name: str) -> Check:
        """The check of this name; raises KeyError when it was not made."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(f"no check is called {name!r}; there are {[c.name for c in self.checks]}.")

    def __iter__(self) -> Iterator[Check]:
        return iter(self.checks)

    def __len__(self) -> int:
        return len(self.checks)

    def to_frame(self) -> pd.DataFrame:
        """One row a check: ``verdict``, ``finding``, ``advice``, by name."""
        rows = [(c.verdict, c.finding, c.advice) for c in self.checks]
        index = pd.Index([c.name for c in self.checks], name="check")
        return pd.DataFrame(rows, index=index, columns=["verdict", "finding", "advice"])

    def to_dict(self) -> dict[str, Any]:
        """Plain record: ``trustworthy`` and ``checks``, each with its values; numbers that are not finite are None."""
        checks = [
            {
                "name": c.name,
                "verdict": c.verdict,
                "finding": c.finding,
                "advice": c.advice,
                "values": _plain(c.values),
            }
            for c in self.checks
        ]
        return {"trustworthy": self.trustworthy, "checks": checks}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Report:
        """Rebuild from :meth:`to_dict`.

        :raises KeyError: when an entry is missing; ValueError for a verdict that is none.
        """
        checks = []
        for entry in stored["checks"]:
            if entry["verdict"] not in get_args(Verdict):
                raise ValueError(
                    f"a verdict is one of {get_args(Verdict)}; got {entry['verdict']!r}."
                )
            checks.append(Check(**{field.name: entry[field.name] for field in fields(Check)}))
        return cls(tuple(checks))

    def to_json(self) -> str:
        """:meth:`to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"

    def _repr_html_(self) -> str:
        rows = [(c.name, c.verdict, f"{c.finding} {c.advice}".strip()) for c in self.checks]
        return as_html(str(self).splitlines()[-1], rows, ("check", "verdict", "what was seen"))

    def __str__(self) -> str:
        lines = []
        for check in self.checks:
            text = f"{check.finding} {check.advice}".strip()
            head = f"{check.verdict:8}{check.name:22}"
            lines.append(textwrap.fill(text, 118, initial_indent=head, subsequent_indent=30 * " "))
        number = len(self.warnings)
        last = "No check warns." if not number else f"{number} of {len(self.checks)} checks warn."
        return "\n".join([*lines, last])


def _plain(value: Any) -> Any:
    """JSON's own types."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, str | bool | None):
        return value
    if isinstance(value, int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None
