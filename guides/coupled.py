r"""A richer guide for small groups: dependent gates, and slabs that respond to them.

.. math:: q = \prod_s q(\mathrm{shared}_s)\, q(z_{\mathrm{in}}) \prod_l q(z_l) \prod_j q(\mathrm{scales}_{lj})\,
              q(u_{lj} \mid z_{lj}, z_{l-1})\; q(\mathrm{noise})

Every factor :math:`q(z_l)` is a joint law of a layer's gates, and weights know which of their sources are open; the laws
are those of :mod:`pyro_ssbnn.distributions.coupled`. :class:`StructuredGuide` is the special case in which all
couplings are zero, which is where this guide starts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pyro
import torch
from torch import Tensor, nn
from torch.nn import Parameter

from pyro_ssbnn.cutting import Axis, take
from pyro_ssbnn.description import GateGroup, NodeGroup
from pyro_ssbnn.distributions.coupled import CoupledGate, CoupledNormal, SourceGates, gate_table
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides.sites import GateSite, WeightSite
from pyro_ssbnn.guides.structured import (
    CLOSED_LOGIT,
    OPEN_LOGIT,
    GroupGuide,
    StructuredGuide,
    _module_name,
    _with_bias,
)
from pyro_ssbnn.network import Network
from pyro_ssbnn.randomness import seeded

__all__ = ["MAX_COUPLED", "CoupledGuide"]

MAX_COUPLED = 10
"""Most gates of one group that are coupled: their law is normalised over a table of 1,024 rows at every step."""


class CoupledGateSite(GateSite):
    """Dependent gates of a group; ``coupling`` holds their interactions below its diagonal.

    :param size: number of gates.
    :param inclusion: inclusion probability of each at the start, where they are independent.
    """

    def __init__(self, size: int, inclusion: float) -> None:
        super().__init__(size, inclusion)
        self.coupling = nn.Parameter(torch.zeros(size, size))

    @property
    def law(self) -> CoupledGate:
        """The joint law of the gates."""
        below = self.coupling.tril(-1)
        return CoupledGate(self.logits, below + below.mT)

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
    """Guide of weights that respond to the gates of their p sources.

    :param like: the weights of a :class:`StructuredGuide`, whose initial values it takes.
    :param sources: p.
    """

    def __init__(self, like: WeightSite, sources: int) -> None:
        super().__init__(like.loc.detach(), 1.0)
        self.log_scale = nn.Parameter(like.log_scale.detach().clone())
        size, m = like.loc.shape
        self.regression = nn.Parameter(torch.zeros(size, m, m))
        self.mean_response = nn.Parameter(torch.zeros(size, m, sources))
        self.scale_response = nn.Parameter(torch.zeros(size, m, sources))

    def law(
        self, source: SourceGates, open: Tensor, inclusion: Tensor, prior_scale: float
    ) -> CoupledNormal:
        """Law of the weights given the gates; parameters as of :class:`CoupledNormal`."""
        parameters = (self.loc, self.log_scale, self.regression)
        responses = (self.mean_response, self.scale_response)
        closed = self.loc.new_full((), prior_scale)
        return CoupledNormal(*parameters, *responses, source, open, inclusion, closed)

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
        self.log_scale += (self.scale_response.triu(1) @ gone).squeeze(-1)
        for response in (self.mean_response, self.scale_response):
            response.mul_(gates)
        self.regression.mul_(keep).mul_(keep.unsqueeze(-1))
        system = torch.eye(m).to(keep) - self.regression.tril(-1)
        self.loc.copy_(torch.linalg.solve(system, offset.unsqueeze(-1)).squeeze(-1))


class CoupledGroupGuide(GroupGuide):
    """Sites of one node group whose weights may respond to the gates of their sources."""

    def __init__(
        self, plain: GroupGuide, *, gates: bool, sources: int | None, inclusion: float
    ) -> None:
        super(GroupGuide, self).__init__()
        self.group: NodeGroup = plain.group
        if self.group.gated:
            coupled = CoupledGateSite(self.group.size, inclusion) if gates else plain.gate
            self.gate: GateSite = coupled
        self.scales = plain.scales
        self.weight: WeightSite = (
            plain.weight if sources is None else CoupledWeightSite(plain.weight, sources)
        )

    def sample(
        self, temperature: Tensor, source: SourceGates | None, columns: tuple[Tensor, Tensor] | None
    ) -> Tensor | None:
        """Sample the group's sites in its plate; returns its gates, ``[..., size]``, None without any.

        :param source: gates that the weights respond to.
        :param columns: draw and probability of the gates of single columns, where the weights do not respond.
        """
        group, gate = self.group, None
        with pyro.plate(group.name, group.size, dim=-1):
            if group.gated:
                gate = self.gate(group.gate_site, temperature, True)
                open, inclusion = gate.unsqueeze(-1), _marginal(self.gate).unsqueeze(-1)
            else:
                open = inclusion = temperature.new_ones(1, 1)
            self.scales(group.name)
            if isinstance(self.weight, CoupledWeightSite):
                law = self.weight.law(source, open, inclusion, group.prior.scale)  # type: ignore[arg-type]
                pyro.sample(group.weight_site, law)
            else:
                if columns is not None:
                    open, inclusion = open * columns[0], inclusion * columns[1]
                self.weight(group.weight_site, open, inclusion, group.prior.scale)
        return gate


class CoupledGuide(StructuredGuide):
    r"""Guide with dependent gates, and with slabs that respond to them, where groups are small.

    Where predictors are correlated, the posterior has them in *instead of* each other, and the weight of the one that is
    in takes over what the other explained. A mean-field guide can say neither. This one can, for groups of at most
    :data:`MAX_COUPLED` gates; larger groups keep independent gates. A dense layer's weights respond to a coupled group
    that feeds it. Inclusion probabilities stay exact.

    :param model: the network.
    :param coupled: names of the groups whose gates are coupled; by default all that are small enough.
    :param options: ``temperature`` (of gates that are not coupled), ``initial_inclusion`` and ``initial_scale`` of
        :class:`StructuredGuide`. Gates are hard.
    :raises ConfigurationError: for an unknown, ungated or too large group, or when no group can be coupled.

    >>> fitted = ss.fit(net, x, y, guide=CoupledGuide(net))  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Network,
        *,
        coupled: Sequence[str] | None = None,
        temperature: float = 0.5,
        initial_inclusion: float = 0.95,
        initial_scale: float = 0.1,
    ) -> None:
        super().__init__(
            model,
            temperature=temperature,
            initial_inclusion=initial_inclusion,
            initial_scale=initial_scale,
        )
        self.coupled = _coupled_groups(self.description.gate_groups, coupled)
        if self.description.inputs.name in self.coupled:
            self.input = CoupledGateSite(self.description.inputs.size, initial_inclusion)
        for group in self.description.groups:
            responds = group.source in self.coupled and group.geometry is None
            responds = responds and group.columns_per_source == 1
            plain = getattr(self, group.name)
            if responds or group.name in self.coupled:
                sources = self.description[group.source].size if responds else None
                part = CoupledGroupGuide(
                    plain,
                    gates=group.name in self.coupled,
                    sources=sources,
                    inclusion=initial_inclusion,
                )
                setattr(self, group.name, part)

    def forward(self, *args: object, **kwargs: object) -> None:
        """Sample every latent; the arguments are the model's, and are not used."""
        for scope in self.description.scopes:
            getattr(self, _module_name(scope))(scope)
        inputs, columns = self.description.inputs, None
        gates: dict[str, SourceGates] = {}
        if inputs.gated:
            with pyro.plate(inputs.name, inputs.size, dim=-1):
                gate = self.input(inputs.gate_site, self.temperature, True)
            columns = (_with_bias(gate), _with_bias(_marginal(self.input)))
            if inputs.name in self.coupled:
                gates[inputs.name] = _source_gates(self.input, gate, closes=True)
        for group in self.description.groups:
            part = getattr(self, group.name)
            own_columns = columns if group.column_gate else None
            if not isinstance(part, CoupledGroupGuide):
                part(self.temperature, True, own_columns)
                continue
            gate = part.sample(self.temperature, gates.get(group.source), own_columns)
            if group.name in self.coupled:
                gates[group.name] = _source_gates(part.gate, gate, closes=False)
        if self.noise is not None:
            self.noise()

    def inclusion_logits(self, name: str) -> Tensor:
        """Log-odds of inclusion of a gated group, ``[size]``; exact marginals of coupled gates.

        :raises ConfigurationError: for an unknown group, or one without gates.
        """
        if name not in self.coupled:
            return super().inclusion_logits(name)
        return self._gate_site(name).marginal_logits()

    def gate_law(self, name: str) -> CoupledGate:
        """Joint law of a coupled group's gates.

        :raises ConfigurationError: for a group that is not coupled.
        """
        if name not in self.coupled:
            raise ConfigurationError(
                f"the gates of {name!r} are not coupled; those of {list(self.coupled)} are."
            )
        return self._gate_site(name).law

    def mean_standardized(self, name: str, open: Mapping[str, Tensor] | None = None) -> Tensor:
        """E_q[u | z]: posterior mean standardised weights of the open nodes, ``[size, group_size]``.

        :param open: masks of the open gates, ``{group: [size]}``; all are by default.
        """
        group = self.description.layer(name)
        site = getattr(self, name).weight
        if open is None or group.source not in open or not isinstance(site, CoupledWeightSite):
            return super().mean_standardized(name)
        with torch.no_grad():
            mask = open[group.source].to(site.loc).unsqueeze(0)
            one = site.loc.new_ones(1, 1)
            source = SourceGates(mask, mask, one[0], closes=True)
            return site.law(source, one, one, group.prior.scale).conditional_mean(mask)

    def parameter_axes(self) -> dict[str, tuple[Axis, ...]]:
        """Axes of every parameter and buffer, by its name in the ``state_dict``; none for network-wide latents."""
        axes = super().parameter_axes()
        inputs = self.description.inputs
        for group in (inputs, *self.description.groups):
            if group.name in self.coupled:
                prefix = "input" if group is inputs else f"{group.name}.gate"
                axes[f"{prefix}.coupling"] = (Axis(group.name, group.size),) * 2
        for group in self.description.groups:
            if isinstance(getattr(self, group.name).weight, CoupledWeightSite):
                prefix = f"{group.name}.weight"
                axes[f"{prefix}.regression"] = (group.rows, group.columns, group.columns)
                for key in ("mean_response", "scale_response"):
                    axes[f"{prefix}.{key}"] = (group.rows, group.columns, group.incoming)
        return axes

    def narrowed(self, model: Network, kept: Mapping[str, Tensor]) -> CoupledGuide:
        """Guide of a narrowed network with this guide's parameters; removed members were closed before."""
        like = next(self.parameters())
        with seeded(0, like.device):  # the initial values are overwritten
            guide = CoupledGuide(model, coupled=self.coupled)
        guide.to(device=like.device, dtype=like.dtype)
        axes, kept = self.parameter_axes(), self.description.with_sums(kept)
        guide.load_state_dict({k: take(v, axes[k], kept) for k, v in self.state_dict().items()})
        return guide

    @torch.no_grad()
    def close(self, closed: Mapping[str, Tensor]) -> None:
        """Close members for good; what the others' laws owe to them becomes constant."""
        for name in closed.keys() & set(self.coupled):
            coupling = self._gate_site(name).coupling
            coupling.index_fill_(0, closed[name], 0.0).index_fill_(1, closed[name], 0.0)
        for group in self.description.groups:
            site = getattr(self, group.name).weight
            if isinstance(site, CoupledWeightSite) and group.source in closed:
                site.close_sources(closed[group.source])
        super().close(closed)

    @torch.no_grad()
    def fix_gates(self, open: Mapping[str, Tensor]) -> None:
        """Set inclusion probabilities to 1 and 0; see :meth:`StructuredGuide.fix_gates`."""
        super().fix_gates({k: v for k, v in open.items() if k not in self.coupled})
        for name in open.keys() & set(self.coupled):
            site, mask = self._gate_site(name), open[name]
            site.coupling.zero_()
            site.logits.copy_(torch.where(mask.to(site.logits.device), OPEN_LOGIT, CLOSED_LOGIT))

    def parameter_groups(self) -> dict[str, list[Parameter]]:
        """Parameters by what they are; couplings of gates are gates', regressions and responses go with the means."""
        kinds = super().parameter_groups()
        for name in self.coupled:
            kinds["gates"].append(self._gate_site(name).coupling)
        for group in self.description.groups:
            site = getattr(self, group.name).weight
            if isinstance(site, CoupledWeightSite):
                kinds[f"means.{group.name}"] += [site.regression, site.mean_response]
                kinds["log_scales"].append(site.scale_response)
        return kinds

    def _gate_site(self, name: str) -> CoupledGateSite:
        inputs = name == self.description.inputs.name
        site: CoupledGateSite = self.input if inputs else getattr(self, name).gate
        return site


