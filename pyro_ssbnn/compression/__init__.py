"""A trained torch module in, a smaller one out."""

from pyro_ssbnn.compression.compress import Compression, compress
from pyro_ssbnn.compression.targets import largest_within, ranked, smallest_that

__all__ = ["Compression", "compress", "largest_within", "ranked", "smallest_that"]
