r"""Counts whose variance is larger than their mean, on request with more zeros still.

.. math:: y \sim \mathrm{NB}(\mu, \alpha),\qquad E[y] = \mu,\qquad \mathrm{Var}[y] = \mu + \alpha\mu^2,

a Poisson mixed over a Gamma of mean :math:`\mu` and shape :math:`1/\alpha` (NB2; Cameron and Trivedi 2013, section
3.3). The dispersion :math:`\alpha` is a latent; the Poisson is its limit at 0. With zero inflation

.. math:: y = 0 \text{ with probability } \pi,\qquad y \sim \mathrm{NB}(\mu/(1 - \pi), \alpha) \text{ otherwise},

so that f still tells the mean of y itself (Preisser et al. 2016), and the probability of a structural zero,
:math:`\pi`, is a second latent, on the scale of its log-odds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.nn.functional import softplus

from pyro_ssbnn.checks import check_positive
from pyro_ssbnn.likelihoods.base import LatentSite
from pyro_ssbnn.likelihoods.counts import CountLikelihood
from pyro_ssbnn.registry import register

__all__ = ["NegativeBinomialLikelihood"]

# Added to the dispersion: below it no counts tell it from 0, and single precision loses Gamma functions' differences.
_LEAST = 1e-4


@register("negative-binomial")
@dataclass(frozen=True)
class NegativeBinomialLikelihood(CountLikelihood):
    """Counts with mean ``unit * exp(f)`` and a dispersion that is learned, ``noise.dispersion``.

    Unit, largest mean and exposure as for :class:`CountLikelihood`.

    :param concentration: shape of the Gamma prior of the dispersion; 1 has its mode at the Poisson.
    :param rate: its rate, a number without unit.
    :param zero_inflation: whether there are structural zeros; their log-odds are ``noise.zero_log_odds``.
    :param zero_loc: mean of the Normal prior of these log-odds.
    :param zero_scale: its standard deviation; by default the probability lies between 0.007 and 0.72 with
        probability 0.95.
    """

    concentration: float = 1.0
    rate: float = 0.5
    zero_inflation: bool = False
    zero_loc: float = -2.0
    zero_scale: float = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            type(self).__name__,
            concentration=self.concentration,
            rate=self.rate,
            zero_scale=self.zero_scale,
        )

    def latent_sites(self, like: Tensor) -> dict[str, LatentSite]:
        """``noise.dispersion``, and ``noise.zero_log_odds`` with zero inflation; scalars."""
        prior = dist.Gamma(like.new_full((), self.concentration), like.new_full((), self.rate))
        sites = {"noise.dispersion": LatentSite(prior, initial=0.5)}
        if self.zero_inflation:
            loc, scale = like.new_full((), self.zero_loc), like.new_full((), self.zero_scale)
            sites["noise.zero_log_odds"] = LatentSite(dist.Normal(loc, scale), self.zero_loc)
        return sites

    def distribution(self, f: Tensor, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Negative binomial with this mean, inflated at zero on request."""
        log_mean, shape = self._log_mean_and_shape(f, latents)
        counts = dist.NegativeBinomial(shape, logits=log_mean - shape.log())
        if not self.zero_inflation:
            return counts
        log_odds = latents["noise.zero_log_odds"].expand(log_mean.shape)
        return dist.ZeroInflatedDistribution(counts, gate_logits=log_odds)

    def cdf(self, y: Tensor, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """P(Y <= y) of the counts is the regularised incomplete beta function I(r, floor(y) + 1), r the shape."""
        from scipy.special import betainc  # half a second at import, for this alone

        log_mean, shape = self._log_mean_and_shape(f, latents)
        share = (shape.log() - log_mean).sigmoid()  # r / (r + mean)
        above = y.floor().clamp_min(0) + 1
        found = torch.as_tensor(betainc(shape.numpy(), above.numpy(), share.numpy()))
        if self.zero_inflation:
            zero = latents["noise.zero_log_odds"].sigmoid()
            found = zero + (1 - zero) * found
        return torch.where(y < 0, 0.0, found)

    def _log_mean_and_shape(
        self, f: Tensor, latents: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Log mean of what is not a structural zero, and the Gamma's shape, broadcastable, ``[..., N]``."""
        log_mean = self.log_mean(f)
        if self.zero_inflation:
            log_mean = log_mean + softplus(latents["noise.zero_log_odds"])  # - log(1 - pi)
        return log_mean, (latents["noise.dispersion"] + _LEAST).reciprocal()
