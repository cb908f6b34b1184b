"""The description of a network's node groups: data that guide, selection, pruning and analysis read.

A *node group* is a layer of nodes that are gated one by one. Model and guide meet only here and in site names: for
a group called ``hidden1`` the sites are ``hidden1.gate`` (shape ``[size]``), ``hidden1.weight`` (the standardised
weights u, ``[size, group_size]``, the bias in the last column, or scale and shift in the last two of a batch-normed
layer) and its prior's scale latents; its plate is called ``hidden1``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.priors import Prior, TheoryInclusion, theory_inclusion
from pyro_ssbnn.structure.axes import Axis
from pyro_ssbnn.structure.geometry import ConvolutionGeometry
from pyro_ssbnn.structure.sums import PlacedSum, with_sums

__all__ = ["GateGroup", "InputGroup", "NetworkDescription", "NodeGroup", "layer_inclusion"]

_SHOWN = 6  # layers that are named in a line


@dataclass(frozen=True)
class GateGroup:
    """A set of nodes or predictors that may carry gates.

    :param name: its name in the network: of the module, in selections, tables and files.
    :param size: number of nodes (or predictors).
    :param inclusion: prior inclusion probability of each, or None when they carry no gates.
    :param prefix: what stands before the names of all sites and plates of its network, such as ``left.``.
    """

    name: str
    size: int
    inclusion: float | None
    prefix: str = field(default="", kw_only=True)

    @property
    def gated(self) -> bool:
        """Whether the nodes carry gates."""
        return self.inclusion is not None

    @property
    def prior_logit(self) -> float:
        """Prior log-odds of inclusion.

        :raises ConfigurationError: for an ungated group.
        """
        if self.inclusion is None:
            raise ConfigurationError(f"group {self.name!r} has no gates, hence no prior odds.")
        return math.log(self.inclusion) - math.log1p(-self.inclusion)

    @property
    def path(self) -> str:
        """Name of its plate, and what its sites' names begin with."""
        return f"{self.prefix}{self.name}"

    @property
    def gate_site(self) -> str:
        """Name of the gate's sample site."""
        return f"{self.path}.gate"


