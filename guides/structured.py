r"""The structured mean-field guide of a network, put together from its description.

.. math:: q = \prod_s q(\mathrm{shared}_s) \prod_i q(z_i) \prod_l \prod_j q(z_{lj})\, q(\mathrm{scales}_{lj})\,
              q(u_{lj} \mid z_{lj}, z_{\mathrm{in}})\; q(\mathrm{noise})

Bernoulli gates, LogNormal scales, gated Normal weights. Sites come in the model's own order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import pyro
import torch
from torch import Tensor
from torch.nn import Parameter
from typing_extensions import Self

from pyro_ssbnn.checks import check_positive, check_that, is_number, require_memory
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides.group import GroupGuide
from pyro_ssbnn.guides.initial import check_weights, initial_weights, standardized
from pyro_ssbnn.guides.likelihood import likelihood_guide
from pyro_ssbnn.guides.members import GuideMembers
from pyro_ssbnn.guides.moments import module_name
from pyro_ssbnn.guides.param_store import require_own_names
from pyro_ssbnn.guides.scales import ScaleSites
from pyro_ssbnn.guides.sites import GateSite, LogNormalSite, WeightSite
from pyro_ssbnn.isolation import seeded
from pyro_ssbnn.registry import register
from pyro_ssbnn.structure.axes import Axis, take
from pyro_ssbnn.structure.network import Network

__all__ = ["StructuredGuide"]

_WEIGHTS = ("loc", "log_scale")
_BYTES = 2 * 4 * 2  # a weight: mean and log-scale in single precision, and as much while drawn


@register("structured")
class StructuredGuide(GuideMembers):
    r"""Hand-written guide of any network with a description: ``guide(*args)`` samples every latent site of the model.

    :param model: the network.
    :param hard: straight-through gates, exactly 0 or 1 (default), or soft relaxed gates in (0, 1).
    :param temperature: of the binary concrete relaxation; kept in the buffer ``temperature``, which a schedule may
        fill.
    :param initial_inclusion: starting value of every gate's probability, in (0, 1).
    :param initial_scale: starting standard deviation of a weight, times sqrt(fan-in).
    :param likelihood: sample the latents of the network's likelihood, too. False for a network inside a larger model
        that has a likelihood of its own and calls ``net.network(x)``.
    :param independent_scales: let no slab scale or weight follow what scales it, as in the published mean-field guide
        (:class:`~pyro_ssbnn.guides.group_lasso.IndependentGroupLassoGuide`). It makes a difference under the group
        lasso only.

    With hard gates every Pyro ELBO estimates the same evidence bound. With soft gates the objective is the
    *relaxed* one: the expected log-likelihood is taken over relaxed gates y while Bernoulli KL and slab KL keep
    their closed forms (``AnalyticELBO``, ``TraceMeanField_ELBO``); ``Trace_ELBO`` weights those KLs by E[y] in
    place of the inclusion probability, because it scores the draw. Neither is a bound at temperatures above 0; both
    tend to the hard one.

    **A subclass** stays one when nodes leave the network during training: :meth:`narrowed` makes it again, as
    ``type(self)(model, **self.to_config())``, and hands its parameters on, cut along :meth:`parameter_axes`. So what
    its constructor takes beside the network goes into :meth:`to_config`; what parameters of its own run over, into
    :meth:`parameter_axes`; and the parameters into :meth:`parameter_groups`, or they are not trained. A name of its own
    (:func:`pyro_ssbnn.register`) lets it be saved.

    :ivar initial: the options of its starting values, by name.
    :ivar started_from: the weights that :meth:`start_from` took, or None.
    :raises ConfigurationError: for a temperature or a probability outside its domain.
    """

    family: ClassVar[str] = "guide"

    def __init__(
        self,
        model: Network,
        *,
        hard: bool = True,
        temperature: float = 0.5,
        initial_inclusion: float = 0.95,
        initial_scale: float = 0.1,
        likelihood: bool = True,
        independent_scales: bool = False,
    ) -> None:
        network = hasattr(model, "description") and hasattr(model, "likelihood")
        check_that("StructuredGuide", "model", model, network, "a network, such as ss.MLP")
        needed = _BYTES * model.description.num_weights
        require_memory(
            "StructuredGuide", needed, f"a network of {model.description.num_weights:,} weights"
        )
        # Pyro's parameter store knows the parameters by this name, so that guides of several networks get on there.
        super().__init__(model.description.prefix.removesuffix("."))
        check_positive("StructuredGuide", temperature=temperature, initial_scale=initial_scale)
        if not (is_number(initial_inclusion) and 0 < initial_inclusion < 1):
            raise ConfigurationError(
                f"StructuredGuide: initial_inclusion must lie strictly between 0 and 1; got {initial_inclusion}."
            )
        self.description, self.likelihood = model.description, model.likelihood
        self.activation = getattr(model, "activation", None)
        self.hard, self.independent_scales = hard, independent_scales
        self.initial = {
            "temperature": temperature,
            "initial_inclusion": initial_inclusion,
            "initial_scale": initial_scale,
        }
        self.started_from: dict[str, Tensor] | None = None
        self.register_buffer("temperature", torch.tensor(temperature))
        description = model.description
        taken = [g.name for g in description.groups if hasattr(self, g.name)]
        if taken:
            raise ConfigurationError(
                f"{type(self).__name__}: a layer cannot be called {taken[0]!r}, which is an attribute of guides; give"
                " it another name."
            )
        shared_initial = {}
        for scope, prior in description.scopes.items():
            members = [g for g in description.groups if g.scope == scope]
            shared_initial[scope] = self.hierarchy(prior).initial_shared(members)
        for scope, initial in shared_initial.items():
            self.add_module(module_name(scope), ScaleSites(initial))
        if description.inputs.gated:
            self.input = GateSite(description.inputs.size, initial_inclusion)
        for group in description.groups:
            shared = shared_initial[group.scope]
            guide = self.hierarchy(group.prior)
            local = guide.initial_local(group, shared)
            last = group is description.groups[-1]
            weights = initial_weights(group, gain=1.0 if last else math.sqrt(2))
            scale = initial_scale / math.sqrt(group.fan_in)
            loc = weights
            if not guide.centred:
                loc = standardized(group, weights, guide.initial_slab_scale(group, local, shared))
            part = GroupGuide(group, guide, local, loc, scale, initial_inclusion)
            self.add_module(group.name, part)
        self.noise = likelihood_guide(model.likelihood) if likelihood else None
        self.samples_likelihood = likelihood

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Sample every latent; the arguments are the model's, and are not used.

        :raises ConfigurationError: where Pyro's parameter store holds another guide's tensors under this one's names.
        """
        require_own_names(self)
        return super().__call__(*args, **kwargs)

    def forward(self, *args: object, **kwargs: object) -> None:
        """Sample every latent; the arguments are the model's, and are not used."""
        shared = self._sample_shared()
        inputs, columns = self.description.inputs, None
        if inputs.gated:
            with pyro.plate(inputs.path, inputs.size, dim=-1):
                gate = self.input(inputs.gate_site, self.temperature, self.hard)
            inclusion = self.input.logits.sigmoid()
            columns = tuple(_with_bias(inputs.spread(v)) for v in (gate, inclusion))
        for group in self.description.groups:
            gated_columns = columns if group.column_gate else None
            part = getattr(self, group.name)
            rates = part.hierarchy.rates(self.scope_sites(group.scope))
            part(self.temperature, self.hard, gated_columns, shared[group.scope], rates)
        if self.noise is not None:
            self.noise(self.description.prefix)

    def _sample_shared(self) -> dict[str, dict[str, Tensor]]:
        """Sample the network-wide latents, by scope."""
        scopes, site = self.description.scopes, self.description.site
        return {scope: self.scope_sites(scope)(site(scope)) for scope in scopes}

    def parameter_axes(self) -> dict[str, tuple[Axis, ...]]:
        """Axes of every parameter and buffer, by its name in the ``state_dict``; none for network-wide latents."""
        inputs = self.description.inputs
        axes: dict[str, tuple[Axis, ...]] = dict.fromkeys(self.state_dict(), ())
        if inputs.gated:
            axes["input.logits"] = (Axis(inputs.name, inputs.size),)
        for group in self.description.groups:
            own = [name for name in axes if name.startswith(f"{group.name}.")]
            axes |= dict.fromkeys(own, (group.rows,))
            of_weights = (group.weight_rows, group.columns)
            axes |= {f"{group.name}.weight.{key}": of_weights for key in _WEIGHTS}
        return axes

    def narrowed(self, model: Network, kept: Mapping[str, Tensor]) -> Self:
        """Guide of the same class for a narrowed network, with this guide's parameters.

        :param model: this guide's network, ``narrowed`` to the same members.
        :param kept: ascending indices, ``{group: [kept]}``.
        """
        like = next(self.parameters())
        with seeded(0, like.device):  # the initial values are overwritten
            guide = type(self)(model, **self.to_config())
        guide.to(device=like.device, dtype=like.dtype)
        axes, kept = self.parameter_axes(), self.description.with_sums(kept)
        state = {k: take(v, axes[k], kept) for k, v in self.state_dict().items()}
        guide.load_state_dict(state)
        return guide

    def restarted(self, model: Network) -> Self:
        """A new guide of the same class and options, at new starting values, or at the weights this one started from.

        ``fit(model, x, y, options, guide=guide.restarted)`` runs again from another seed.

        :param model: the same network, or its like.
        """
        guide = type(self)(model, **{**self.to_config(), **self.initial})
        if self.started_from is not None:
            guide.start_from(self.started_from)
        return guide

    @torch.no_grad()
    def start_from(self, weights: Mapping[str, Tensor]) -> None:
        """Start from the weights of a deterministic network: they become the posterior means of the open nodes.

        The means of the standardised weights are set to w / E_q[t], so that :meth:`mean_weights` are the weights given,
        and the network with all gates open and mean weights computes what the deterministic one does. Gates, all
        standard deviations, and the latents of scales and noise stay as they are.

        :param weights: effective weights w of every layer, bias last, ``{group: [size, group_size]}``, as
            :func:`~pyro_ssbnn.fit_deterministic` returns them, or from elsewhere. A filter's come channel by channel,
            each row by row, then scale and shift where a batch norm follows; running statistics are the model's.
        :raises ConfigurationError: for missing, unknown or wrongly shaped layers, and for values that are not finite.
        """
        check_weights(self.description, weights)
        self.started_from = {name: weight.detach().clone() for name, weight in weights.items()}
        for group in self.description.groups:
            loc = getattr(self, group.name).weight.loc
            given = weights[group.name].to(loc)
            centred = self.hierarchy(group.prior).centred
            unit = None if centred else self.mean_slab_scale(group.name)
            loc.copy_(standardized(group, given, unit))

    def to_config(self) -> dict[str, Any]:
        """The constructor's options that fix the form of the guide, plain where it is to be saved."""
        apart = {"independent_scales": True} if self.independent_scales else {}
        return {"hard": self.hard, **apart, **self._likelihood_config()}

    def _likelihood_config(self) -> dict[str, Any]:
        return {} if self.samples_likelihood else {"likelihood": False}

    def parameter_groups(self) -> dict[str, list[Parameter]]:
        """Parameters by what they are: ``means.{layer}``, ``log_scales`` of weights, ``latents``,
        ``gates.{group}`` (logits).

        ``latents`` are the medians and scales of slab scales and of the likelihood's latents.
        """
        layers = self.description.groups
        kinds: dict[str, list[Parameter]] = {
            f"means.{g.name}": [getattr(self, g.name).weight.loc] for g in layers
        }
        kinds |= {"log_scales": [], "latents": []}
        kinds |= {
            f"gates.{g.name}": [self._gate_site(g.name).logits]
            for g in self.description.gate_groups
        }
        for module in self.modules():
            if isinstance(module, WeightSite):
                kinds["log_scales"].append(module.log_scale)
            elif isinstance(module, LogNormalSite):
                kinds["latents"] += [module.loc, module.log_scale]
        kinds["latents"] += [] if self.noise is None else [*self.noise.parameters()]
        return kinds


def _with_bias(gate: Tensor) -> Tensor:
    """Gates of the columns, ``[..., 1, fan_in + 1]``: the bias is never closed."""
    return torch.cat([gate, torch.ones_like(gate[..., :1])], -1).unsqueeze(-2)
