r"""Guide of the regularised group horseshoe slab.

LogNormal for the factors of :math:`\tau_j^2` and :math:`s^2`, and for :math:`c^2` when it is random.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pyro_ssbnn.guides.scales import LogMoments, ScaleGuide, gauss_hermite, scale_guide
from pyro_ssbnn.priors import GroupHorseshoe
from pyro_ssbnn.structure.groups import NodeGroup

__all__ = ["GroupHorseshoeGuide"]


@scale_guide.register(GroupHorseshoe)
class GroupHorseshoeGuide(ScaleGuide):
    """LogNormal for both factors of each squared half-Cauchy, and for the squared cap."""

    def initial_shared(self, groups: Sequence[NodeGroup]) -> dict[str, Tensor]:
        """Start s at its prior median, and the squared cap at its prior mode."""
        zero = torch.zeros(())
        shared = {"scale_a": zero + 2 * math.log(self.prior.global_scale), "scale_b": zero}
        if self.prior.cap is None:
            mode = self.prior.cap_rate / (self.prior.cap_concentration + 1)
            shared["cap"] = zero + math.log(mode)
        return shared

    def initial_local(self, group: NodeGroup, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        r"""Start :math:`\tau_j` at its prior median, 1."""
        return {key: torch.zeros(group.size) for key in ("scale_a", "scale_b")}

    def mean_slab_scale(
        self, local: LogMoments, shared: LogMoments, power: float | Tensor = 1.0
    ) -> Tensor | None:
        r"""E[(1/c^2 + 1/(s\tau)^2)^{-k/2}] for the power k.

        By Gauss-Hermite quadrature: log (s tau)^2 is Normal under the guide.
        """
        factors = [*(local[k] for k in ("scale_a", "scale_b"))]
        factors += [shared[k] for k in ("scale_a", "scale_b")]
        loc = sum((m for m, _ in factors), torch.zeros_like(factors[0][0]))
        scale = sum((v for _, v in factors), torch.zeros_like(loc)).sqrt()
        nodes, weights = gauss_hermite(loc)
        precision = (-loc - scale * nodes[:, None]).exp()  # [order, size]
        if self.prior.cap is not None:
            return weights @ (self.prior.cap**-2 + precision).pow(-power / 2)
        cap_loc, cap_variance = shared["cap"]
        inverse_cap = (-cap_loc - cap_variance.sqrt() * nodes).exp()
        grid = (inverse_cap[:, None, None] + precision).pow(-power / 2)  # [order, order, size]
        return torch.einsum("i,j,ijs->s", weights, weights, grid)