def _coupled_groups(groups: Sequence[GateGroup], names: Sequence[str] | None) -> tuple[str, ...]:
    sizes = {group.name: group.size for group in groups}
    if names is None:
        chosen = tuple(name for name, size in sizes.items() if size <= MAX_COUPLED)
        if not chosen:
            raise ConfigurationError(
                f"CoupledGuide: no group has between 1 and {MAX_COUPLED} gates; got {sizes}. Use StructuredGuide, or a"
                " smaller network."
            )
        return chosen
    unknown = [name for name in names if name not in sizes]
    if isinstance(names, str) or unknown or not names:
        raise ConfigurationError(
            f"CoupledGuide: coupled must be names of gated groups, of which there are {list(sizes)}; got {names!r}."
        )
    large = {name: sizes[name] for name in names if sizes[name] > MAX_COUPLED}
    if large:
        raise ConfigurationError(
            f"CoupledGuide: at most {MAX_COUPLED} gates of a group can be coupled; got {large}. Leave these groups out"
            " of coupled: their gates are then independent."
        )
    return tuple(name for name in sizes if name in names)


def _marginal(site: GateSite) -> Tensor:
    """Inclusion probabilities of a site's gates, ``[size]``, with their gradient."""
    return site.law.mean if isinstance(site, CoupledGateSite) else site.logits.sigmoid()


def _source_gates(site: CoupledGateSite, draw: Tensor, *, closes: bool) -> SourceGates:
    table = gate_table(len(site.logits), site.logits)
    return SourceGates(draw.unsqueeze(-2), table, site.law.table_log_prob().exp(), closes)
