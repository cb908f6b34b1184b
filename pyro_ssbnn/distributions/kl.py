r"""Closed-form Kullback-Leibler divergences, registered with :func:`torch.distributions.kl_divergence`.

Pyro's ``TraceMeanField_ELBO`` replaces a missing KL by a sample of it without a word; these are the ones that the
package's guides need and that neither torch nor Pyro has.
"""

from __future__ import annotations

import math

import torch
from pyro.distributions import InverseGamma
from torch import Tensor
from torch.distributions import Gamma, LogNormal, register_kl
from torch.nn.functional import softplus

from pyro_ssbnn.distributions.gate import Gate
from pyro_ssbnn.distributions.slab import GatedNormal, IsotropicNormal

__all__ = [
    "kl_gate_gate",
    "kl_gated_normal_isotropic_normal",
    "kl_log_normal_gamma",
    "kl_log_normal_inverse_gamma",
]

_HALF_ONE_PLUS_LOG_2PI = 0.5 * (1 + math.log(2 * math.pi))


@register_kl(Gate, Gate)
def kl_gate_gate(q: Gate, p: Gate) -> Tensor:
    r"""KL(Bernoulli(gamma) || Bernoulli(lambda)) from the logits a, b: gamma (a - b) - log(1+e^a) + log(1+e^b).

    The guide's relaxed gates score Bernoulli mass (:class:`RelaxedGate`), so this is their KL too.
    """
    return q.probs * (q.logits - p.logits) - softplus(q.logits) + softplus(p.logits)


@register_kl(GatedNormal, IsotropicNormal)
def kl_gated_normal_isotropic_normal(q: GatedNormal, p: IsotropicNormal) -> Tensor:
    r"""E_z KL(q(u|z) || p(u)) = sum_i gamma_i KL(N(mu_i, sigma_i^2) || N(0, sigma_0^2)), shape of the batch.

    :math:`KL = (\sigma^2 + \mu^2) / (2 \sigma_0^2) - \log(\sigma/\sigma_0) - 1/2` for each weight.
    """
    scale = p.scale.unsqueeze(-1)
    if q.inclusion.shape[-1] == 1:  # one gate for the row: sum first, weight once
        m = q.event_shape[0]
        squares = (q.loc.square() + (2 * q.log_scale).exp()).sum(-1, keepdim=True)
        row = 0.5 * squares / scale.square() - q.log_scale.sum(-1, keepdim=True)
        weighted = q.inclusion * (row + m * (scale.log() - 0.5))
        return weighted.squeeze(-1).expand(q.batch_shape)
    squares = q.loc.square() + (2 * q.log_scale).exp()
    each = 0.5 * squares / scale.square() - q.log_scale + scale.log() - 0.5
    return (q.inclusion * each).sum(-1).expand(q.batch_shape)


@register_kl(LogNormal, Gamma)
def kl_log_normal_gamma(q: LogNormal, p: Gamma) -> Tensor:
    r"""KL(LogNormal(m, v^2) || Gamma(k, rate r)).

    :math:`-k m - \log v - k\log r + \log\Gamma(k) + r e^{m + v^2/2} - (1 + \log 2\pi)/2`.
    """
    mean = (q.loc + 0.5 * q.scale.square()).exp()
    return (
        -p.concentration * (q.loc + p.rate.log())
        - q.scale.log()
        + torch.lgamma(p.concentration)
        + p.rate * mean
        - _HALF_ONE_PLUS_LOG_2PI
    )


@register_kl(LogNormal, InverseGamma)
def kl_log_normal_inverse_gamma(q: LogNormal, p: InverseGamma) -> Tensor:
    r"""KL(LogNormal(m, v^2) || InverseGamma(k, rate r)).

    :math:`k m - \log v - k\log r + \log\Gamma(k) + r e^{-m + v^2/2} - (1 + \log 2\pi)/2`; the rate is the Gamma
        rate of the reciprocal (Pyro's convention, which others call scale).
    """
    mean_reciprocal = (-q.loc + 0.5 * q.scale.square()).exp()
    return (
        p.concentration * (q.loc - p.rate.log())
        - q.scale.log()
        + torch.lgamma(p.concentration)
        + p.rate * mean_reciprocal
        - _HALF_ONE_PLUS_LOG_2PI
    )
