r"""Guide of one node group: its gates, its scale latents, its standardised weights.

.. math:: \prod_j q(z_j)\, q(\mathrm{scales}_j \mid \mathrm{shared})\,
                  q(u_j \mid z_j, z_{\mathrm{in}}, \mathrm{scales}_j)

What depends on what is the prior's :class:`~pyro_ssbnn.guides.scales.ScaleGuide` to say: where the scales' log-medians
count from, and whether the mean of u follows the slab scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pyro
from pyro.nn import PyroModule
from torch import Tensor

from pyro_ssbnn.guides.initial import standardized
from pyro_ssbnn.guides.scales import ScaleGuide, ScaleSites
from pyro_ssbnn.guides.sites import GateSite, WeightSite
from pyro_ssbnn.layers import row_plate
from pyro_ssbnn.structure.groups import NodeGroup

__all__ = ["GroupGuide"]


class GroupGuide(PyroModule):
    """Sites of one node group: gate, scales, weights.

    :param hierarchy: guide of the prior's scale latents.
    """

    def __init__(
        self,
        group: NodeGroup,
        hierarchy: ScaleGuide,
        scales: dict[str, Tensor],
        loc: Tensor,
        scale: float,
        gate: float,
    ) -> None:
        super().__init__()
        self.group, self.hierarchy = group, hierarchy
        if group.gated:
            self.gate = GateSite(group.size, gate)
        self.scales = ScaleSites(scales)
        self.weight = WeightSite(loc, scale)

    def forward(
        self,
        temperature: Tensor,
        hard: bool,
        columns: tuple[Tensor, Tensor] | None,
        shared: Mapping[str, Tensor],
        rates: Mapping[str, tuple[Tensor, Tensor]] = MappingProxyType({}),
    ) -> None:
        """Sample the group's sites in its plate.

        :param shared: draws of the network-wide latents.
        :param columns: draw and probability of the gates of the single columns, ``[..., 1, group_size]``.
        :param rates: of :meth:`~pyro_ssbnn.guides.scales.ScaleGuide.rates`.
        """
        group = self.group
        nodes = pyro.plate(group.path, group.size, dim=-1)
        with nodes:
            if group.gated:
                gate = self.gate(group.gate_site, temperature, hard)
                open, inclusion = self.of_rows(gate), self.of_rows(self.gate.logits.sigmoid())
            else:
                open = inclusion = temperature.new_ones(1, 1)
            origins = self.hierarchy.origins(group, shared)
            local = self.scales(group.path, origins, rates)
        with row_plate(group, nodes):
            if columns is not None:
                open, inclusion = open * columns[0], inclusion * columns[1]
            loc = self.standardized_loc(local, shared)
            self.weight(group.weight_site, loc, open, inclusion, group.prior.scale)

    def of_rows(self, values: Tensor) -> Tensor:
        """Values of the nodes, ``[..., size]``, for every row of their weights, ``[..., rows, 1]``."""
        return self.group.spread(values).unsqueeze(-1)

    def standardized_loc(self, local: Mapping[str, Tensor], shared: Mapping[str, Tensor]) -> Tensor:
        """Means of u given draws of the scale latents, ``[..., size, group_size]``."""
        loc: Tensor = self.weight.loc
        if not self.hierarchy.centred:
            return loc
        return standardized(self.group, loc, self.group.prior.slab_scale(local, shared))
