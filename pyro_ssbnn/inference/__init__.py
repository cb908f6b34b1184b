"""Stochastic variational inference: options, the training loop, its history and its guards."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
