"""The sites that a coupled guide is made of: dependent gates, and weights that respond to their sources' gates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pyro
import torch
from torch import Tensor, nn

from pyro_ssbnn.distributions.coupled import CoupledGate, CoupledNormal, SourceGates, gate_table
from pyro_ssbnn.guides.group import GroupGuide
from pyro_ssbnn.guides.moments import CLOSED_LOGIT
from pyro_ssbnn.guides.sites import GateSite, WeightSite
from pyro_ssbnn.layers import row_plate
from pyro_ssbnn.structure.axes import Axis
from pyro_ssbnn.structure.groups import NodeGroup

__all__ = [
    "CoupledGateSite",
    "CoupledGroupGuide",
    "CoupledWeightSite",
    "TableAxis",
    "marginal_inclusion",
    "source_gates",
]


@dataclass(frozen=True)
class TableAxis(Axis):
    """Axis over the table of a group's gates, ``[2^size]``; rows stay in which all members that leave are closed."""

    def indices(self, kept: Mapping[str, Tensor], device: torch.device | None = None) -> Tensor:
        """Indices of the rows that stay, in the order of the table of the members that stay."""
        members = kept.get(self.group)
        members = torch.arange(self.size) if members is None else members.cpu()
        rows = gate_table(len(members), members) @ 2**members
        return rows if device is None else rows.to(device)


class CoupledGateSite(GateSite):
    """Dependent gates of a group; ``coupling`` holds what each row of their table departs from independence.

    :param size: number of gates.
    :param inclusion: inclusion probability of each at the start, where they are independent.
    """

    def __init__(self, size: int, inclusion: float) -> None:
        super().__init__(size, inclusion)
        self.coupling = nn.Parameter(torch.zeros(2**size))

    @property
    def law(self) -> CoupledGate:
        """The joint law of the gates."""
        return CoupledGate(self.logits, self.coupling)

    def forward(self, name: str, temperature: Tensor, hard: bool) -> Tensor:
        """Sample the site, ``[..., size]``; always hard."""
        return pyro.sample(name, self.law)

    @torch.no_grad()
    def marginal_logits(self) -> Tensor:
        """Log-odds of each gate's inclusion, ``[size]``, from the table of all gates."""
        law = self.law
        log_mass, table = law.table_log_prob().unsqueeze(-1), law.table.bool()
        never = log_mass.new_full((), -math.inf)
        odds = [torch.where(rows, log_mass, never).logsumexp(0) for rows in (table, ~table)]
        # A gate closed for good keeps the value that stands for it, rounding apart.
        return torch.where(self.logits == CLOSED_LOGIT, self.logits, odds[0] - odds[1])


class CoupledWeightSite(WeightSite):
    r"""Guide of weights that respond to the gates of their p sources.

    :param like: the weights of a :class:`StructuredGuide`, whose initial values it takes.
    :param sources: p.
    :param scaled: whether the prior has a slab scale t: the law is then that of :math:`t^\kappa u`, from that of the
        standardised weights (``centring`` :math:`\kappa = 0`, where it starts) to that of the effective ones (1).
    """

    def __init__(self, like: WeightSite, sources: int, scaled: bool) -> None:
        size, m = like.loc.shape
        super().__init__(like.loc.detach(), 1.0)
        self.log_scale = nn.Parameter(like.log_scale.detach().clone())
        self.centring = nn.Parameter(torch.zeros(size)) if scaled else None
        self.regression = nn.Parameter(torch.zeros(size, m, m))
        self.mean_response = nn.Parameter(torch.zeros(size, m, sources))
        self.scale_response = nn.Parameter(torch.zeros(size, m, sources))

    def law(
        self,
        source: SourceGates,
        open: Tensor,
        inclusion: Tensor,
        prior_scale: float,
        slab_scale: Tensor | None = None,
    ) -> CoupledNormal:
        """Law of the weights given the gates; parameters as of :class:`CoupledNormal`."""
        parameters = (self.loc, self.log_scale, self.regression)
        responses = (self.mean_response, self.scale_response)
        closed, unit = self.loc.new_full((), prior_scale), None
        if slab_scale is not None and self.centring is not None:
            unit = slab_scale.pow(self.centring)
        return CoupledNormal(*parameters, *responses, source, open, inclusion, closed, unit)

    @torch.no_grad()
    def close_sources(self, closed: Tensor) -> None:
        """Take for granted that these sources are closed: their effect on the other weights becomes constant."""
        m = self.loc.shape[-1]
        keep = torch.ones(m, dtype=self.loc.dtype, device=self.loc.device)
        keep[closed] = 0.0
        gates = keep[: self.mean_response.shape[-1]]
        regression, gone = self.regression.tril(-1), (1 - gates).unsqueeze(-1)
        offset = self.loc - (regression @ self.loc.unsqueeze(-1)).squeeze(-1)
        offset = offset + (self.mean_response.triu(1) @ gone).squeeze(-1)
        self.log_scale.add_((self.scale_response.triu(1) @ gone).squeeze(-1))
        for response in (self.mean_response, self.scale_response):
            response.mul_(gates)
        self.regression.mul_(keep).mul_(keep.unsqueeze(-1))
        system = torch.eye(m).to(keep) - self.regression.tril(-1)
        self.loc.copy_(torch.linalg.solve(system, offset.unsqueeze(-1)).squeeze(-1))


