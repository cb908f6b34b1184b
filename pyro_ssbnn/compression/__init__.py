"""A trained torch module in, a smaller one out."""

from pyro_ssbnn.compression.compress import Compression, compress

__all__ = ["Compression", "compress"]
