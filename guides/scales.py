"""What a scale hierarchy's guide offers, and how the guide of a prior is found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any

import numpy as np
import torch
from pyro.nn import PyroModule
from torch import Tensor

from pyro_ssbnn.description import NodeGroup
from pyro_ssbnn.guides.sites import LogNormalSite
from pyro_ssbnn.priors import Prior

__all__ = ["LogMoments", "ScaleGuide", "gauss_hermite", "scale_guide"]

LogMoments = Mapping[str, tuple[Tensor, Tensor]]
"""Mean and variance of each latent's logarithm, by the last part of its site name."""


class ScaleSites(PyroModule):
    """LogNormal sites with one prefix, sampled in the order in which the prior samples them."""

    def __init__(self, initial: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.keys = tuple(initial)
        for key, loc in initial.items():
            self.add_module(key, LogNormalSite(loc))

    def forward(self, prefix: str) -> dict[str, Tensor]:
        """Sample the sites ``{prefix}.{key}``."""
        return {key: getattr(self, key)(f"{prefix}.{key}") for key in self.keys}

    @property
    def log_moments(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Mean and variance of each latent's logarithm."""
        return {key: getattr(self, key).log_moments for key in self.keys}


class ScaleGuide(ABC):
    """Mean-field LogNormal guide of a prior's scale latents: where it starts, and the slab scale's mean.

    :param prior: the prior whose latents it guides.
    """

    def __init__(self, prior: Any) -> None:
        self.prior = prior

    @abstractmethod
    def initial_shared(self, groups: Sequence[NodeGroup]) -> dict[str, Tensor]:
        """Initial log-medians of the network-wide latents, scalars, for the groups of one scope."""

    @abstractmethod
    def initial_local(self, group: NodeGroup, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Initial log-medians of a group's latents, ``[size]``.

        :param shared: initial log-medians of the network-wide latents.
        """

    @abstractmethod
    def mean_slab_scale(
        self, local: LogMoments, shared: LogMoments, power: float | Tensor = 1.0
    ) -> Tensor | None:
        """E_q[t^power], ``[size]``; None stands for t = 1.

        :param power: a number, or one for each node, ``[size]``; :class:`CoupledGuide` asks for others than 1.
        """

    def initial_slab_scale(
        self, local: Mapping[str, Tensor], shared: Mapping[str, Tensor]
    ) -> Tensor | None:
        """Slab scale at the initial medians, ``[size]``; None for 1."""
        return self.prior.slab_scale(
            {key: value.exp() for key, value in local.items()},
            {key: value.exp() for key, value in shared.items()},
        )


@singledispatch
def scale_guide(prior: Prior) -> ScaleGuide:
    """Guide of a prior's scale hierarchy; register one for a prior of your own with ``@scale_guide.register``."""
    raise NotImplementedError(
        f"no guide is registered for the scale hierarchy of {type(prior).__name__}:"
        " subclass ScaleGuide and register it with @scale_guide.register."
    )


def gauss_hermite(like: Tensor, order: int = 40) -> tuple[Tensor, Tensor]:
    """Nodes and weights of E[f(Z)] = sum_i weight_i f(node_i), Z standard Normal; both ``[order]``."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(order)
    return (
        torch.as_tensor(nodes, dtype=like.dtype, device=like.device),
        torch.as_tensor(weights / weights.sum(), dtype=like.dtype, device=like.device),
    )
