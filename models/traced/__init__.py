"""Networks read from ordinary torch modules, and ordinary modules made of what pruning leaves of them.

A module's graph (``graph``) is translated node by node (``translation``, ``functions``) to operations (``operations``,
``joining``, ``layers``), which are data; a pass over them (``following``) finds where the members of each layer go.
"""

from pyro_ssbnn.models.traced.front import from_module
from pyro_ssbnn.models.traced.network import TracedNetwork
from pyro_ssbnn.models.traced.plain import PlainModule, plain_module

__all__ = ["PlainModule", "TracedNetwork", "from_module", "plain_module"]
