"""The description of a network's node groups: data that guide, selection, pruning and analysis read.

A *node group* is a layer of nodes that are gated one by one. Model and guide meet only here and in site names: for
a group called ``hidden1`` the sites are ``hidden1.gate`` (shape ``[size]``), ``hidden1.weight`` (the standardised
weights u, ``[size, group_size]``, the bias in the last column, or scale and shift in the last two of a batch-normed
layer) and its prior's scale latents; its plate is called ``hidden1``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.priors import Prior
from pyro_ssbnn.structure.gates import GateGroup
from pyro_ssbnn.structure.groups import InputGroup, NodeGroup
from pyro_ssbnn.structure.linear import LinearGroup
from pyro_ssbnn.structure.sums import PlacedSum, with_sums

__all__ = ["NetworkDescription"]

_SHOWN = 6  # layers that are named in a line


@dataclass(frozen=True)
class NetworkDescription:
    """The predictors and the node groups in forward order, the output layer last; sums of groups in forward order.

    A network with linear terms has their group before the output layer.

    :param follows: layers without gates whose nodes leave with those of another layer that read them alone, each by
        its name and that of the other: the convolution before a depthwise one. One that is followed itself comes before
        its followers.
    :param output: name of the layer or sum that is the network's output; empty for the last layer of a network whose
        layers are all followed by its one activation.

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
    follows: tuple[tuple[str, str], ...] = ()
    output: str = ""

    def __repr__(self) -> str:
        return f"NetworkDescription: {self.in_words()}; {self.num_weights:,} weights"

    def in_words(self) -> str:
        """The layers with their sizes in one line; of deep networks the first and the last."""
        inputs = self.inputs
        plural = "" if inputs.size == 1 else "s"
        columns = f" ({inputs.num_columns:,} columns)" if inputs.widths else ""
        parts = [f"{inputs.size:,} {'gated ' if inputs.gated else ''}predictor{plural}{columns}"]
        parts += [f"{g.name} {g.size:,}{' gated' if g.gated else ''}" for g in self.layers]
        left_out = len(parts) - _SHOWN
        if left_out > 1:
            parts[3 : 3 + left_out] = [f"... {left_out} layers ..."]
        linear = self.linear
        terms = (
            f" + {linear.size:,} {'gated ' if linear.gated else ''}linear terms" if linear else ""
        )
        return " -> ".join(parts) + terms

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
    def linear(self) -> LinearGroup | None:
        """The predictors' linear terms, None in a network without them."""
        return next((g for g in self.groups if isinstance(g, LinearGroup)), None)

    @property
    def layers(self) -> tuple[NodeGroup, ...]:
        """Layers in forward order, the output last: all groups but the linear terms."""
        return tuple(g for g in self.groups if not isinstance(g, LinearGroup))

    @property
    def gated_layers(self) -> tuple[NodeGroup, ...]:
        """Layers whose nodes carry gates, in forward order."""
        return tuple(g for g in self.layers if g.gated)

    def leader_of(self, name: str) -> str:
        """The group with whose members those of a group leave: itself, unless it follows another."""
        leaders = dict(self.follows)
        while name in leaders:
            name = leaders[name]
        return name

    @property
    def output_name(self) -> str:
        """Name of the layer or sum that is the network's output f."""
        return self.output or self.groups[-1].name

    @property
    def num_outputs(self) -> int:
        """Number of outputs, columns of f."""
        sizes = {group.name: group.size for group in self.groups}
        sizes |= {total.name: total.size for total in self.sums}
        return sizes[self.output_name]

    @property
    def num_weights(self) -> int:
        """Weights of all layers: biases count, scales and shifts of batch norms do not."""
        return sum(group.num_weights for group in self.groups)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all layers for one input."""
        return sum(group.multiply_adds for group in self.groups)

    @property
    def is_dense(self) -> bool:
        """Whether no layer convolves, none reads a sum, and one activation follows all but the last."""
        return not (self.sums or self.output) and all(
            group.geometry is None for group in self.groups
        )

    @property
    def widest(self) -> int:
        """Numbers in the largest layer of one row: nodes times positions, or predictors' columns."""
        return max(
            self.inputs.num_columns, *(group.size * group.positions for group in self.groups)
        )

    @property
    def scopes(self) -> dict[str, Prior]:
        """Prior of each scope of network-wide latents, in the order they are sampled."""
        return {g.scope: g.prior for g in self.groups}

    def with_sums(self, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Kept members of groups with what follows: the places that sums keep then, the predictors' linear terms.

        See :class:`PlacedSum`. A linear term goes with its predictor, unless ``kept`` says which of them stay, and so
        do nodes with those that they follow.
        """
        linear = self.linear
        if linear is not None and self.inputs.name in kept:
            kept = {linear.name: kept[self.inputs.name], **kept}
        for follower, leader in self.follows:
            if leader in kept:
                kept = {follower: kept[leader], **kept}
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
            inputs = inputs.narrowed(kept[inputs.name])
        groups = []
        for group in self.groups:
            lost = whole[group.source] - sizes[group.source]
            left = group.without_sources(kept, lost)
            if group.name in kept:
                left = left.narrowed_to(kept[group.name])
            groups.append(left)
        sums = tuple(total.narrowed(kept) for total in self.sums)
        return replace(self, inputs=inputs, groups=tuple(groups), sums=sums)

    def layer(self, name: str) -> NodeGroup:
        """Look up the layer of that name.

        :raises ConfigurationError: when there is none.
        """
        for group in self.groups:
            if group.name == name:
                return group
        known = [group.name for group in self.groups]
        raise ConfigurationError(f"no layer is called {name!r}; this network has {known}.")

    def member_names(self, name: str) -> list[str]:
        """Names of a group's members: the predictors' own, ``hidden1[3]``, or ``x3 linear``.

        :raises ConfigurationError: for an unknown group.
        """
        group = self[name]
        if group is self.inputs:
            return list(self.inputs.names)
        if isinstance(group, LinearGroup):
            return [f"{predictor} {name}" for predictor in self.inputs.names]
        return [f"{name}[{j}]" for j in range(group.size)]

    def __getitem__(self, name: str) -> GateGroup:
        for group in (self.inputs, *self.groups):
            if group.name == name:
                return group
        known = [g.name for g in (self.inputs, *self.groups)]
        raise ConfigurationError(f"no group is called {name!r}; this network has {known}.")
