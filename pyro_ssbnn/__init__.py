"""Structurally sparse Bayesian neural networks in Pyro.

Data flows one way: data -> model <-> guide -> ELBO -> posterior -> selection -> compact network.

The names are listed once, in ``__init__.pyi``; each is imported when it is first used, so that ``pyro-ssbnn --help``
needs neither torch nor Pyro.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
