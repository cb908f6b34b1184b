r"""The evidence lower bound in closed form, site by site.

.. math:: \mathrm{ELBO} = E_q[\log p(y \mid x, w)] - \beta \sum_{\text{latent sites}} KL(q_s || p_s)

Equal to :class:`pyro.infer.TraceMeanField_ELBO` on the same draw when :math:`\beta = 1`, but it scores observed
sites and KLs only, never leaves the device, keeps likelihood and KL apart, and *raises* where a closed-form KL is
missing, unless the site asks for a sampled one:

- a site of the guide with ``infer={"kl": "sampled"}`` counts :math:`\log q - \log p` of its draw;
- an auxiliary site of the guide, ``infer={"is_auxiliary": True}``, is in no prior: it counts :math:`\log q`.

Both need a reparameterised draw, whose gradient they take.

Gates with a joint law (:class:`~pyro_ssbnn.distributions.CoupledGate`), which the weights respond to, have an unbiased
gradient here: that of the score function, with the other particles' mean as the baseline (Kool, van Hoof and Welling
2019),

.. math:: \nabla E_q f = E\Big[\frac1S\sum_s \nabla\log q(z_s)\Big\{f_s - \frac{1}{S - 1}\sum_{r \ne s} f_r\Big\}\Big].
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.infer import ELBO
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from pyro.poutine.trace_struct import Trace
from torch import Tensor
from torch.distributions import kl_divergence

from pyro_ssbnn.distributions import CoupledGate
from pyro_ssbnn.errors import ConfigurationError, MissingKLError
from pyro_ssbnn.layers import LocalReparameterization
from pyro_ssbnn.traces import random_sites

__all__ = ["AnalyticELBO", "ELBOTerms"]


@dataclass(frozen=True)
class ELBOTerms:
    """The parts of one ELBO estimate, each a scalar tensor on the device.

    :param log_likelihood: observed site to its expected log-likelihood.
    :param kl: latent site to its KL divergence from the prior.
    """

    log_likelihood: dict[str, Tensor]
    kl: dict[str, Tensor]

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the observed, then of the latent sites."""
        return (*self.log_likelihood, *self.kl)

    def stacked(self) -> Tensor:
        """All terms detached, in the order of ``sites``."""
        return torch.stack([*self.log_likelihood.values(), *self.kl.values()]).detach()

    def loss(self, kl_weight: float | Tensor = 1.0) -> Tensor:
        """Negative log-likelihood plus ``kl_weight`` times the KL."""
        return kl_weight * sum(self.kl.values()) - sum(self.log_likelihood.values())  # type: ignore[return-value]