class CoupledGroupGuide(GroupGuide):
    """Sites of one node group whose weights may respond to the gates of their sources.

    :param plain: the group's part of a :class:`StructuredGuide`.
    :param gates: whether its own gates are coupled.
    :param sources: number of sources that its weights respond to; None where they do not.
    :param inclusion: of coupled gates at the start.
    :param scaled: whether its prior has a slab scale.
    """

    def __init__(
        self,
        plain: GroupGuide,
        *,
        gates: bool,
        sources: int | None,
        inclusion: float,
        scaled: bool,
    ) -> None:
        super(GroupGuide, self).__init__()
        self.group: NodeGroup = plain.group
        self.hierarchy = plain.hierarchy
        if self.group.gated:
            coupled = CoupledGateSite(self.group.size, inclusion) if gates else plain.gate
            self.gate: GateSite = coupled
        self.scales = plain.scales
        self.weight: WeightSite = (
            plain.weight if sources is None else CoupledWeightSite(plain.weight, sources, scaled)
        )

    def sample(
        self,
        temperature: Tensor,
        shared: Mapping[str, Tensor],
        source: SourceGates | None,
        columns: tuple[Tensor, Tensor] | None,
    ) -> Tensor | None:
        """Sample the group's sites in its plate; returns its gates, ``[..., size]``, None without any.

        :param shared: values of the prior's network-wide latents.
        :param source: gates that the weights respond to.
        :param columns: draw and probability of the gates of single columns, where the weights do not respond.
        """
        group, gate = self.group, None
        nodes = pyro.plate(group.path, group.size, dim=-1)
        with nodes:
            if group.gated:
                gate = self.gate(group.gate_site, temperature, True)
                open, inclusion = self.of_rows(gate), self.of_rows(marginal_inclusion(self.gate))
            else:
                open = inclusion = temperature.new_ones(1, 1)
            local = self.scales(group.path, self.hierarchy.origins(group, shared))
        with row_plate(group, nodes):
            if source is not None and isinstance(self.weight, CoupledWeightSite):
                scale = group.prior.slab_scale(local, shared)
                law = self.weight.law(source, open, inclusion, group.prior.scale, scale)
                pyro.sample(group.weight_site, law)
            else:
                if columns is not None:
                    open, inclusion = open * columns[0], inclusion * columns[1]
                loc = self.standardized_loc(local, shared)
                self.weight(group.weight_site, loc, open, inclusion, group.prior.scale)
        return gate


def marginal_inclusion(site: GateSite) -> Tensor:
    """Inclusion probabilities of a site's gates, ``[size]``, with their gradient."""
    return site.law.mean if isinstance(site, CoupledGateSite) else site.logits.sigmoid()


def source_gates(site: CoupledGateSite, draw: Tensor, *, closes: bool) -> SourceGates:
    """Gates of a coupled group as the layer they feed sees them; see :class:`SourceGates`."""
    table = gate_table(len(site.logits), site.logits)
    return SourceGates(draw.unsqueeze(-2), table, site.law.table_log_prob().exp(), closes)
