"""Weights made of draws of the latents: amplitudes z t, effective weights z t u, plain layers, posterior means."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from pyro_ssbnn.structure.description import NetworkDescription, NodeGroup
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.network import Network

__all__ = ["amplitudes", "effective_weights", "folded_weights", "mean_weights"]


def amplitudes(group: NodeGroup, values: Mapping[str, Tensor]) -> Tensor | None:
    """Amplitude z t of a group's nodes, ``[..., size]``, from values of its sites; None for 1."""
    slab_scale = group.prior.slab_scale(
        _latents_of(group.name, values), _latents_of(group.scope, values)
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
        weight = weight if amplitude is None else weight * amplitude.unsqueeze(-1)
        weights[group.name] = _with_column_gates(group, weight, values)
    return weights


def folded_weights(model: Network, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Effective weights of the plain layers that predict, running statistics folded in, bias last.

    :param values: values of every latent site.
    :returns: ``{group: [..., size, fan_in + 1]}``.
    """
    weights = {}
    for group in model.description.groups:
        weight = model.fold(group.name, values[group.weight_site], amplitudes(group, values))
        weights[group.name] = _with_column_gates(group, weight, values)
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


def _latents_of(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values of the sites ``{prefix}.{key}`` by key."""
    found = {k[len(prefix) + 1 :]: v for k, v in values.items() if k.startswith(f"{prefix}.")}
    return {k: v for k, v in found.items() if "." not in k}


def _with_column_gates(group: NodeGroup, weight: Tensor, values: Mapping[str, Tensor]) -> Tensor:
    """Weights with those of closed columns at zero; the bias, last, is never closed."""
    if group.column_gate is None:
        return weight
    gate = values[f"{group.column_gate}.gate"]
    return weight * torch.cat([gate, torch.ones_like(gate[..., :1])], -1).unsqueeze(-2)