@dataclass(frozen=True)
class InputGroup(GateGroup):
    """The predictors; gated when the network selects among them.

    :param names: one name per predictor.
    """

    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class NodeGroup(GateGroup):
    """A layer's nodes and the weights each owns.

    :param fan_in: incoming weights of a node, without its own ones.
    :param prior: prior of the node's weights.
    :param source: name of the group, or of the sum of groups, whose nodes feed this one.
    :param columns_per_source: incoming weights that one source node feeds: 1 in a dense layer after a dense layer, k^2
        in a convolution, the pixels of a map in a dense layer after convolutions. Neighbouring columns belong to one
        source; a convolution of the image counts each channel of the (ungated) predictors as a source.
    :param scope: name of the prior's network-wide latents: their sites are ``{prefix}{scope}.*``.
    :param column_gate: name of the group whose gates close single incoming weights, if any.
    :param removed_fan_in: incoming weights that left the network with their sources during training; the prior still
        counts them.
    :param positions: outputs of a node for one input: 1 in a dense layer, the pixels of a filter's map.
    :param geometry: how the kernels of a convolution move; None for a dense layer.
    :param own: weights of a node beside the incoming ones, in its last columns: 1, its bias, or 2, scale and shift of
        the batch norm that follows a convolution without bias.
    """

    fan_in: int
    prior: Prior
    source: str
    columns_per_source: int = 1
    scope: str = "global"
    column_gate: str | None = None
    removed_fan_in: int = 0
    positions: int = 1
    geometry: ConvolutionGeometry | None = None
    own: int = 1

    @property
    def group_size(self) -> int:
        """Weights of a node with its own ones."""
        return self.fan_in + self.own

    @property
    def prior_size(self) -> int:
        """m of the prior: weights of a node with its own ones before any source was removed."""
        return self.group_size + self.removed_fan_in

    @property
    def batch_normed(self) -> bool:
        """Whether a batch norm, whose scale and shift the nodes own, takes the place of the bias."""
        return self.own == 2

    @property
    def zero_padded(self) -> bool:
        """Whether some positions read zeros in place of sources: what a source passes on to all is then no bias."""
        return self.geometry is not None and self.geometry.padding > 0

    def count_weights(self, nodes: int, incoming: int) -> int:
        """Weights of so many nodes that read so many weights each: biases count, scales and shifts do not.

        So are residual networks counted as a rule, and so is a cut one: the biases that its batch norms were folded
        into are not counted either.
        """
        return nodes * (incoming + (0 if self.batch_normed else 1))

    @property
    def num_weights(self) -> int:
        """Weights of all nodes, counted by :meth:`count_weights`."""
        return self.count_weights(self.size, self.fan_in)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one input: each weight once a position."""
        return self.positions * self.num_weights

    @property
    def rows(self) -> Axis:
        """Axis over the nodes."""
        return Axis(self.name, self.size)

    @property
    def incoming(self) -> Axis:
        """Axis over the weights from a node's sources."""
        return Axis(self.source, self.fan_in // self.columns_per_source, self.columns_per_source)

    @property
    def columns(self) -> Axis:
        """Axis over all weights of a node: those from the sources, then its own."""
        return replace(self.incoming, own=self.own)

    @property
    def weight_site(self) -> str:
        """Name of the standardised weights' sample site."""
        return f"{self.path}.weight"

    @property
    def scope_path(self) -> str:
        """What the names of the prior's network-wide sites begin with."""
        return f"{self.prefix}{self.scope}"


@dataclass(frozen=True)
class NetworkDescription:
    """The predictors and the node groups in forward order, the output layer last; sums of groups in forward order.

    >>> from pyro_ssbnn import MLP, SSIG, GaussianLikelihood
    >>> net = MLP(4, [8], prior=SSIG(inclusion=0.1), likelihood=GaussianLikelihood())
    >>> net.description
    NetworkDescription: 4 predictors -> hidden1 8 gated -> output 1; 49 weights
    >>> [(g.name, g.size, g.fan_in, g.gated) for g in net.description.groups]
    [('hidden1', 8, 4, True), ('output', 1, 8, False)]
    """

    inputs: InputGroup
    groups: tuple[NodeGroup, ...]
    sums: tuple[PlacedSum, ...] = ()

    def __repr__(self) -> str:
        return f"NetworkDescription: {self.in_words()}; {self.num_weights:,} weights"

    def in_words(self) -> str:
        """The layers with their sizes in one line; of deep networks the first and the last."""
        inputs = self.inputs
        plural = "" if inputs.size == 1 else "s"
        parts = [f"{inputs.size:,} {'gated ' if inputs.gated else ''}predictor{plural}"]
        parts += [f"{g.name} {g.size:,}{' gated' if g.gated else ''}" for g in self.groups]
        left_out = len(parts) - _SHOWN
        if left_out > 1:
            parts[3 : 3 + left_out] = [f"... {left_out} layers ..."]
        return " -> ".join(parts)

    def prefixed(self, prefix: str) -> NetworkDescription:
        """The same network with other names for all its sites and plates, which begin with ``{prefix}.``.

        :raises ConfigurationError: unless the prefix is a Python name, or several joined by dots.
        """
        if not all(part.isidentifier() for part in prefix.split(".")):
            raise ConfigurationError(
                f"prefix: expected a Python name, or several joined by dots, such as 'left'; got {prefix!r}."
            )
        lead = f"{prefix}."
        groups = tuple(replace(group, prefix=lead) for group in self.groups)
        return replace(self, inputs=replace(self.inputs, prefix=lead), groups=groups)

    @property
    def prefix(self) -> str:
        """What the names of all its sites and plates begin with, such as ``left.``; empty by default."""
        return self.inputs.prefix

    def site(self, name: str) -> str:
        """Name of a site outside the groups, such as ``obs`` or a likelihood's latent."""
        return f"{self.prefix}{name}"

    @property
    def paths(self) -> tuple[str, ...]:
        """Names of the plates over predictors and nodes."""
        return tuple(group.path for group in (self.inputs, *self.groups))

    @property
    def gate_groups(self) -> tuple[GateGroup, ...]:
        """All groups that carry gates, predictors first."""
        return tuple(g for g in (self.inputs, *self.groups) if g.gated)

    @property
    def gated_layers(self) -> tuple[NodeGroup, ...]:
        """Layers whose nodes carry gates, in forward order."""
        return tuple(g for g in self.groups if g.gated)

    @property
    def num_weights(self) -> int:
        """Weights of all layers: biases count, scales and shifts of batch norms do not."""
        return sum(group.num_weights for group in self.groups)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all layers for one input."""
        return sum(group.multiply_adds for group in self.groups)

    @property
    def widest(self) -> int:
        """Numbers in the largest layer of one row: nodes times positions, or predictors."""
        return max(self.inputs.size, *(group.size * group.positions for group in self.groups))

    @property
    def scopes(self) -> dict[str, Prior]:
        """Prior of each scope of network-wide latents, in the order they are sampled."""
        return {g.scope: g.prior for g in self.groups}

    def with_sums(self, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Kept members of groups together with the places that the sums keep then; see :class:`PlacedSum`."""
        return with_sums(self.sums, kept)

    def narrowed(self, kept: Mapping[str, Tensor]) -> NetworkDescription:
        """Describe what is left when each named group keeps only these members; priors stay those of the whole.

        :param kept: ascending indices, ``{group: [kept]}``; groups not named stay whole.
        """
        kept = self.with_sums(kept)
        whole = {g.name: g.size for g in (self.inputs, *self.groups)}
        whole |= {total.name: total.size for total in self.sums}
        sizes = whole | {name: len(indices) for name, indices in kept.items()}
        inputs = self.inputs
        if inputs.name in kept:
            names = tuple(inputs.names[i] for i in kept[inputs.name].tolist())
            inputs = replace(inputs, size=len(names), names=names)
        groups = []
        for group in self.groups:
            lost = (whole[group.source] - sizes[group.source]) * group.columns_per_source
            groups.append(
                replace(
                    group,
                    size=sizes[group.name],
                    fan_in=group.fan_in - lost,
                    removed_fan_in=group.removed_fan_in + lost,
                )
            )
        sums = tuple(total.narrowed(kept) for total in self.sums)
        return NetworkDescription(inputs, tuple(groups), sums)

    def layer(self, name: str) -> NodeGroup:
        """Look up the layer of that name.

        :raises ConfigurationError: when there is none.
        """
        for group in self.groups:
            if group.name == name:
                return group
        known = [group.name for group in self.groups]
        raise ConfigurationError(f"no layer is called {name!r}; this network has {known}.")

    def __getitem__(self, name: str) -> GateGroup:
        for group in (self.inputs, *self.groups):
            if group.name == name:
                return group
        known = [g.name for g in (self.inputs, *self.groups)]
        raise ConfigurationError(f"no group is called {name!r}; this network has {known}.")


def layer_inclusion(prior: Prior, widths: list[int]) -> list[float | None]:
    """Prior inclusion probability of each hidden layer, from the prior's number, sequence or theory.

    :param widths: ``[inputs, hidden..., outputs]``.
    :raises ConfigurationError: when a sequence has another length than there are hidden layers.
    """
    depth = len(widths) - 2
    given = prior.inclusion
    if given is None or isinstance(given, int | float):
        return [given] * depth
    if isinstance(given, TheoryInclusion):
        return [*theory_inclusion(widths, given.num_data, given.constant)] if depth else []
    if len(given) != depth:
        raise ConfigurationError(
            f"{type(prior).__name__}: inclusion gives {len(given)} probabilities for {depth} hidden layers;"
            " give one number for all, or one per hidden layer."
        )
    return list(given)
