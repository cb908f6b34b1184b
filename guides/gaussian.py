"""Guide of the Gaussian slab, which has no scale latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from pyro_ssbnn.guides.scales import LogMoments, ScaleGuide, scale_guide
from pyro_ssbnn.priors import Gaussian
from pyro_ssbnn.structure.groups import NodeGroup

__all__ = ["GaussianGuide"]


@scale_guide.register(Gaussian)
class GaussianGuide(ScaleGuide):
    """No scale sites; t = 1."""

    def initial_shared(self, groups: Sequence[NodeGroup]) -> dict[str, Tensor]:
        """Return no latents."""
        return {}

    def initial_local(self, group: NodeGroup, shared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return no latents."""
        return {}

    def mean_slab_scale(
        self, local: LogMoments, shared: LogMoments, power: float | Tensor = 1.0
    ) -> Tensor | None:
        """None: t = 1."""
        return None
