r"""Group lasso slab (SS-GL).

.. math:: t_j = \sqrt{\tau_j^2},\qquad \tau_j^2 \sim \mathrm{Gamma}\{(m+1)/2,\ \mathrm{rate}\ \varsigma^2/2\},\qquad
          \varsigma^2 \sim \mathrm{Gamma}(4,\ \mathrm{rate}\ 2)\ \text{(one per network)}

Marginally over :math:`\tau^2` and for :math:`\sigma_0 = 1` the slab is the multivariate Laplace of the Bayesian
group lasso,
:math:`p(w) \propto \exp(-\varsigma \lVert w\rVert_2)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyro
from pyro.distributions import Gamma
from torch import Tensor

from pyro_ssbnn.priors.base import Inclusion, Latents, Prior
from pyro_ssbnn.registry import register

__all__ = ["SSGL", "GroupLasso"]


@register("group-lasso")
@dataclass(frozen=True)
class GroupLasso(Prior):
    r"""Group lasso on the nodes, every node in the network.

    Sites: ``global.penalty`` (:math:`\varsigma^2`) and ``{group}.variance`` (:math:`\tau^2`, a variance).

    :param penalty_concentration: shape of the Gamma prior of :math:`\varsigma^2`.
    :param penalty_rate: its rate.
    """

    penalty_concentration: float = 4.0
    penalty_rate: float = 2.0

    def sample_shared(self, scope: str, like: Tensor) -> dict[str, Tensor]:
        r"""Sample the network's squared penalty :math:`\varsigma^2`."""
        prior = Gamma(
            like.new_full((), self.penalty_concentration), like.new_full((), self.penalty_rate)
        )
        return {"penalty": pyro.sample(f"{scope}.penalty", prior)}

    def sample_local(
        self, name: str, group_size: int, shared: Latents, like: Tensor
    ) -> dict[str, Tensor]:
        r"""Sample the nodes' slab variances :math:`\tau_j^2`."""
        prior = Gamma(like.new_full((), (group_size + 1) / 2), shared["penalty"] / 2)
        return {"variance": pyro.sample(f"{name}.variance", prior)}

    def slab_scale(self, local: Latents, shared: Latents) -> Tensor | None:
        r""":math:`t = \sqrt{\tau^2}`."""
        return local["variance"].sqrt()


@register("ss-gl")
@dataclass(frozen=True)
class SSGL(GroupLasso):
    """Spike-and-slab with the group lasso slab.

    :param inclusion: prior inclusion probability, see :class:`~pyro_ssbnn.priors.base.Prior`.
    """

    inclusion: Inclusion = 0.1
    gated = True
