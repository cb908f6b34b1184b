r"""The guide of the published method: mean-field throughout, at the published starting values.

What is published in the authors' programs: inclusion 0.99; every standard deviation, of weights and of logarithms of
scales, :math:`\mathrm{softplus}(-6) = 0.0025`; means of u uniform with variance :math:`2/f`, biases within
:math:`1/\sqrt f`; log-medians of the nodes' scale latents uniform within 0.6, those of the network-wide ones 1 (the
penalty, or each factor of the squared global scale, starts at e). f is the fan-in of a filter, and the *width* of a
dense layer, whose matrix they store transposed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pyro_ssbnn.guides.structured import StructuredGuide
from pyro_ssbnn.isolation import exclusive
from pyro_ssbnn.registry import register
from pyro_ssbnn.structure.groups import NodeGroup
from pyro_ssbnn.structure.network import Network

__all__ = ["PublishedGuide"]

SCALE = math.log1p(math.exp(-6))
"""Softplus of -6."""

_SPREAD = 0.6
_LOG_MEDIAN = 1.0  # of network-wide latents


@register("published")
class PublishedGuide(StructuredGuide):
    """The mean-field guide of the published method, at its starting values.

    No scale follows another (``independent_scales``). The law is :class:`StructuredGuide`'s otherwise, and standard
    deviations are parameters by their logarithms, where the authors take the softplus: the same as long as they are
    small.

    :param model: the network; that of the paper has a prior of the whole network (``scope="network"``).
    :param initial_scale: starting standard deviation of every weight and of every scale latent's logarithm, as it is.

    Other parameters: see :class:`StructuredGuide`.
    """

    def __init__(
        self,
        model: Network,
        *,
        hard: bool = True,
        temperature: float = 0.5,
        initial_inclusion: float = 0.99,
        initial_scale: float = SCALE,
        likelihood: bool = True,
    ) -> None:
        super().__init__(
            model,
            hard=hard,
            temperature=temperature,
            initial_inclusion=initial_inclusion,
            initial_scale=initial_scale,
            likelihood=likelihood,
            independent_scales=True,
        )
        for scope in self.description.scopes:
            for site in self.scope_sites(scope).children():
                site.loc.data.fill_(_LOG_MEDIAN)
                site.log_scale.data.fill_(math.log(initial_scale))
        with exclusive():  # not from the random numbers of another thread's call
            for group in self.description.groups:
                part = getattr(self, group.name)
                part.weight.loc.data.copy_(_weights(group))
                part.weight.log_scale.data.fill_(math.log(initial_scale))
                for site in part.scales.children():
                    site.loc.data.uniform_(-_SPREAD, _SPREAD)
                    site.log_scale.data.fill_(math.log(initial_scale))

    def to_config(self) -> dict[str, Any]:
        """The constructor's options that fix the form of the guide."""
        return {k: v for k, v in super().to_config().items() if k != "independent_scales"}


def _weights(group: NodeGroup) -> Tensor:
    """Means of u, ``[size, group_size]``."""
    counted = group.num_rows if group.geometry is None else group.fan_in
    bound, own = math.sqrt(6 / counted), 1 / math.sqrt(counted)
    weight = bound * (2 * torch.rand(group.num_rows, group.fan_in) - 1)
    if group.batch_normed:
        return torch.cat([weight, torch.tensor([1.0, 0.0]).expand(group.size, 2)], -1)
    return torch.cat([weight, own * (2 * torch.rand(group.num_rows, group.own) - 1)], -1)
