"""Rows that are read in pieces: arrays on disk, torch's data sets and loaders, sources of one's own.

``fit``, ``predict_blocks`` and ``diagnose`` take a :class:`Source`, and whatever :func:`source_of` makes one of.
"""

from pyro_ssbnn.rows.arrays import ArraySource, FileArray
from pyro_ssbnn.rows.loaders import DatasetSource, LoaderSource
from pyro_ssbnn.rows.sources import Source, source_of

__all__ = [
    "ArraySource",
    "DatasetSource",
    "FileArray",
    "LoaderSource",
    "Source",
    "source_of",
]
