r"""Positive latents whose Gamma prior has a rate that is a latent itself, of which the guide knows the moments.

Under the group lasso :math:`\tau^2 \sim \mathrm{Gamma}(k, \mathrm{rate}\ r)` with :math:`r = \varsigma^2/2`, and a
mean-field guide holds :math:`\tau^2` and :math:`\varsigma^2` apart. The KL given a draw of r is linear in r and in
:math:`\log r`, so that its mean over q(r) needs no draw:

.. math:: E_{q(r)}\,KL(\mathrm{LogNormal}(m, v^2)\,\|\,\mathrm{Gamma}(k, r)) =
          -k\,(m + E \log r) - \log v + \log\Gamma(k) + E[r]\,e^{m + v^2/2} - (1 + \log 2\pi)/2.
"""

from __future__ import annotations

import math

import torch
from pyro.distributions import LogNormal
from torch import Tensor
from torch.distributions import Gamma, register_kl
from torch.types import _size

__all__ = ["PenalizedLogNormal"]

_HALF_ONE_PLUS_LOG_2PI = 0.5 * (1 + math.log(2 * math.pi))


class PenalizedLogNormal(LogNormal):
    """LogNormal of a latent under a Gamma prior, whose KL is the mean over the guide's law of the prior's rate.

    Its density and its draws are LogNormal's, so that every ELBO estimates the same bound; those with closed-form KLs
    then have no noise of the rate's draw.

    :param loc: mean of the latent's logarithm.
    :param scale: standard deviation of the latent's logarithm.
    :param log_rate: E log r under the guide, broadcastable to them.
    :param rate: E r under the guide.
    """

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor,
        log_rate: Tensor,
        rate: Tensor,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.mean_log_rate, self.mean_rate = log_rate, rate
        super().__init__(loc, scale, validate_args=validate_args)

    def expand(
        self, batch_shape: _size, _instance: PenalizedLogNormal | None = None
    ) -> PenalizedLogNormal:
        """Expand the batch shape; the moments of the rate broadcast."""
        loc, scale = self.loc.expand(batch_shape), self.scale.expand(batch_shape)
        return type(self)(loc, scale, self.mean_log_rate, self.mean_rate, validate_args=False)


@register_kl(PenalizedLogNormal, Gamma)
def kl_penalized_log_normal_gamma(q: PenalizedLogNormal, p: Gamma) -> Tensor:
    """E KL(q || Gamma(k, rate r)) over the guide's law of r, not over the draw that p holds; shape of the batch."""
    mean = (q.loc + 0.5 * q.scale.square()).exp()
    each = (
        -p.concentration * (q.loc + q.mean_log_rate)
        - q.scale.log()
        + torch.lgamma(p.concentration)
        + q.mean_rate * mean
        - _HALF_ONE_PLUS_LOG_2PI
    )
    return each.expand(torch.broadcast_shapes(q.batch_shape, p.batch_shape))
