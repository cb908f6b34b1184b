"""What a fit leaves open of a perceptron, as a function of its weights: outputs and their derivatives, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference import Fit
from pyro_ssbnn.models import MLP

__all__ = ["OpenPerceptron", "Weights"]


@dataclass(frozen=True)
class Weights:
    """Effective weights w = t u of a perceptron, closed columns at 0.

    :param layers: of every layer, bias last, ``[size, fan_in + 1]``.
    :param linear: of the linear terms, ``[columns, outputs]``; without them of no columns.
    """

    layers: tuple[Tensor, ...]
    linear: Tensor


class OpenPerceptron:
    """The nodes that a fit has open, those with inclusion above 1/2, and any set of columns.

    The weights that a set of columns leaves are numbered layer by layer, row by row, linear terms last.

    :param fit: of an :class:`~pyro_ssbnn.models.MLP` with hidden layers.
    :raises ConfigurationError: for another network.
    :ivar mean: posterior means of the weights, of all columns.
    :ivar precision: prior precisions of the effective weights, slab scales at their posterior mean, as ``mean``.
    :ivar acts: whether a hidden node is open in every layer, so that the predictors' columns reach the output.
    """

    def __init__(self, fit: Fit) -> None:
        model: Any = fit.model
        description, guide = model.description, fit.guide
        if not isinstance(model, MLP) or not model.hidden:
            raise ConfigurationError(
                f"predictor_law: made for an MLP with hidden layers; got {description.in_words()}. A linear network's"
                " own guide has the joint law of its predictors; elsewhere use certify."
            )
        inclusion = guide.inclusion()
        layers, precisions, reads, constant = [], [], None, torch.zeros(1, dtype=torch.float64)
        for group in description.layers:
            mean, slab = (t.double().cpu() for t in self._of(guide, group))
            open = torch.ones(group.size, dtype=torch.bool)
            if group.name in inclusion:
                open = (inclusion[group.name] > 0.5).cpu()
            if reads is not None:  # what closed nodes pass on is part of the bias
                mean[:, -1] += mean[:, :-1][:, ~reads] @ constant.expand(int((~reads).sum()))
                kept = torch.cat([reads, reads.new_ones(1)])
                mean, slab = mean[:, kept], slab[:, kept]
            layers.append(mean[open])
            precisions.append(slab[open])
            reads, constant = open, constant.new_full((1,), float(model.closed_activation))
        linear = precision = torch.zeros(0, description.num_outputs, dtype=torch.float64)
        if description.linear is not None:
            linear, precision = (t.double().cpu() for t in self._of(guide, description.linear))
        self.mean = Weights(tuple(layers), linear)
        self.precision = Weights(tuple(precisions), precision)
        self.acts = all(len(layer) for layer in layers)
        self._phi = model.phi

    @staticmethod
    def _of(guide: Any, group: Any) -> tuple[Tensor, Tensor]:
        """Means of a layer's effective weights, and their prior precisions."""
        mean = guide.mean_weights(group.name).clone()
        scale, unit = group.prior.scale, guide.mean_slab_scale(group.name)
        scale = mean.new_full((len(mean),), scale) if unit is None else scale * group.spread(unit)
        return mean, scale.pow(-2).unsqueeze(-1).expand_as(mean)

    def masks(self, columns: Tensor, linear: Tensor) -> list[Tensor]:
        """Which weights are there, layer by layer, given columns ``[C]`` and linear columns ``[C]`` (or ``[0]``)."""
        first, *rest = self.mean.layers
        incoming = torch.cat([columns, columns.new_ones(1)]).expand_as(first)
        return [
            incoming,
            *(torch.ones_like(layer, dtype=torch.bool) for layer in rest),
            linear.unsqueeze(-1).expand_as(self.mean.linear),
        ]

    def flat(self, weights: Weights, masks: Sequence[Tensor]) -> Tensor:
        """The weights that are there as one vector."""
        each = (*weights.layers, weights.linear)
        return torch.cat([w[mask] for w, mask in zip(each, masks, strict=True)])

    def shaped(self, vector: Tensor, masks: Sequence[Tensor]) -> Weights:
        """The same back in their places, others 0."""
        parts = vector.split([int(mask.sum()) for mask in masks])
        each = [
            torch.zeros_like(mask, dtype=vector.dtype).masked_scatter(mask, part)
            for mask, part in zip(masks, parts, strict=True)
        ]
        return Weights(tuple(each[:-1]), each[-1])

    def outputs(self, weights: Weights, x: Tensor) -> Tensor:
        """F at rows x ``[N, C]``: ``[N, outputs]``."""
        return self._passed(weights, x)[0]

    def _passed(self, weights: Weights, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Outputs, what each layer reads, and slopes of the activation in all layers but the last."""
        read, slopes = [x], []
        for layer in weights.layers[:-1]:
            pre = (read[-1] @ layer[:, :-1].mT + layer[:, -1]).requires_grad_()
            with torch.enable_grad():
                h = self._phi(pre)
                slope = torch.autograd.grad(h.sum(), pre)[0] if pre.numel() else pre
            slopes.append(slope.detach())
            read.append(h.detach())
        last = weights.layers[-1]
        f = read[-1] @ last[:, :-1].mT + last[:, -1]
        return (f + x @ weights.linear if len(weights.linear) else f), read, slopes

    def jacobian(
        self, weights: Weights, x: Tensor, masks: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs, their derivatives by the weights that are there, and by the first layer's pre-activations.

        :returns: ``[N, outputs]``, ``[N, outputs, weights]`` and ``[N, outputs, size of the first layer]``.
        """
        f, read, slopes = self._passed(weights, x)
        one = x.new_ones(len(x), 1)
        read = [torch.cat([h, one], 1) for h in read]
        # By the pre-activations of a layer, from the last back to the first.
        delta = torch.eye(f.shape[1], dtype=f.dtype).expand(len(x), -1, -1)
        columns = []
        for place in reversed(range(len(weights.layers))):
            there = (
                masks[place].any(0) if place == 0 else masks[place].new_ones(read[place].shape[1])
            )
            part = delta.unsqueeze(-1) * read[place][:, None, None, there]
            columns.append(part.flatten(2))
            if place:
                delta = (delta @ weights.layers[place][:, :-1]) * slopes[place - 1].unsqueeze(1)
        if len(weights.linear):
            own = masks[-1][:, 0]
            eye = torch.eye(f.shape[1], dtype=f.dtype)
            linear = x[:, None, own, None] * eye[:, None, :]
            columns.insert(0, linear.flatten(2))
        return f, torch.cat(columns[::-1], -1), delta
