"""What sections of a report consist of, besides figures: words and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from pyro_ssbnn.display import cell
from pyro_ssbnn.results.figures import Figure

__all__ = ["Block", "Code", "Gallery", "Section", "Table", "of_frame"]


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    :param caption: what it holds.
    :param headers: of the columns.
    :param rows: cells as text.
    :param words: places of columns of words, which are set from the left; the first always is.
    :param folded: whether it is shown only when it is opened.
    """

    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[int] = (0,)
    folded: bool = False


@dataclass(frozen=True)
class Gallery:
    """Figures beside each other where there is room."""

    figures: Sequence[Figure]


@dataclass(frozen=True)
class Code:
    """What is typed."""

    text: str


Block = str | Table | Gallery | Code


@dataclass(frozen=True)
class Section:
    """A part of a report.

    :param name: in the page's address.
    :param title: its heading.
    :param blocks: paragraphs, tables, figures and commands, in their order.
    """

    name: str
    title: str
    blocks: Sequence[Block]


def of_frame(
    caption: str,
    frame: pd.DataFrame,
    headers: Mapping[str, str],
    words: Sequence[int] = (0,),
    folded: bool = False,
) -> Table:
    """Some columns of a frame, its index first.

    :param headers: what each column is called; ``""`` stands for the index.
    """
    columns = [name for name in headers if name and name in frame]
    cells = zip(frame.index, frame[columns].itertuples(index=False), strict=True)
    rows = [[str(label), *map(cell, row)] for label, row in cells]
    return Table(caption, [headers[""], *(headers[c] for c in columns)], rows, words, folded)
