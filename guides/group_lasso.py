r"""Guides of the group lasso slab: LogNormal :math:`\tau_j^2` and :math:`\varsigma^2`, dependent or not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from pyro_ssbnn.guides.scales import LogMoments, ScaleGuide, ScaleSites, scale_guide
from pyro_ssbnn.priors import GroupLasso
from pyro_ssbnn.structure.groups import NodeGroup

__all__ = ["GroupLassoGuide", "IndependentGroupLassoGuide"]


@scale_guide.register(GroupLasso)
class GroupLassoGuide(ScaleGuide):
    r"""LogNormal ``penalty`` (one per network); ``variance`` (one per node) and weights follow what scales them.

    .. math:: q(\tau_j^2 \mid \varsigma^2) = \mathrm{LogNormal}\{m_j + \log (m + 1)/\varsigma^2,\ v_j^2\},\qquad
              E_q[u_j \mid \tau_j] = \mu_j / \tau_j

    The prior holds :math:`\tau_j^2` within :math:`\sqrt{2/(m+1)}` of its mean :math:`(m + 1)/\varsigma^2`, so that
    independent factors could neither move nor vary except together. The KL of :math:`\tau_j^2` does not depend on
    :math:`\varsigma^2`, and the data, which know :math:`\mu_j`, do not feel :math:`\tau_j`.
    """

    centred = True

    def initial_shared(self, groups: Sequence[NodeGroup]) -> dict[str, Tensor]:
        r"""Start where the largest group's prior mean variance is 1: :math:`\varsigma^2 = m + 1`.

        The penalty's own prior would start :math:`\tau^2` near m, with a KL of thousands of nats a node.
        """
        largest = max(group.prior_size for group in groups)
        return {"penalty": torch.tensor(float(largest + 1)).log()}

    def initial_local(self, group: NodeGroup, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        r"""Start at the conditional prior mean :math:`(m + 1)/\varsigma^2`, its origin."""
        return {"variance": torch.zeros(group.size)}

    def origins(self, group: NodeGroup, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        r"""Count from the conditional prior mean :math:`(m + 1)/\varsigma^2`."""
        return {"variance": math.log(group.prior_size + 1) - shared["penalty"].log()}

    def local_moments(self, group: NodeGroup, own: LogMoments, shared: LogMoments) -> LogMoments:
        """Add those of the penalty's reciprocal: both are LogNormal, and so is their product."""
        loc, variance = own["variance"]
        penalty_loc, penalty_variance = shared["penalty"]
        origin = math.log(group.prior_size + 1) - penalty_loc
        return {"variance": (loc + origin, variance + penalty_variance)}

    def mean_slab_scale(
        self, local: LogMoments, shared: LogMoments, power: float | Tensor = 1.0
    ) -> Tensor | None:
        r"""E[\tau^k] = exp(k m/2 + k^2 v^2/8) for the power k."""
        loc, variance = local["variance"]
        return (power * loc / 2 + power**2 * variance / 8).exp()

    def independent(self) -> ScaleGuide:
        """The published mean-field guide."""
        return IndependentGroupLassoGuide(self.prior)


class IndependentGroupLassoGuide(GroupLassoGuide):
    r"""The mean-field guide of the published method: no factor follows another.

    .. math:: q(\varsigma^2) \prod_j \mathrm{LogNormal}(\tau_j^2;\, m_j, v_j^2)\, N(u_j;\, \mu_j, \sigma_j^2)

    The KL of :math:`\tau_j^2` is its mean over :math:`q(\varsigma^2)`, in closed form.
    """

    centred = False

    def initial_local(self, group: NodeGroup, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        r"""Start at the prior mean :math:`(m + 1)/\varsigma^2`."""
        start = math.log(group.prior_size + 1) - shared["penalty"]
        return {"variance": start.expand(group.size)}

    def origins(self, group: NodeGroup, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Count from 0."""
        return {}

    def local_moments(self, group: NodeGroup, own: LogMoments, shared: LogMoments) -> LogMoments:
        """The group's own."""
        return own

    def rates(self, shared: ScaleSites) -> dict[str, tuple[Tensor, Tensor]]:
        r"""Of :math:`\varsigma^2/2`, the rate of :math:`\tau_j^2`."""
        site: Any = shared.get_submodule("penalty")
        loc, scale = site.loc, site.log_scale.exp()
        mean = (loc + 0.5 * scale.square()).exp() / 2
        return {"variance": (loc - math.log(2), mean)}

    def independent(self) -> ScaleGuide:
        """Itself."""
        return self
