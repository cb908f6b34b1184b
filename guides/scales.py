"""What a scale hierarchy's guide offers, and how the guide of a prior is found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import singledispatch
from types import MappingProxyType
from typing import Any

import numpy as np
from pyro.nn import PyroModule
from torch import Tensor

from pyro_ssbnn.guides.sites import LogNormalSite
from pyro_ssbnn.priors import Prior
from pyro_ssbnn.structure.constants import constant
from pyro_ssbnn.structure.groups import NodeGroup
from pyro_ssbnn.structure.guide import LogMoments

__all__ = ["LogMoments", "ScaleGuide", "gauss_hermite", "scale_guide"]


class ScaleSites(PyroModule):
    """LogNormal sites with one prefix, sampled in the order in which the prior samples them."""

    def __init__(self, initial: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.keys = tuple(initial)
        for key, loc in initial.items():
            self.add_module(key, LogNormalSite(loc))

    def forward(
        self,
        prefix: str,
        origins: Mapping[str, Tensor] = MappingProxyType({}),
        rates: Mapping[str, tuple[Tensor, Tensor]] = MappingProxyType({}),
    ) -> dict[str, Tensor]:
        """Sample the sites ``{prefix}.{key}``.

        :param origins: where the log-medians of some latents count from, 0 for the others.
        :param rates: of :meth:`ScaleGuide.rates`.
        """
        return {
            k: getattr(self, k)(f"{prefix}.{k}", origins.get(k), rates.get(k)) for k in self.keys
        }

    @property
    def log_moments(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Mean and variance of each latent's logarithm, counted from its origin."""
        return {key: getattr(self, key).log_moments for key in self.keys}


class ScaleGuide(ABC):
    """LogNormal guide of a prior's scale latents: where it starts, what it follows, and the slab scale's mean.

    :param prior: the prior whose latents it guides.

    ``centred`` says what means the guide holds for a node's weights: those of u, whatever t is drawn, or those of the
    effective weights t u, so that u's mean follows 1/t.
    """

    centred = False

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

    def origins(self, group: NodeGroup, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Where the log-medians of a group's latents count from; none stand for 0.

        :param shared: draws of the network-wide latents.
        """
        return {}

    def rates(self, shared: ScaleSites) -> dict[str, tuple[Tensor, Tensor]]:
        """Means of log-rate and rate of those Gamma priors over which the KL is taken in closed form, by latent.

        :param shared: the guide's sites of the network-wide latents.
        """
        return {}

    def independent(self) -> ScaleGuide:
        """The guide of the same latents in which nothing follows anything else; itself where that is so already."""
        return self

    def local_moments(self, group: NodeGroup, own: LogMoments, shared: LogMoments) -> LogMoments:
        """Moments of a group's latents, marginal over what they follow.

        :param own: moments counted from the origins.
        :param shared: moments of the network-wide latents.
        """
        return own

    def initial_slab_scale(
        self, group: NodeGroup, local: Mapping[str, Tensor], shared: Mapping[str, Tensor]
    ) -> Tensor | None:
        """Slab scale at the initial log-medians, ``[size]``; None for 1."""
        medians = {key: value.exp() for key, value in shared.items()}
        origins = self.origins(group, medians)
        return self.prior.slab_scale(
            {key: (value + origins.get(key, 0.0)).exp() for key, value in local.items()}, medians
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
        constant(nodes.tolist(), like.dtype, like.device),
        constant((weights / weights.sum()).tolist(), like.dtype, like.device),
    )
