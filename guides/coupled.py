r"""A richer guide for small groups: dependent gates, and slabs that respond to them.

.. math:: q = \prod_s q(\mathrm{shared}_s)\, q(z_{\mathrm{in}}) \prod_l q(z_l) \prod_j q(\mathrm{scales}_{lj})\,
              q(u_{lj} \mid z_{lj}, z_{l-1})\; q(\mathrm{noise})

Every factor :math:`q(z_l)` is a joint law of a layer's gates, and weights know which of their sources are open; the
laws are those of :mod:`pyro_ssbnn.distributions.coupled`. :class:`StructuredGuide` is the special case in which all
couplings are zero, which is where this guide starts (under the group lasso, whose plain guide centres the weights'
means, up to that).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.nn import Parameter

from pyro_ssbnn.distributions.coupled import CoupledGate, SourceGates
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides.coupled_sites import (
    CoupledGateSite,
    CoupledGroupGuide,
    CoupledWeightSite,
    TableAxis,
    marginal_inclusion,
    source_gates,
)
from pyro_ssbnn.guides.initial import standardized
from pyro_ssbnn.guides.moments import CLOSED_LOGIT, OPEN_LOGIT
from pyro_ssbnn.guides.scales import scale_guide
from pyro_ssbnn.guides.structured import StructuredGuide, _with_bias
from pyro_ssbnn.registry import register
from pyro_ssbnn.structure.axes import Axis
from pyro_ssbnn.structure.gates import GateGroup
from pyro_ssbnn.structure.groups import NodeGroup
from pyro_ssbnn.structure.linear import LinearGroup
from pyro_ssbnn.structure.network import Network

__all__ = ["MAX_COUPLED", "CoupledGuide"]

MAX_COUPLED = 10
"""Most gates of one group that are coupled: their law is normalised over a table of 1,024 rows at every step."""


@register("coupled")
class CoupledGuide(StructuredGuide):
    r"""Guide with dependent gates, and with slabs that respond to them, where groups are small.

    Where predictors are correlated, the posterior has them in *instead of* each other, and the weight of the one that
    is in takes over what the other explained. A mean-field guide can say neither. This one can, for groups of at most
    :data:`MAX_COUPLED` gates; larger groups keep independent gates. A dense layer's weights respond to a coupled group
    that feeds it. Inclusion probabilities stay exact.

    The data know the effective weights t u, the prior ties the standardised ones u to their scale t: such a layer's
    laws are those of :math:`t^\kappa u` given t, with a :math:`\kappa` learned for each node (partial centring:
    Papaspiliopoulos, Roberts and Sköld 2007, "A general framework for the parametrization of hierarchical models",
    Statistical Science 22, 59-73).

    Under :class:`~pyro_ssbnn.AnalyticELBO` the gates learn from differences between particles, without bias: give it
    several (16 serve small networks). Other ELBOs estimate the same bound with a gradient that is biased where weights
    respond to gates. Gates start at 1/2, so that every set of sources is visited before any is given up. The start
    decides much, and no one schedule served all: linear networks did best without a KL warm-up and with gates held at
    first, one with hidden nodes only with a warm-up. Try several and keep the larger bound (``docs/trust.md``).

    :param model: the network.
    :param coupled: names of the groups whose gates are coupled; by default all that are small enough.
    :param options: ``temperature`` (of gates that are not coupled), ``initial_inclusion``, ``initial_scale`` and
        ``likelihood`` of :class:`StructuredGuide`. Gates are hard.
    :raises ConfigurationError: for an unknown, ungated or too large group, or when no group can be coupled.

    >>> from pyro_ssbnn import MLP, SSIG, GaussianLikelihood, TrainingOptions, fit
    >>> net = MLP(
    ...     3, [12], prior=SSIG(inclusion=0.3), likelihood=GaussianLikelihood(), input_inclusion=0.3
    ... )
    >>> x = torch.randn(40, 3)
    >>> options = TrainingOptions(epochs=2, num_particles=16)  # two epochs show the call, no more
    >>> fitted = fit(net, x, x[:, 0], options, guide=CoupledGuide(net, coupled=["input"]), progress=False)
    >>> fitted.guide.inclusion()["input"].shape
    torch.Size([3])
    """

    coupled: tuple[str, ...] = ()
    """Groups whose gates are coupled, in forward order."""

    def __init__(
        self,
        model: Network,
        *,
        coupled: Sequence[str] | None = None,
        temperature: float = 0.5,
        initial_inclusion: float = 0.5,
        initial_scale: float = 0.1,
        likelihood: bool = True,
    ) -> None:
        super().__init__(
            model,
            temperature=temperature,
            initial_inclusion=initial_inclusion,
            initial_scale=initial_scale,
            likelihood=likelihood,
        )
        self.coupled = _coupled_groups(self.description.gate_groups, coupled)
        if self.description.inputs.name in self.coupled:
            self.input = CoupledGateSite(self.description.inputs.size, initial_inclusion)
        for group in self.description.groups:
            responds = group.source in self.coupled and group.geometry is None
            responds = responds and group.columns_per_source == 1
            responds = responds and not isinstance(group, LinearGroup)  # it has gates of its own
            plain = getattr(self, group.name)
            if responds or group.name in self.coupled:
                sources = self.description[group.source].size if responds else None
                part = CoupledGroupGuide(
                    plain,
                    gates=group.name in self.coupled,
                    sources=sources,
                    inclusion=initial_inclusion,
                    scaled=self.mean_slab_scale(group.name) is not None,
                )
                setattr(self, group.name, part)
                if responds and scale_guide(group.prior).centred:
                    part.weight.loc.data = self._in_units_of_u(group, part.weight.loc.detach())

    def forward(self, *args: object, **kwargs: object) -> None:
        """Sample every latent; the arguments are the model's, and are not used."""
        shared = self._sample_shared()
        inputs, columns = self.description.inputs, None
        gates: dict[str, SourceGates] = {}
        if inputs.gated:
            with pyro.plate(inputs.path, inputs.size, dim=-1):
                gate = self.input(inputs.gate_site, self.temperature, True)
            inclusion = marginal_inclusion(self.input)
            columns = (_with_bias(inputs.spread(gate)), _with_bias(inputs.spread(inclusion)))
            if inputs.name in self.coupled:
                gates[inputs.name] = source_gates(self._gate_site(inputs.name), gate, closes=True)
        for group in self.description.groups:
            part = getattr(self, group.name)
            own_columns = columns if group.column_gate else None
            if not isinstance(part, CoupledGroupGuide):
                part(self.temperature, True, own_columns, shared[group.scope])
                continue
            gate = part.sample(
                self.temperature, shared[group.scope], gates.get(group.source), own_columns
            )
            if gate is not None and group.name in self.coupled:
                gates[group.name] = source_gates(self._gate_site(group.name), gate, closes=False)
        if self.noise is not None:
            self.noise(self.description.prefix)

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
        """E_q[t u | z] / E_q[t], posterior mean standardised weights of the open nodes, ``[size, group_size]``.

        This is E_q[u | z] where slab scale and standardised weights are independent.

        :param open: masks of the open gates, ``{group: [size]}``; all are by default.
        """
        group = self.description.layer(name)
        site = getattr(self, name).weight
        if not isinstance(site, CoupledWeightSite):
            return super().mean_standardized(name)
        mean: Tensor = site.loc.detach()
        with torch.no_grad():
            if open and group.source in open:
                mask = open[group.source].to(site.loc).unsqueeze(0)
                one = site.loc.new_ones(1, 1)
                source = SourceGates(mask, mask, one[0], closes=True)
                mean = site.law(source, one, one, group.prior.scale).conditional_mean(mask)
            return mean * self._centring_factor(name)

    def parameter_axes(self) -> dict[str, tuple[Axis, ...]]:
        """Axes of every parameter and buffer, by its name in the ``state_dict``; none for network-wide latents."""
        axes = super().parameter_axes()
        inputs = self.description.inputs
        for group in (inputs, *self.description.groups):
            if group.name in self.coupled:
                prefix = "input" if group is inputs else f"{group.name}.gate"
                axes[f"{prefix}.coupling"] = (TableAxis(group.name, group.size),)
        for group in self.description.groups:
            if isinstance(getattr(self, group.name).weight, CoupledWeightSite):
                prefix = f"{group.name}.weight"
                axes[f"{prefix}.regression"] = (group.rows, group.columns, group.columns)
                for key in ("mean_response", "scale_response"):
                    axes[f"{prefix}.{key}"] = (group.rows, group.columns, group.incoming)
        return axes

    @torch.no_grad()
    def close(self, closed: Mapping[str, Tensor]) -> None:
        """Close members for good; what the others' weights owe to them becomes constant."""
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
            kinds[f"gates.{name}"].append(self._gate_site(name).coupling)
        for group in self.description.groups:
            site = getattr(self, group.name).weight
            if isinstance(site, CoupledWeightSite):
                kinds[f"means.{group.name}"] += [site.regression, site.mean_response]
                kinds["log_scales"].append(site.scale_response)
                if site.centring is not None:
                    kinds["log_scales"].append(site.centring)
        return kinds

    @torch.no_grad()
    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Start from the weights of a deterministic network; see :meth:`StructuredGuide.start_from`."""
        super().start_from(weights)
        for group in self.description.groups:
            site = getattr(self, group.name).weight
            if isinstance(site, CoupledWeightSite):
                if scale_guide(group.prior).centred:
                    site.loc.copy_(self._in_units_of_u(group, site.loc))
                site.loc.div_(self._centring_factor(group.name))

    def to_config(self) -> dict[str, Any]:
        """The constructor's options that fix the form of the guide."""
        return {"coupled": list(self.coupled), **self._likelihood_config()}

    def _in_units_of_u(self, group: NodeGroup, loc: Tensor) -> Tensor:
        """Means of u for means of t u; kappa says what a coupled law is of, whatever the plain guide centres."""
        return standardized(group, loc, self.mean_slab_scale(group.name))

    def _centring_factor(self, name: str) -> Tensor:
        r""":math:`E_q[t^{1 - \kappa}] / E_q[t]`, ``[size, 1]``: from the law's own means to those of u."""
        site, prior = getattr(self, name).weight, self.description.layer(name).prior
        power = getattr(site, "centring", None)
        if power is None:
            return site.loc.new_ones(1, 1)
        local, shared = self.scale_moments(name)
        guide = scale_guide(prior)
        moment = guide.mean_slab_scale(local, shared, 1 - power.detach())
        mean = guide.mean_slab_scale(local, shared)
        if moment is None or mean is None:
            raise ConfigurationError(f"CoupledGuide: the prior of {name} gives no mean slab scale.")
        return (moment / mean).unsqueeze(-1)


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
