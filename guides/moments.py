"""What a structured guide says without a draw: inclusion probabilities and posterior means, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyro.nn import PyroModule
from torch import Tensor
from torch.nn import Parameter

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides.initial import standardized
from pyro_ssbnn.guides.scales import LogMoments, ScaleGuide, scale_guide
from pyro_ssbnn.isolation import full_precision
from pyro_ssbnn.priors import Prior
from pyro_ssbnn.structure.description import NetworkDescription

__all__ = ["CLOSED_LOGIT", "OPEN_LOGIT", "GuideMoments", "module_name"]

CLOSED_LOGIT = -40.0
"""Log-odds that stand for an inclusion probability of 0: no float32 draw of a gate opens at it."""

OPEN_LOGIT = 40.0
"""Log-odds that stand for an inclusion probability of 1: a gate never closes at it, and its gradient is zero."""


class GuideMoments(PyroModule):
    """Moments of a guide that has a module for each group and each scope of its description."""

    description: NetworkDescription
    temperature: Tensor
    independent_scales = False

    def hierarchy(self, prior: Prior) -> ScaleGuide:
        """Guide of a prior's scale latents."""
        found = scale_guide(prior)
        return found.independent() if self.independent_scales else found

    def inclusion(self) -> dict[str, Tensor]:
        """Exact inclusion probabilities q(z = 1) of every gated group, ``{group: [size]}``, detached; 0 for removed."""
        groups = self.description.gate_groups
        return {group.name: _probability(self.inclusion_logits(group.name)) for group in groups}

    def inclusion_logits(self, name: str) -> Tensor:
        """Log-odds of inclusion of a gated group, ``[size]``, detached; finite where probabilities round to 1.

        :raises ConfigurationError: for an unknown group, or one without gates.
        """
        group = self.description[name]
        if not group.gated:
            raise ConfigurationError(
                f"group {name!r} has no gates, hence no inclusion probabilities."
            )
        return self._gate_site(name).logits.detach()

    def gate_logits(self, name: str) -> Parameter:
        """The parameter of a gated group's log-odds, ``[size]``."""
        logits: Parameter = self._gate_site(name).logits
        return logits

    def scope_sites(self, scope: str) -> Any:
        """The module that samples a scope's network-wide latents."""
        return getattr(self, module_name(scope))

    def _gate_site(self, name: str) -> Any:
        """The module that samples a gated group's gates."""
        return self.input if name == self.description.inputs.name else getattr(self, name).gate

    def scale_moments(self, name: str) -> tuple[LogMoments, LogMoments]:
        """Means and variances of the logarithms of a layer's own and of its network-wide scale latents, detached.

        :raises ConfigurationError: for an unknown layer.
        """
        group = self.description.layer(name)
        shared = self.scope_sites(group.scope).log_moments
        own = getattr(self, name).scales.log_moments
        return self.hierarchy(group.prior).local_moments(group, own, shared), shared

    def mean_slab_scale(self, name: str) -> Tensor | None:
        """E_q[t] of a layer's nodes, ``[size]``; None where t = 1."""
        prior = self.description.layer(name).prior
        # What a network is cut to must not be rounded.
        with full_precision(self.temperature.device):
            return self.hierarchy(prior).mean_slab_scale(*self.scale_moments(name))

    def mean_standardized(self, name: str, open: Mapping[str, Tensor] | None = None) -> Tensor:
        """E_q[t u | z = 1] / E_q[t]: mean standardised weights of the open nodes, ``[size, group_size]``.

        The mean of u itself where the guide holds it independent of the slab scale t.

        :param open: masks of the open gates, ``{group: [size]}``, on which the means do not depend here.
        """
        group = self.description.layer(name)
        loc: Tensor = getattr(self, name).weight.loc.detach()
        centred = self.hierarchy(group.prior).centred
        return standardized(group, loc, self.mean_slab_scale(name)) if centred else loc

    def mean_weights(self, name: str) -> Tensor:
        """E_q[t u | z = 1]: posterior mean weights of the open nodes, own ones last, ``[size, group_size]``.

        Those of a batch-normed layer are not yet folded; see :func:`~pyro_ssbnn.posterior.weights.mean_weights`.
        """
        loc = self.mean_standardized(name)
        slab_scale = self.mean_slab_scale(name)
        if slab_scale is None:
            return loc
        return loc * self.description.layer(name).spread(slab_scale).unsqueeze(-1)


def _probability(logits: Tensor) -> Tensor:
    return logits.sigmoid().masked_fill(logits == CLOSED_LOGIT, 0.0)


def module_name(scope: str) -> str:
    """Name of the module that holds a scope's latents; module names have no dots."""
    return scope.replace(".", "_")
