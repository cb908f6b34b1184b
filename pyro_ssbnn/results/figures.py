"""Plots as pieces of a page: vector graphics whose text is text, in the colours of the page, light or dark."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np

from pyro_ssbnn.results.tips import Tip

__all__ = ["Figure", "drawn"]

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be found, read aloud and copied
    "savefig.facecolor": "none",
    "text.parse_math": False,  # a column called a$b$c is no formula
}
_SHOWN = 0.9  # of its size: two stand beside each other
_NARROWEST = 0.6  # of that width; on a narrower screen it is scrolled
_NOTHING = dict.fromkeys(("Date", "Creator", "Format", "Type"))
# The plots' own colours by the names that the page gives them, which differ in the dark.
_COLOURS = {
    "#000000": "currentColor",
    "#ffffff": "var(--paper)",
    "#e8e8e8": "var(--faint)",
    "#e4e4e4": "var(--faint)",
    "#c8c8c8": "var(--soft)",
    "#9ccbe8": "var(--light-blue)",
    "#4fa0d0": "var(--middle-blue)",
    "#0072b2": "var(--blue)",
}


@dataclass(frozen=True)
class Figure:
    """A picture of a page.

    :param name: unique in the page.
    :param svg: its markup.
    :param caption: what is seen.
    :param alt: the same for those who do not see it, with its numbers.
    """

    name: str
    svg: str
    caption: str
    alt: str


def drawn(
    name: str,
    draw: Callable[[], Any],
    caption: str,
    alt: str,
    tips: Callable[[list[Any]], Iterable[Tip]] = lambda panels: (),
) -> Figure:
    """Draw a plot and close it.

    :param name: unique in its page, of letters.
    :param draw: gives the axes of a new figure.
    :param tips: of these axes, what the page shows where the pointer rests on them.
    """
    with mpl.rc_context({**_SETTINGS, "svg.hashsalt": name}), plt.ioff():
        panels = list(np.ravel(np.asarray(draw(), dtype=object)))
        figure = panels[0].figure
        try:
            told = [_strip(panels[tip.panel], tip, i) for i, tip in enumerate(tips(panels))]
            text = StringIO()
            figure.savefig(text, format="svg", metadata=_NOTHING)
        finally:
            plt.close(figure)
    return Figure(name, _inline(text.getvalue(), name, alt, told), caption, alt)


def _strip(ax: Any, tip: Tip, number: int) -> str:
    """Lay an unseen strip over a plot, which ``_inline`` gives the words that are returned."""
    ax.autoscale(False)
    span = ax.axhspan if tip.lies else ax.axvspan
    span(tip.low, tip.high, alpha=0, linewidth=0, zorder=9, gid=f"tip{number}")
    return tip.text


def _inline(svg: str, name: str, alt: str, told: Sequence[str]) -> str:
    """An SVG file as a part of a page: its identifiers unique there, and nothing in it that points elsewhere.

    :param told: words of the strips.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.S)
    svg = re.sub(r" font-family: [^;\"]*;", "", svg)  # the page's own
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(url\(|href=")#([^)"]+)', rf"\1#{name}-\2", svg)
    for number, words in enumerate(told):
        strip = f'<g id="{name}-tip{number}">'
        svg = svg.replace(strip, f'<g class="tip"><title>{escape(words)}</title>', 1)
    for colour, variable in _COLOURS.items():
        svg = re.sub(rf"(fill|stroke): {colour}\b", rf"\1: {variable}", svg)
    width = _SHOWN * float(re.search(r'width="([\d.]+)pt"', svg)[1])  # type: ignore[index]
    size = f"width: {width:.0f}pt; min-width: {_NARROWEST * width:.0f}pt"
    opening = f'<svg role="img" aria-label="{escape(alt)}" style="{size}"'
    return re.sub(
        r'<svg(?: height="[^"]*"| width="[^"]*"| version="[^"]*")*', opening, svg, count=1
    )