class AnalyticELBO(ELBO):
    r"""ELBO of observed sites and closed-form KLs, for ``SVI`` or as an ``ELBOModule``.

    :param num_particles: draws of the latents per estimate, always vectorised (in a plate left of the model's).
    :param local_reparameterization: draw pre-activations in place of weights
        (:class:`~pyro_ssbnn.layers.LocalReparameterization`): less noise, and a slower step of dense layers.
    :param kl_weight: :math:`\beta`, the factor on the KL; 1 for the bound, less during a warm-up.
    :param max_plate_nesting: plates of the model, 1 for every network of this package.

    Model and guide must satisfy the mean-field condition of ``TraceMeanField_ELBO``.

    :raises ConfigurationError: where a guide with coupled gates is to be differentiated with a single particle.
    """

    def __init__(
        self,
        num_particles: int = 1,
        *,
        local_reparameterization: bool = False,
        kl_weight: float = 1.0,
        max_plate_nesting: int = 1,
    ) -> None:
        super().__init__(num_particles=num_particles, max_plate_nesting=max_plate_nesting)
        self.local_reparameterization = local_reparameterization
        self.kl_weight = kl_weight

    def terms(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> ELBOTerms:
        """Estimate every term on one draw (or ``num_particles`` of them).

        :raises MissingKLError: when a latent site has no closed-form KL and asks for no sampled one, or no counterpart
            in the guide; when a site of the guide is neither the model's nor auxiliary.
        """
        return self._score(*self._get_trace(model, guide, args, kwargs))

    def differentiable_loss(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Negative ELBO as a scalar tensor, to be differentiated."""
        return self.terms(model, guide, *args, **kwargs).loss(self.kl_weight)

    def loss(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> float:
        """Negative ELBO as a number (Pyro's ``SVI.evaluate_loss``)."""
        with torch.no_grad():
            return float(self.differentiable_loss(model, guide, *args, **kwargs))

    def loss_and_grads(
        self, model: Callable[..., Any], guide: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        """Differentiate the loss and return it detached, on its device (Pyro's ``SVI.step``)."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        return loss.detach()

    def _get_trace(
        self,
        model: Callable[..., Any],
        guide: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> tuple[Trace, Trace]:
        handler = LocalReparameterization() if self.local_reparameterization else nullcontext()
        with handler, _JointDraws():
            guide_trace = poutine.trace(self._vectorized(guide)).get_trace(*args, **kwargs)
            replayed = poutine.replay(self._vectorized(model), trace=guide_trace)
            model_trace = poutine.trace(replayed).get_trace(*args, **kwargs)
        return model_trace, guide_trace

    def _vectorized(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        if self.num_particles == 1:
            return fn

        def in_plate(*args: Any, **kwargs: Any) -> Any:
            with pyro.plate("particles", self.num_particles, dim=-1 - self.max_plate_nesting):
                return fn(*args, **kwargs)

        return in_plate

    def _score(self, model_trace: Trace, guide_trace: Trace) -> ELBOTerms:
        observed, latent = {}, {}
        rewards = []  # of each particle, [S]: what its draws were scored by
        for name in random_sites(model_trace):
            site: Any = model_trace.nodes[name]
            if site["is_observed"]:
                score = self._log_prob(site)
                observed[name] = score.sum() / self.num_particles
                rewards.append(score)
                continue
            if name not in guide_trace.nodes:
                raise MissingKLError(
                    f"site {name!r} of the model is neither observed nor sampled by the guide:"
                    " pass its data, or sample it in the guide."
                )
            guide_site: Any = guide_trace.nodes[name]
            closed = _closed_form_kl(name, guide_site, site)
            if closed is not None:
                latent[name] = closed.sum() / self.num_particles
                continue
            ratio = self._log_q(name, guide_site) - self._log_prob(site)
            latent[name] = ratio.sum() / self.num_particles
            rewards.append(-ratio)
        for name in random_sites(guide_trace):
            if name not in model_trace.nodes:
                log_q = self._auxiliary(name, guide_trace.nodes[name])
                latent[name] = log_q.sum() / self.num_particles
                rewards.append(-log_q)
        joint = [site for site in guide_trace.nodes.values() if _is_joint(site)]
        if joint and torch.is_grad_enabled():
            first = next(iter(observed))
            observed[first] = observed[first] + self._score_function(joint, rewards)
        return ELBOTerms(observed, latent)

    def _log_prob(self, site: Any) -> Tensor:
        """Log-probability of a site's value, scaled and masked, of each particle, ``[S]``."""
        score = site["fn"].log_prob(site["value"])
        score = scale_and_mask(score, scale=site["scale"], mask=site["mask"])
        return score.reshape(self.num_particles, -1).sum(-1)

    def _log_q(self, name: str, site: Any) -> Tensor:
        """The same of a site of the guide whose gradient goes through its draw."""
        if not site["fn"].has_rsample:
            raise MissingKLError(
                f"site {name!r}: a sampled KL needs a reparameterised draw, which {type(site['fn']).__name__} does not"
                " give. Take Trace_ELBO."
            )
        return self._log_prob(site)

    def _auxiliary(self, name: str, site: Any) -> Tensor:
        if not site["infer"].get("is_auxiliary"):
            raise MissingKLError(
                f"site {name!r} of the guide is in no prior: the model does not sample it. Sample it there, leave"
                ' it out of the guide, or mark it with infer={"is_auxiliary": True}.'
            )
        return self._log_q(name, site)

    def _score_function(self, sites: list[Any], rewards: list[Tensor]) -> Tensor:
        """Zero, with the gradient of the module's score function; closed-form KLs take care of their own."""
        count = self.num_particles
        if count == 1:
            raise ConfigurationError(
                "AnalyticELBO: coupled gates learn from differences between particles; give num_particles of at least"
                " 2 (TrainingOptions(num_particles=16) for small networks)."
            )
        reward = torch.stack(rewards).sum(0).detach()
        advantage = (reward - reward.mean()) * (count / (count - 1))
        scores = [site["fn"].log_prob(site["value"]).reshape(count, -1).sum(-1) for site in sites]
        surrogate = (torch.stack(scores).sum(0) * advantage).mean()
        return surrogate - surrogate.detach()


def _closed_form_kl(name: str, guide_site: Any, model_site: Any) -> Tensor | None:
    """KL of a site, scaled and masked as the guide's, as in TraceMeanField_ELBO; None where a sampled one is wanted."""
    q, p = guide_site["fn"], model_site["fn"]
    try:
        closed = kl_divergence(q, p)
    except NotImplementedError as error:
        if guide_site["infer"].get("kl") == "sampled":
            return None
        raise MissingKLError(
            f"site {name!r}: no closed-form KL from {type(q).__name__} (guide) to {type(p).__name__} (model)."
            " Register one with torch.distributions.register_kl, or ask for a sampled one at the"
            ' guide\'s site with infer={"kl": "sampled"}.'
        ) from error
    return scale_and_mask(closed, scale=guide_site["scale"], mask=guide_site["mask"])


def _is_joint(site: Any) -> bool:
    return site["type"] == "sample" and isinstance(site["fn"], CoupledGate)


class _JointDraws(Messenger):
    """Draw gates with a joint law without the gradient that other objectives need."""

    def _pyro_sample(self, msg: Message) -> None:
        fn = msg["fn"]
        if isinstance(fn, CoupledGate) and msg["value"] is None and not msg["is_observed"]:
            msg["value"], msg["done"] = fn.sample(), True
