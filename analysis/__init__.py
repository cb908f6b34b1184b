"""Looking at a fitted network: ArviZ data, tables of inclusion, calibration, latency, plots."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
