"""Names of a network's nodes, predictors and weights: the dimensions and coordinates of its ArviZ data."""

from __future__ import annotations

from pyro_ssbnn.structure.channels import ChannelGroup
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.gates import GateGroup
from pyro_ssbnn.structure.groups import NodeGroup
from pyro_ssbnn.structure.heads import HeadGroup
from pyro_ssbnn.structure.linear import LinearGroup

__all__ = ["coordinates", "node_dim", "owner", "weight_dims"]


def coordinates(description: NetworkDescription, predictors: list[str]) -> dict[str, list[str]]:
    """Names of all nodes and incoming weights, by dimension."""
    members = {description.inputs.name: predictors}
    coords = {node_dim(description, description.inputs): predictors}
    for group in description.layers:
        members[group.name] = [f"{group.name}[{j}]" for j in range(group.size)]
        coords[f"{group.path}_node"] = members[group.name]
        if isinstance(group, HeadGroup):
            rows = range(group.rows_per_node)
            coords[f"{group.path}_row"] = [f"{m}.{r}" for m in members[group.name] for r in rows]
    for total in description.sums:
        members[total.name] = [f"{total.name}[{j}]" for j in range(total.size)]
    if (linear := description.linear) is not None:
        coords[f"{linear.path}_column"] = list(description.inputs.column_names)
    for group in description.layers:
        own = ["scale", "shift"] if group.batch_normed else ["bias"]
        coords[f"{group.path}_incoming"] = [*_incoming(group, members[group.source]), *own]
    return coords


def _incoming(group: NodeGroup, sources: list[str]) -> list[str]:
    """Names of a node's incoming weights, by the nodes (or predictors) that feed them."""
    if isinstance(group, ChannelGroup):  # which they are differs from node to node
        return [f"incoming[{i}]" for i in range(group.fan_in)]
    if group.fan_in == len(sources):
        return sources
    per_source = group.columns_per_source
    if isinstance(per_source, tuple):
        pairs = zip(sources, per_source, strict=True)
        return [s if n == 1 else f"{s}.{c}" for s, n in pairs for c in range(n)]
    if group.fan_in == len(sources) * per_source:
        return [f"{source}.{c}" for source in sources for c in range(per_source)]
    return [f"incoming[{i}]" for i in range(group.fan_in)]


def owner(description: NetworkDescription, site: str) -> GateGroup | None:
    """The group whose node (or predictor) a site's last dimension counts; None for network-wide sites."""
    prefix, _, _ = site.rpartition(".")
    everyone = (description.inputs, *description.groups)
    return next((group for group in everyone if group.path == prefix), None)


def node_dim(description: NetworkDescription, group: GateGroup) -> str:
    """Dimension over the members of a group; predictors and their linear terms share one."""
    of_predictors = (description.inputs, description.linear)
    return f"{group.prefix}predictor" if group in of_predictors else f"{group.path}_node"


def weight_dims(description: NetworkDescription, layer: NodeGroup) -> list[str]:
    """Dimensions of a layer's weights."""
    if isinstance(layer, LinearGroup):
        return [f"{layer.path}_column", node_dim(description, description.layers[-1])]
    rows = "row" if isinstance(layer, HeadGroup) else "node"
    return [f"{layer.path}_{rows}", f"{layer.path}_incoming"]
