r"""Gaussian slab (SS-IG): :math:`w = z\,u`, :math:`u \sim N(0, \sigma_0^2 I_m)`, the slab scale t being 1."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pyro_ssbnn.priors.base import Inclusion, Latents, Prior
from pyro_ssbnn.registry import register

__all__ = ["SSIG", "Gaussian"]


@register("gaussian")
@dataclass(frozen=True)
class Gaussian(Prior):
    """Independent Normal weights, every node in the network.

    :param scale: standard deviation of each weight.
    """

    def sample_shared(self, scope: str, like: Tensor) -> dict[str, Tensor]:
        """No network-wide latents."""
        return {}

    def sample_local(
        self, name: str, group_size: int, shared: Latents, like: Tensor
    ) -> dict[str, Tensor]:
        """No latents of a group's own."""
        return {}

    def slab_scale(self, local: Latents, shared: Latents) -> Tensor | None:
        """None: t = 1."""
        return None


@register("ss-ig")
@dataclass(frozen=True)
class SSIG(Gaussian):
    """Spike-and-slab with the Gaussian slab.

    :param scale: standard deviation of the slab.
    :param inclusion: prior inclusion probability, see :class:`~pyro_ssbnn.priors.base.Prior`.
    """

    inclusion: Inclusion = 0.1
    gated = True
