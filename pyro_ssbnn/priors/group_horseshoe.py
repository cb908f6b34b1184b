r"""Regularised group horseshoe slab (SS-GHS).

.. math:: t_j = \frac{c\,s\,\tau_j}{\sqrt{c^2 + s^2\tau_j^2}},\qquad \tau_j \sim \mathrm{HalfCauchy}(1),\qquad
          s \sim \mathrm{HalfCauchy}(s_0)\ \text{(one per network)}

with c fixed, or :math:`c^2 \sim \mathrm{InverseGamma}(2, 6)`. Each half-Cauchy is written as a product, which
LogNormal guides fit far better than the half-Cauchy itself: :math:`\tau^2 = a b`, :math:`a \sim \mathrm{Gamma}(1/2,
\mathrm{rate}\ 1/A^2)`,
:math:`b \sim \mathrm{InverseGamma}(1/2, 1)` gives :math:`\tau \sim \mathrm{HalfCauchy}(A)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyro
from pyro.distributions import Gamma, InverseGamma
from torch import Tensor

from pyro_ssbnn.priors.base import Inclusion, Latents, Prior
from pyro_ssbnn.registry import register

__all__ = ["SSGHS", "GroupHorseshoe"]


def _sample_squared_half_cauchy(prefix: str, scale: float, like: Tensor) -> dict[str, Tensor]:
    """Sample the two factors of HalfCauchy(scale)^2 as sites ``{prefix}_a`` and ``{prefix}_b``."""
    half, one = like.new_full((), 0.5), like.new_full((), 1.0)
    a = pyro.sample(f"{prefix}_a", Gamma(half, like.new_full((), scale**-2)))
    b = pyro.sample(f"{prefix}_b", InverseGamma(half, one))
    return {"scale_a": a, "scale_b": b}


@register("group-horseshoe")
@dataclass(frozen=True)
class GroupHorseshoe(Prior):
    r"""Regularised group horseshoe on the nodes, every node in the network.

    Sites: ``global.scale_a``, ``global.scale_b`` (:math:`s^2` is their product), ``global.cap`` (:math:`c^2`, when
    it is random) and ``{group}.scale_a``, ``{group}.scale_b`` (:math:`\tau_j^2` is their product).

    :param global_scale: :math:`s_0`, scale of the half-Cauchy prior of s.
    :param cap: c, the largest slab scale (a standard deviation); None gives :math:`c^2` its InverseGamma prior.
    :param cap_concentration: shape of the InverseGamma prior of :math:`c^2`, used when ``cap`` is None.
    :param cap_rate: its rate.
    """

    global_scale: float = 1.0
    cap: float | None = 1.0
    cap_concentration: float = 2.0
    cap_rate: float = 6.0

    def sample_shared(self, scope: str, like: Tensor) -> dict[str, Tensor]:
        """Sample the factors of the network's squared scale, and the squared cap when it is random."""
        shared = _sample_squared_half_cauchy(f"{scope}.scale", self.global_scale, like)
        if self.cap is None:
            prior = InverseGamma(
                like.new_full((), self.cap_concentration), like.new_full((), self.cap_rate)
            )
            shared["cap"] = pyro.sample(f"{scope}.cap", prior)
        return shared

    def sample_local(
        self, name: str, group_size: int, shared: Latents, like: Tensor
    ) -> dict[str, Tensor]:
        r"""Sample the factors of the nodes' :math:`\tau_j^2`."""
        return _sample_squared_half_cauchy(f"{name}.scale", 1.0, like)

    def slab_scale(self, local: Latents, shared: Latents) -> Tensor | None:
        r""":math:`t = (1/c^2 + 1/(s\tau)^2)^{-1/2}`, the same as the module's formula."""
        precision = 1 / (
            shared["scale_a"] * shared["scale_b"] * local["scale_a"] * local["scale_b"]
        )
        inverse_cap = 1 / shared["cap"] if self.cap is None else self.cap**-2
        return (inverse_cap + precision).rsqrt()


@register("ss-ghs")
@dataclass(frozen=True)
class SSGHS(GroupHorseshoe):
    """Spike-and-slab with the regularised group horseshoe slab.

    :param inclusion: prior inclusion probability, see :class:`~pyro_ssbnn.priors.base.Prior`.
    """

    inclusion: Inclusion = 0.1
    gated = True
