"""Nodes of a traced module as operations, one after another."""

from __future__ import annotations

from typing import Any

from torch import fx

from pyro_ssbnn.models.traced.following import INPUT
from pyro_ssbnn.models.traced.functions import translate_function
from pyro_ssbnn.models.traced.graph import Graph
from pyro_ssbnn.models.traced.joining import Concatenation
from pyro_ssbnn.models.traced.modules import is_module, translate_module

__all__ = ["translate"]


def translate(graph: Graph) -> None:
    """Make steps of all nodes of a graph, in place.

    :raises ConfigurationError: for a node without a translation, with its name.
    """
    for node in graph.nodes:
        if node.op == "placeholder" and node in graph.moving:
            graph.rename(node, INPUT)
        elif node.op == "output":
            _output(graph, node)
        elif node in graph.moving and node not in graph.names:
            if is_module(graph, node):
                translate_module(graph, node)
            else:
                translate_function(graph, node)


def _output(graph: Graph, node: fx.Node) -> None:
    """Several tensors of the output are put beside each other."""
    found: Any = node.args[0]
    parts: list[Any] = [found]
    returns: list[Any] | None = None
    if isinstance(found, dict):
        parts, returns = list(found.values()), list(found)
    elif isinstance(found, tuple | list):
        parts, returns = list(found), list(range(len(found)))
    if not all(isinstance(part, fx.Node) and part in graph.moving for part in parts):
        raise graph.refuse(
            node, "the module must return a tensor, or several, that depend on its input."
        )
    if returns is None and graph.steps and graph.names[parts[0]] == graph.steps[-1]["name"]:
        return
    shapes = [graph.shape(part) for part in parts]
    if any(len(shape) != 1 for shape in shapes):
        raise graph.refuse(
            node, f"outputs must be [N, K]; got {[['N', *shape] for shape in shapes]}."
        )
    record = {
        "name": "outputs",
        "of": [graph.names[part] for part in parts],
        "shape": [sum(shape[0] for shape in shapes)],
        "does": Concatenation(-1).to_config(),
        "returns": returns,
    }
    graph.steps.append(record)
