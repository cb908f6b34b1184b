"""What a cut network makes of some training rows, before anything is trained again."""

from __future__ import annotations

from copy import deepcopy

import pyro
import torch
from pyro import poutine
from torch import Tensor

from pyro_ssbnn.inference import Fit
from pyro_ssbnn.isolation import isolated
from pyro_ssbnn.posterior.draws import site_values, trace_draws
from pyro_ssbnn.posterior.weights import amplitudes
from pyro_ssbnn.selection import Selection
from pyro_ssbnn.structure.groups import NodeGroup
from pyro_ssbnn.structure.guide import Guide

__all__ = ["CutLikelihood"]

_ROWS = 512  # evenly spread over the data


class CutLikelihood:
    """Mean log-likelihood of some rows at the posterior mean of the weights, with the gates of a selection.

    Batch norms take the moments of these rows: those of the whole network are far from a cut one's, and would call
    every cut as bad as any other (Li et al. 2020, EagleEye).

    :param fitted: the fit; it stays as it is.
    :param x: its rows ``[N, p]``.
    :param y: their targets.
    """

    def __init__(self, fitted: Fit, x: Tensor, y: Tensor) -> None:
        like = next(p for p in fitted.guide.parameters())
        chosen = torch.linspace(0, len(x) - 1, _ROWS).round().long().unique()
        self.x = x[chosen.to(x.device)].to(like)
        self.y = y[chosen.to(y.device)].to(like.device)
        self.seed, self.model = fitted.options.seed, deepcopy(fitted.model).train()
        with isolated(self.seed, like):
            self.values = site_values(trace_draws(fitted.guide, 1))
            for group in fitted.model.description.groups:
                self.values[group.weight_site] = self._mean_weights(fitted.guide, group)

    def _mean_weights(self, guide: Guide, group: NodeGroup) -> Tensor:
        """Weights ``[1, size, columns]`` whose products with the slab scales that were drawn are the mean ones."""
        mean, scale = guide.mean_standardized(group.name), guide.mean_slab_scale(group.name)
        open = {group.gate_site: mean.new_ones(1, group.size)} if group.gated else {}
        drawn = amplitudes(group, {**self.values, **open})
        if scale is None or drawn is None:
            return mean.unsqueeze(0)
        return mean * (scale / drawn).unsqueeze(-1)

    @torch.no_grad()
    def __call__(self, selection: Selection) -> float:
        """The log-likelihood of what is selected."""
        masks = {f"{name}.gate": selection.mask(name) for name in selection.kept}
        gates = {site: mask.to(self.x).unsqueeze(0) for site, mask in masks.items()}
        with isolated(self.seed, self.x), pyro.plate("draws", 1, dim=-2):
            model = poutine.condition(self.model.network, data={**self.values, **gates})
            f = model(self.x).squeeze(0)
        likelihood = self.model.likelihood
        own = likelihood.latents_of(self.values, self.model.description.prefix)
        latents = {name: value.squeeze(0) for name, value in own.items()}
        f, target, weight = likelihood.unpacked(f, likelihood.as_target(self.y, f))
        density = likelihood.distribution(f, latents).log_prob(target)
        return float((density if weight is None else weight * density).mean())
