"""Weights made of draws of the latents: amplitudes z t, effective weights z t u, plain layers, what a cut leaves."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.structure.cut import CutLayer
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.flow import without_unread
from pyro_ssbnn.structure.groups import NodeGroup
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.linear import LinearGroup
from pyro_ssbnn.structure.network import Network

__all__ = ["amplitudes", "cut_weights", "effective_weights", "folded_weights", "mean_weights"]


def amplitudes(group: NodeGroup, values: Mapping[str, Tensor]) -> Tensor | None:
    """Amplitude z t of a group's nodes, ``[..., size]``, from values of its sites; None for 1."""
    slab_scale = group.prior.slab_scale(
        _latents_of(group.path, values), _latents_of(group.scope_path, values)
    )
    gate = values[group.gate_site] if group.gated else None
    if gate is None or slab_scale is None:
        return slab_scale if gate is None else gate
    return gate * slab_scale


def effective_weights(
    description: NetworkDescription, values: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Effective weights w = z t u (with input gates where there are any), ``{group: [..., size, group_size]}``.

    A batch norm's scale and shift are among them, so are kernels before it; see :func:`folded_weights`.

    :param values: values of every latent site.
    """
    weights = {}
    for group in description.groups:
        weight, amplitude = values[group.weight_site], amplitudes(group, values)
        if amplitude is not None:
            weight = weight * group.spread(amplitude).unsqueeze(-1)
        weights[group.name] = _with_column_gates(description, group, weight, values)
    return weights


def folded_weights(model: Network, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Effective weights of the plain layers that predict, running statistics folded in, bias last.

    :param values: values of every latent site.
    :returns: ``{group: [..., size, fan_in + 1]}``.
    """
    weights = {}
    for group in model.description.groups:
        weight = model.fold(group.name, values[group.weight_site], amplitudes(group, values))
        weights[group.name] = _with_column_gates(model.description, group, weight, values)
    return weights


def mean_weights(
    model: Network, guide: Guide, open: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Posterior mean weights of the open nodes as plain layers, ``{group: [size, fan_in + 1]}``, bias last.

    :param open: masks of the open gates, ``{group: [size]}``, for guides whose weights respond to them; all by default.

    Slab scale, scale, shift and kernel are independent under the guide, so that those of a batch-normed layer are made
    of E[t] E[u_scale] E[u_kernel] and E[t] E[u_shift], with the running statistics as they are.
    """
    names = [group.name for group in model.description.groups]
    return {
        name: model.fold(name, guide.mean_standardized(name, open), guide.mean_slab_scale(name))
        for name in names
    }


def cut_weights(
    description: NetworkDescription,
    weights: Mapping[str, Tensor],
    kept: Mapping[str, Tensor],
    passed_on: float | Mapping[str, Tensor],
) -> dict[str, CutLayer]:
    """Cut rows and columns of every layer, folding the closed nodes' constants into the biases.

    :param weights: weights of the *open* nodes as plain layers, bias last, ``{group: [..., size, fan_in + 1]}``.
    :param kept: ascending indices of the members to keep, ``{group: [kept]}``; groups not named stay whole.
    :param passed_on: what closed nodes pass on, see :meth:`~pyro_ssbnn.structure.network.Network.passed_on`.
    :raises ConfigurationError: when a zero-padded layer, or one that reads a sum, would lose sources that pass on a
        constant other than 0.
    """
    members = description.with_sums(without_unread(description, kept))
    layers = {}
    for group in description.groups:
        weight = weights[group.name]
        if isinstance(group, LinearGroup):
            layers[group.name] = _cut_linear(group, weight, members)
            continue
        rows = group.rows.indices(members, weight.device)
        columns = group.incoming.indices(members, weight.device)
        if len(rows) < group.size:
            weight = weight.index_select(-2, group.weight_rows.indices(members, weight.device))
        bias, left = weight[..., -1], weight[..., :-1]
        if len(columns) < group.fan_in:
            left = left.index_select(-1, columns)
        if not isinstance(passed_on, float):
            if group.name in passed_on and len(columns) < group.fan_in:
                constants = passed_on[group.name].to(weight)
                bias = bias + weight[..., :-1] @ constants - left @ constants[columns]
        elif passed_on != 0.0 and group.source != description.inputs.name:
            _require_foldable(description, group, lost=group.fan_in - len(columns))
            bias = bias + passed_on * (weight[..., :-1].sum(-1) - left.sum(-1))
        layers[group.name] = CutLayer(left.contiguous(), bias.contiguous(), rows, columns)
    return layers


def _cut_linear(group: LinearGroup, weight: Tensor, members: Mapping[str, Tensor]) -> CutLayer:
    """The linear terms as a layer that maps the columns kept to the outputs."""
    rows = group.rows.indices(members, weight.device)
    columns = group.weight_rows.indices(members, weight.device)
    left = weight.index_select(-2, columns).mT.contiguous()
    return CutLayer(left, left.new_zeros(left.shape[:-1]), rows, columns)


def _require_foldable(description: NetworkDescription, group: NodeGroup, lost: int) -> None:
    if not lost:
        return
    if group.source in {total.name for total in description.sums}:
        raise ConfigurationError(
            f"prune: {group.name} reads the sum {group.source}, but closed nodes pass on a constant other than 0"
            " there. Train with an activation that is 0 at 0 (relu, silu, tanh, ...)."
        )
    if group.zero_padded:
        raise ConfigurationError(
            f"prune: {group.name} pads the maps of {group.source} with zeros, but closed nodes of {group.source} pass"
            " on a constant other than 0, which the zeros cut off at the border: the cut would not be exact. Train with"
            " an activation that is 0 at 0 (relu, silu, tanh, ...), or without padding."
        )


def _latents_of(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values of the sites ``{prefix}.{key}`` by key."""
    found = {k[len(prefix) + 1 :]: v for k, v in values.items() if k.startswith(f"{prefix}.")}
    return {k: v for k, v in found.items() if "." not in k}


def _with_column_gates(
    description: NetworkDescription, group: NodeGroup, weight: Tensor, values: Mapping[str, Tensor]
) -> Tensor:
    """Weights with those of closed columns at zero; the bias, last, is never closed."""
    if group.column_gate is None:
        return weight
    gate = description.inputs.spread(values[description.inputs.gate_site])
    return weight * torch.cat([gate, torch.ones_like(gate[..., :1])], -1).unsqueeze(-2)
