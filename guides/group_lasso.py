r"""Guide of the group lasso slab: LogNormal :math:`\tau_j^2` and :math:`\varsigma^2`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pyro_ssbnn.description import NodeGroup
from pyro_ssbnn.guides.scales import LogMoments, ScaleGuide, scale_guide
from pyro_ssbnn.priors import GroupLasso

__all__ = ["GroupLassoGuide"]


@scale_guide.register(GroupLasso)
class GroupLassoGuide(ScaleGuide):
    r"""LogNormal factors for ``penalty`` (one per network) and ``variance`` (one per node)."""

    def initial_shared(self, groups: Sequence[NodeGroup]) -> dict[str, Tensor]:
        r"""Start where the largest group's prior mean variance is 1: :math:`\varsigma^2 = m + 1`.

        The penalty's own prior would start :math:`\tau^2` near m, with a KL of thousands of nats a node.
        """
        largest = max(group.group_size for group in groups)
        return {"penalty": torch.tensor(float(largest + 1)).log()}

    def initial_local(self, group: NodeGroup, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        r"""Start at the conditional prior mean :math:`(m + 1)/\varsigma^2`."""
        mean = torch.tensor(float(group.group_size + 1)).log() - shared["penalty"]
        return {"variance": mean.expand(group.size).clone()}

    def mean_slab_scale(
        self, local: LogMoments, shared: LogMoments, power: float | Tensor = 1.0
    ) -> Tensor | None:
        r"""E[\tau^k] = exp(k m/2 + k^2 v^2/8) for the power k."""
        loc, variance = local["variance"]
        return (power * loc / 2 + power**2 * variance / 8).exp()
