"""Numbers for the eye, and small HTML for notebooks in which a name from data changes nothing but the text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

__all__ = ["as_html", "cell", "plain"]

_SMALLEST, _LARGEST = 1e-4, 1e15  # between them no power of ten is written


def plain(value: float, digits: int = 4) -> str:
    """A number in so many significant digits, with commas between thousands; whole ones beyond keep all of theirs.

    >>> [plain(v) for v in (15473.2, -0.98765, 0.5, 3.0, 1.2e-7)]
    ['15,473', '-0.9877', '0.5', '3', '1.2e-07']
    """
    if not math.isfinite(value):
        return "" if math.isnan(value) else f"{value:g}"
    rounded = float(f"{value:.{digits}g}")
    size = abs(rounded)
    if size and not _SMALLEST <= size < _LARGEST:
        return f"{value:.{digits}g}"
    decimals = max(0, digits - 1 - math.floor(math.log10(size))) if size else 0
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def cell(value: Any) -> str:
    """A value as a table shows it."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool) or type(value).__name__ == "bool":  # NumPy's, too
        return "yes" if value else "no"
    whole = isinstance(value, int) or type(value).__name__.startswith("int")
    return f"{int(value):,}" if whole else plain(float(value))


def as_html(title: str, rows: Iterable[Sequence[str]], headers: Sequence[str] = ()) -> str:
    """A title and a small table whose first column names its rows, everything escaped: for ``_repr_html_``."""
    left = ' style="text-align:left"'
    head = "".join(f'<th scope="col"{left}>{escape(name)}</th>' for name in headers)
    lines = "".join(
        f'<tr><th scope="row"{left}>{escape(name)}</th>'
        f"{''.join(f'<td{left}>{escape(value)}</td>' for value in values)}</tr>"
        for name, *values in rows
    )
    caption = f'<caption style="text-align:left;font-weight:bold">{escape(title)}</caption>'
    head = f"<thead><tr>{head}</tr></thead>" if head else ""
    return f"<table>{caption}{head}<tbody>{lines}</tbody></table>"
