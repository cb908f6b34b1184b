r"""The evidence for the gates of a network that is being cut, from one pass forth and back.

With all other gates as they are, the log-odds of gate j are

.. math:: \eta_j = \log\frac{\lambda_j}{1 - \lambda_j}
          + \sum_i \log p(y_i \mid z_j = 1, \cdot) - \log p(y_i \mid z_j = 0, \cdot),

up to the KL of the weights that the gate opens, which a tempered likelihood outweighs. (They are the fixed point of
:mod:`pyro_ssbnn.inference.gate_evidence`, which flips gate by gate, a pass for each.) The differences are expanded at
the open gates. With :math:`g_{ij}` the derivative of row i's log-likelihood by :math:`z_j`, and the Fisher information
in place of the negative second derivatives, closing a set W of gates loses

.. math:: \sum_i \Big(\sum_{j \in W} g_{ij}\Big) + \frac12 \Big(\sum_{j \in W} g_{ij}\Big)^2 ,

whose second term knows which nodes do the same: each of two may go, but not both. Every gate multiplies the map
:math:`h_j` of its node, so that :math:`g_{ij} = \sum h_{ij}\, \partial\log p(y_i) / \partial h_{ij}` over the places
of the map: of all gates at once. At the optimum of a network the sums of :math:`g_{ij}` over rows are near 0; in one
that has lost nodes they say which others have become worth more, or less.

Source: Theis et al. 2018 (Fisher pruning), Molchanov et al. 2019 (Taylor expansions of gates); Liu et al. 2021 add up
the gradients of nodes that leave together.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from pyro_ssbnn.inference import Fit
from pyro_ssbnn.isolation import isolated
from pyro_ssbnn.posterior.draws import site_values, trace_draws
from pyro_ssbnn.posterior.weights import amplitudes
from pyro_ssbnn.structure.groups import NodeGroup
from pyro_ssbnn.structure.guide import Guide

__all__ = ["Evidence", "GateSlopes"]

_ROWS = 512  # evenly spread over the data
_BATCH = 128  # of these at a time, as in training: their maps are held


class Evidence:
    r"""What is lost with each of n gates, given those that were closed before.

    :param slopes: :math:`g_{ij}`, ``[rows, n]``.
    :param weight: observations that each row stands for, ``[rows]``.
    :param prior: prior log-odds, ``[n]``.
    :ivar of_each: the log-odds, ``[n]``.
    """

    def __init__(self, slopes: Tensor, weight: Tensor, prior: Tensor) -> None:
        self.slopes, self.weighted = slopes, weight.unsqueeze(-1) * slopes
        self.of_each = prior + self.weighted.sum(0) + (self.weighted * slopes).sum(0) / 2

    def close(self, j: int) -> None:
        """Close a gate: the others are worth more by what they have in common with it."""
        self.of_each = self.of_each + self.weighted.mT @ self.slopes[:, j]


class GateSlopes:
    """Derivatives of rows' log-likelihoods by the gates, at the posterior mean of the weights.

    Batch norms take the moments of these rows: those of the whole network are far from a cut one's (Li et al. 2020,
    EagleEye).

    :param fitted: the fit; it stays as it is.
    :param x: its rows ``[N, p]``.
    :param y: their targets.
    """

    def __init__(self, fitted: Fit, x: Tensor, y: Tensor) -> None:
        like = next(p for p in fitted.guide.parameters())
        chosen = torch.linspace(0, len(x) - 1, _ROWS).round().long().unique()
        # A batch is spread over the data, too, whatever their order.
        parts = torch.arange(len(chosen)) % max(1, len(chosen) // _BATCH)
        self.batches = [
            (x[rows.to(x.device)].to(like), y[rows.to(y.device)].to(like.device))
            for rows in (chosen[parts == part] for part in parts.unique())
        ]
        self.per_row = len(x) / len(chosen)  # observations that each stands for
        self.seed, self.model = fitted.options.seed, deepcopy(fitted.model).train()
        self.gated = self.model.description.gated_layers
        with isolated(self.seed, like):
            self.values = site_values(trace_draws(fitted.guide, 1))
            for group in fitted.model.description.groups:
                self.values[group.weight_site] = self._mean_weights(fitted.guide, group)

    def _mean_weights(self, guide: Guide, group: NodeGroup) -> Tensor:
        """Weights ``[1, rows, columns]`` whose products with the slab scales that were drawn are the mean ones."""
        mean, scale = guide.mean_standardized(group.name), guide.mean_slab_scale(group.name)
        open = {group.gate_site: mean.new_ones(1, group.size)} if group.gated else {}
        drawn = amplitudes(group, {**self.values, **open})
        if scale is None or drawn is None:
            return mean.unsqueeze(0)
        return mean * group.spread(scale / drawn).unsqueeze(-1)

    def __call__(self, masks: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """The derivatives, and what each row counts.

        :param masks: of the open gates of every gated layer, ``{layer: [size]}``.
        :returns: ``{layer: [rows, size]}``, 0 for closed gates, and observations that each row stands for, ``[rows]``,
            times its weight; float64 on the CPU.
        """
        parts = [self._of_batch(x, y, masks) for x, y in self.batches]
        slopes = {name: torch.cat([of_batch[name] for of_batch, _ in parts]) for name in masks}
        return slopes, torch.cat([weight for _, weight in parts])

    def _of_batch(
        self, x: Tensor, y: Tensor, masks: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor]:
        names = [group.name for group in self.gated]
        gates = {f"{name}.gate": masks[name].to(x).unsqueeze(0).requires_grad_() for name in names}
        maps: dict[str, Tensor] = {}
        hooks = [
            self.model.get_submodule(name).register_forward_hook(
                lambda _, __, h, name=name: maps.__setitem__(name, h)
            )
            for name in names
        ]
        try:
            with isolated(self.seed, x, grad=True), pyro.plate("draws", 1, dim=-2):
                model = poutine.condition(self.model.network, data={**self.values, **gates})
                density, weight = self._log_likelihood(model(x).squeeze(0), y)
                gradients = torch.autograd.grad(
                    density.sum(), [maps[name] for name in names], allow_unused=True
                )
        finally:
            for hook in hooks:
                hook.remove()
        slopes = {
            group.name: _of_gates(group, maps[group.name], gradient, len(x))
            for group, gradient in zip(self.gated, gradients, strict=True)
        }
        return slopes, self.per_row * weight.double().cpu()

    def _log_likelihood(self, f: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Log-likelihood of each row, and its weight, ``[N]``."""
        likelihood: Any = self.model.likelihood
        own = likelihood.latents_of(self.values, self.model.description.prefix)
        latents = {name: value.squeeze(0) for name, value in own.items()}
        f, target, weight = likelihood.unpacked(f, likelihood.as_target(y, f))
        density = likelihood.distribution(f, latents).log_prob(target)
        return density, torch.ones_like(density) if weight is None else weight


def _of_gates(group: NodeGroup, h: Tensor, gradient: Tensor | None, rows: int) -> Tensor:
    """The sum of h times its gradient over the places of a row and the rows of a node, ``[rows, size]``."""
    if gradient is None:  # nobody reads the layer
        return torch.zeros(rows, group.size, dtype=torch.float64)
    product = (h.detach() * gradient).double().cpu()
    if group.geometry is not None:
        product = product.sum((-2, -1))
    of_rows = product.reshape(rows, -1, group.num_rows).sum(1)
    return of_rows.unflatten(-1, (group.size, -1)).sum(-1)
