r"""Both branches of every gate of a dense network, at the cost of what comes after the gate.

A gate at its other value changes one member of its group, by :math:`d` say, and what a layer that reads the group
computes by rank one,

.. math:: W h' + b = (W h + b) + d\, W_{\cdot j}.

So the pass of the network as drawn is made once, and kept; a flip begins at the layers that read its group. The gates
of the last hidden layer cost no more than adding up their terms of the output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pyro_ssbnn.isolation import full_precision
from pyro_ssbnn.posterior.weights import folded_weights
from pyro_ssbnn.structure.gates import GateGroup
from pyro_ssbnn.structure.linear import LinearGroup
from pyro_ssbnn.structure.network import Network

__all__ = ["BranchedNetworks"]


class BranchedNetworks:
    """S dense networks of drawn weights at N rows, and any one gate of theirs at its other value.

    :param model: a network of dense layers.
    :param values: draws of all latents by site, ``[S, ...]``, weights those of open members.
    :param x: predictors ``[N, p]``, on the device of the draws.
    :ivar f: outputs as drawn, ``[S, N, K]``.
    :ivar whole: whether layers read what the activation of other layers gives, as flips need it.
    """

    def __init__(self, model: Network, values: Mapping[str, Tensor], x: Tensor) -> None:
        groups = model.description.gate_groups
        gates = {group.name: values[group.gate_site] for group in groups}
        opened = {group.gate_site: torch.ones_like(gates[group.name]) for group in groups}
        weights = folded_weights(model, {**values, **opened})
        wired: Any = model
        self._wire, self._x = wired.wire, x
        self._pass = _AsDrawn(model, weights, gates, x)
        with full_precision(x.device):
            self.f: Tensor = self._wire(self._pass, x).squeeze(1)
        self.whole = self._pass.whole

    @staticmethod
    def can(model: Network) -> bool:
        """Whether all layers are dense and none reads a sum."""
        return model.description.is_dense and hasattr(model, "wire")

    def flipped(self, group: GateGroup, members: Sequence[int]) -> Tensor:
        """Outputs with one gate after the other at its other value, ``[members, S, N, K]``."""
        with full_precision(self._x.device):
            f: Tensor = self._wire(_Flipped(self._pass, group, members), self._x)
        return f.transpose(0, 1)


class _AsDrawn:
    """The pass of the networks as drawn, ``[S, 1, N, size]`` a layer, which keeps what every layer computes."""

    def __init__(
        self,
        model: Any,
        weights: Mapping[str, Tensor],
        gates: Mapping[str, Tensor],
        x: Tensor,
    ) -> None:
        self.model, self.weights, self.gates, self.x = model, weights, gates, x
        self.groups = {group.name: group for group in model.description.groups}
        self.shape = model._wire_config()
        self.opened: dict[str, Tensor] = {}  # what layers would compute with all their nodes open
        self.whole = True
        self._activated: dict[
            str, Tensor
        ] = {}  # what layers read that read one layer's activation alone
        self._last: tuple[str, Tensor] | None = None

    def inputs(self, x: Tensor) -> Tensor:
        """The predictors through their gates, ``[S, 1, N, p]``."""
        inputs = self.model.description.inputs
        gate = self.gates.get(inputs.name)
        read = x.expand(1, 1, *x.shape)
        self._activated[inputs.name] = (
            read if gate is None else read * inputs.spread(gate)[:, None, None]
        )
        return self._activated[inputs.name]

    def layer(self, name: str, h: Tensor) -> Tensor:
        """Pre-activations of a layer, ``[S, 1, N, size]``."""
        group = self.groups[name]
        if isinstance(group, LinearGroup):
            gate = self.gates.get(name)
            weight = self.weights[name]
            weight = weight if gate is None else weight * group.spread(gate).unsqueeze(-1)
            self.opened[name] = (self.x @ weight).unsqueeze(1)
            return self.opened[name]
        self.whole &= self._activated.get(group.source) is h
        self.opened[name] = affine(h, self.weights[name])
        self._last = name, gated(self.opened[name], self.gates.get(name))
        return self._last[1]

    def phi(self, h: Tensor) -> Tensor:
        """The activation."""
        activated: Tensor = self.model.phi(h)
        if self._last is not None and h is self._last[1]:
            self._activated[self._last[0]] = activated
        return activated


class _Flipped:
    """A pass with gates at their other values, ``[S, members, N, size]`` from the first layer on that notices."""

    def __init__(self, drawn: _AsDrawn, group: GateGroup, members: Sequence[int]) -> None:
        self.drawn, self.members = drawn, list(members)
        self.group: Any = group
        self.shape = drawn.shape
        self._changed = {group.name}

    def inputs(self, x: Tensor) -> Tensor:
        """The predictors as they are: layers that read them know what changes."""
        return x

    def phi(self, h: Tensor) -> Tensor:
        """The activation."""
        activated: Tensor = self.drawn.model.phi(h)
        return activated

    def layer(self, name: str, h: Tensor) -> Tensor:
        """Pre-activations of a layer: as drawn, or changed by rank one, or of inputs that have changed."""
        drawn, group = self.drawn, self.drawn.groups[name]
        if isinstance(group, LinearGroup):
            terms = drawn.opened[name]
            return terms + self._of_columns(drawn.weights[name]) if group == self.group else terms
        opened = drawn.opened[name]
        if group.source in self._changed:
            self._changed.add(name)
            reads = group.source == self.group.name
            opened = opened + self._change(name) if reads else affine(h, drawn.weights[name])
        return gated(opened, drawn.gates.get(name))

    def _change(self, name: str) -> Tensor:
        """What a layer that reads the group computes more, ``[S, members, N, size]``."""
        drawn, weight = self.drawn, self.drawn.weights[name][..., :-1].mT
        if self.group.name == drawn.model.description.inputs.name:
            return self._of_columns(weight)
        gate = drawn.gates[self.group.name][:, None, None, self.members]
        opened = drawn.opened[self.group.name][..., self.members]
        change = self.phi((1 - gate) * opened) - self.phi(gate * opened)  # [S, 1, N, members]
        return change.squeeze(1).mT.unsqueeze(-1) * weight[:, self.members].unsqueeze(2)

    def _of_columns(self, weight: Tensor) -> Tensor:
        """Change by the columns of x that belong to each member.

        :param weight: ``[S, columns, size]``.
        """
        x, gate = self.drawn.x, self.drawn.gates[self.group.name]
        owner = self.group.spread(torch.arange(self.group.size, device=x.device))
        changes = []
        for member in self.members:
            columns = (owner == member).nonzero().flatten()
            sign = 1 - 2 * gate[:, member, None, None]
            changes.append(sign * (x[:, columns] @ weight[:, columns]))
        return torch.stack(changes, 1)


def affine(h: Tensor, weight: Tensor) -> Tensor:
    """Map ``[S, M, N, in]`` (or ``[1, 1, N, in]``) by S weights ``[S, size, in + 1]``, bias last."""
    weight, bias = weight[..., :-1].mT, weight[..., -1:].mT
    flat = h.flatten(1, 2).expand(len(weight), -1, -1)
    return torch.baddbmm(bias, flat, weight).unflatten(1, h.shape[1:3])


def gated(h: Tensor, gate: Tensor | None) -> Tensor:
    """Pre-activations ``[S, M, N, size]`` times gates ``[S, size]``."""
    return h if gate is None else h * gate[:, None, None]
