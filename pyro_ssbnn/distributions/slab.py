r"""Slabs: the weights of a node before its gate and its scale are applied.

A node's effective weights are :math:`w = z\,t\,u` with gate :math:`z`, slab scale :math:`t` and *standardised* weights
:math:`u \in R^m`. The prior is :math:`u \sim N(0, \sigma_0^2 I_m)`; the variational family is

.. math:: q(u \mid z = 1) = N(\mu, \mathrm{diag}\,\sigma^2),\qquad q(u \mid z = 0) = N(0, \sigma_0^2 I_m),

so that a closed node costs nothing: :math:`E_z KL(q(u|z) || p(u)) = \gamma\, KL(N(\mu, \sigma^2) || N(0, \sigma_0^2))`.
"""

from __future__ import annotations

import math

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints
from torch.types import _size

__all__ = ["GatedNormal", "IsotropicNormal"]

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class IsotropicNormal(TorchDistribution):
    r"""Zero-mean Normal on :math:`R^m` with one standard deviation: the slab's prior.

    One object in place of ``Normal(0, scale).expand([m]).to_event(1)``: the constant is known to be shared by the m
    weights, so density and KL reduce to one row-wise sum of squares.

    :param scale: standard deviation, broadcastable to the batch shape (often a scalar).
    :param event_size: m, the number of weights of a node.
    :param batch_shape: by default that of the scale, which is kept as it is given.
    """

    arg_constraints = {"scale": constraints.positive}  # noqa: RUF012
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        scale: Tensor,
        event_size: int,
        batch_shape: _size | None = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.scale = scale
        shape = scale.shape if batch_shape is None else Size(batch_shape)
        super().__init__(shape, Size([event_size]), validate_args=validate_args)

    def expand(
        self, batch_shape: _size, _instance: IsotropicNormal | None = None
    ) -> IsotropicNormal:
        """Expand the batch shape; the scale broadcasts."""
        return type(self)(self.scale, self.event_shape[0], batch_shape, validate_args=False)

    def rsample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008
        """Draw of shape ``sample_shape + batch_shape + (m,)``."""
        noise = torch.randn(
            self._extended_shape(sample_shape), dtype=self.scale.dtype, device=self.scale.device
        )
        return self.scale.unsqueeze(-1) * noise

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density, shape of the batch."""
        if self._validate_args:
            self._validate_sample(value)
        m = self.event_shape[0]
        squares = value.square().sum(-1) / (2 * self.scale.square())
        return -squares - m * (self.scale.log() + _HALF_LOG_2PI)


class GatedNormal(TorchDistribution):
    r"""Guide of the standardised weights given the gates: Normal where open, the prior where closed.

    :param loc: :math:`\mu`, ``[*batch, m]``.
    :param log_scale: logarithm of the standard deviation :math:`\sigma`, ``[*batch, m]``.
    :param open: the gates' draw in [0, 1], broadcastable to ``[*batch, m]``: a last dimension of 1 when one gate
        rules the whole row, m when input gates close single weights.
    :param inclusion: probability that the weight is open, same shape rule; it weights the closed-form KL
        (Rao-Blackwellised over the gate), where ``open`` weights the density.
    :param closed_scale: :math:`\sigma_0`, standard deviation of the prior, scalar tensor.
    :param batch_shape: of the law, by default that of the parameters together. They are kept as they are given: what
        all particles share is not multiplied by their number, and costs no more than with one.

    .. note:: ``rsample`` returns the *open* slab's draw also where the gate is closed. The value is not used there (the
       weight is 0) and its density cancels against the prior's, so every ELBO is unchanged; but the straight-through
       gradient of a closed gate then sees the node that would open, not a random one. ``sample`` draws from
       :math:`q(u | z)` itself.
    """

    arg_constraints = {  # noqa: RUF012
        "loc": constraints.real_vector,
        "log_scale": constraints.real_vector,
    }
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        loc: Tensor,
        log_scale: Tensor,
        open: Tensor,
        inclusion: Tensor,
        closed_scale: Tensor,
        batch_shape: _size | None = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.log_scale = loc, log_scale
        self.open, self.inclusion = open, inclusion
        self.closed_scale = closed_scale
        if batch_shape is None:
            batch_shape = torch.broadcast_shapes(loc.shape[:-1], open.shape[:-1])
        super().__init__(Size(batch_shape), loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: _size, _instance: GatedNormal | None = None) -> GatedNormal:
        """Expand the batch shape; the parameters broadcast."""
        return type(self)(
            self.loc,
            self.log_scale,
            self.open,
            self.inclusion,
            self.closed_scale,
            batch_shape,
            validate_args=False,
        )

    @property
    def scale(self) -> Tensor:
        """Standard deviation of the open slab, of the shape of ``log_scale``."""
        return self.log_scale.exp()

    def rsample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008
        """Draw of the open slab, ``sample_shape + batch_shape + (m,)``; see the class's note."""
        noise = torch.randn(
            self._extended_shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device
        )
        return torch.addcmul(self.loc, self.scale, noise)

    def sample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008
        """Draw from q(u | z): the open slab where the gate is open, the prior where it is closed."""
        with torch.no_grad():
            slab = self.rsample(sample_shape)
            prior = self.closed_scale * torch.randn_like(slab)
            return torch.lerp(prior, slab, self.open.expand_as(slab))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log q(u | z), shape of the batch; linear in soft gates."""
        if self._validate_args:
            self._validate_sample(value)
        slab = -0.5 * ((value - self.loc) / self.scale).square() - self.log_scale
        prior = -0.5 * (value / self.closed_scale).square() - self.closed_scale.log()
        return (torch.lerp(prior, slab, self.open.expand_as(slab)) - _HALF_LOG_2PI).sum(-1)
