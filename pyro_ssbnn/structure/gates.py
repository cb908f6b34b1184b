"""Gated members of any kind: their prior, alone and together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pyro_ssbnn.distributions.beta_binomial import BetaBinomialGate, given_the_others
from pyro_ssbnn.distributions.gate import Gate
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.priors import BetaInclusion
from pyro_ssbnn.structure.constants import constant

__all__ = ["GateGroup", "GateInclusion"]

GateInclusion = float | tuple[float, ...] | BetaInclusion | None
"""Prior inclusion probability of a group's members: one number, one for each, a Beta prior, or None for no gates."""


@dataclass(frozen=True)
class GateGroup:
    """A set of nodes or predictors that may carry gates.

    :param name: its name in the network: of the module, in selections, tables and files.
    :param size: number of nodes (or predictors).
    :param inclusion: prior inclusion probability: one number for all, one for each, or a Beta prior of one that all
        share; None when they carry no gates.
    :param prefix: what stands before the names of all sites and plates of its network, such as ``left.``.
    """

    name: str
    size: int
    inclusion: GateInclusion
    prefix: str = field(default="", kw_only=True)

    @property
    def gated(self) -> bool:
        """Whether the nodes carry gates."""
        return self.inclusion is not None

    @property
    def prior_inclusion(self) -> Tensor:
        """Prior inclusion probability of each member, whatever the others, ``[size]``, float64.

        1 in an ungated group.
        """
        given = self.inclusion.mean if isinstance(self.inclusion, BetaInclusion) else self.inclusion
        values = torch.tensor(1.0 if given is None else given, dtype=torch.float64)
        return values.expand(self.size)

    @property
    def prior_logit(self) -> Tensor:
        """Prior log-odds of each member, whatever the others, ``[size]``, float64.

        :raises ConfigurationError: for an ungated group.
        """
        if self.inclusion is None:
            raise ConfigurationError(f"group {self.name!r} has no gates, hence no prior odds.")
        return self.prior_inclusion.logit()

    @property
    def prior_in_words(self) -> str:
        """Prior inclusion probability for a line of text: ``0.1``, ``0.1 to 0.5`` or ``Beta(1, 9)``."""
        if isinstance(self.inclusion, tuple):
            return f"{min(self.inclusion):.3g} to {max(self.inclusion):.3g}"
        return f"{self.inclusion:.3g}" if isinstance(self.inclusion, float) else str(self.inclusion)

    def prior_gates(self, like: Tensor) -> Gate | BetaBinomialGate:
        """Prior of the gates, to be sampled in the group's plate.

        :param like: a tensor of the wanted dtype and device.
        """
        given = self.inclusion
        if isinstance(given, BetaInclusion):
            a, b = like.new_full((), given.a), like.new_full((), given.b)
            return BetaBinomialGate(a, b, (self.size,), validate_args=False)
        if isinstance(given, tuple):
            logits = [math.log(p) - math.log1p(-p) for p in given]
            return Gate(constant(logits, like.dtype, like.device))
        if given is None:
            raise ConfigurationError(f"group {self.name!r} has no gates, hence no prior of them.")
        return Gate(like.new_full((), math.log(given) - math.log1p(-given)))

    def log_prior(self, gates: Tensor) -> Tensor:
        """Log-probability of gates ``[..., size]`` under the prior, ``[...]``, float64."""
        return self.prior_gates(gates.double()).log_prob(gates.double()).sum(-1)

    def log_closed(self, members: Sequence[int]) -> float:
        """Log-probability under the prior that these members are closed, whatever the others."""
        given, count = self.inclusion, len(members)
        if isinstance(given, BetaInclusion):
            a, b = given.a, given.b
            log_gamma = [math.lgamma(value) for value in (b + count, b, a + b, a + b + count)]
            return log_gamma[0] - log_gamma[1] + log_gamma[2] - log_gamma[3]
        return float((-self.prior_inclusion[list(members)]).log1p().sum())

    def expected_logit(self, inclusion: Tensor) -> Tensor:
        """Expected prior log-odds of each member given the others, ``[size]``, float64.

        :param inclusion: probabilities with which the others are open, independently, ``[size]``.
        """
        prior = self.prior_gates(inclusion.double())
        if isinstance(prior, Gate):
            return self.prior_logit.to(inclusion.device)
        laws = torch.stack([1 - inclusion, inclusion], -1).double()
        return given_the_others(laws, prior.counts()).diff(dim=-1).squeeze(-1)

    def inclusion_of(self, kept: Tensor) -> GateInclusion:
        """What ``inclusion`` is of some members, by ascending indices, when the others are closed."""
        given = self.inclusion
        if isinstance(given, BetaInclusion):
            return given.given(closed=self.size - len(kept))
        return tuple(given[i] for i in kept.tolist()) if isinstance(given, tuple) else given

    @property
    def path(self) -> str:
        """Name of its plate, and what its sites' names begin with."""
        return f"{self.prefix}{self.name}"

    @property
    def gate_site(self) -> str:
        """Name of the gate's sample site."""
        return f"{self.path}.gate"
