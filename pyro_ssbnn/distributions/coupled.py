r"""Dependent gates, and slabs that respond to them: the family of :class:`~pyro_ssbnn.guides.CoupledGuide`.

**Gates** of one group of p members have any joint law, written as independent gates and what each of the
:math:`2^p` rows of their table departs from them,

.. math:: q(z) = \exp\{b^\top z + r_{z}\} / Z,

so that mass, marginals and KL are exact. r = 0 gives independent gates with logits b. One number for each row, not a
few interactions, because gradients then find it: a row that is worth more gains, whatever the others do, where
interactions of pairs have to be moved against one another.

**Weights** of one node, given the gates z of their sources, are a chain of regressions on the *gated* weights before
them, with means and log-scales that respond to closed sources after them,

.. math:: u_i \mid u_{<i}, z \sim N\Big(\mu_i + \sum_{j<i} B_{ij}(z_j u_j - \mu_j) + \sum_{j>i} M_{ij}(1 - z_j),\
          \exp\{2 s_i + 2\textstyle\sum_{j>i} A_{ij}(1 - z_j)\}\Big).

With all sources open it is a Normal of mean :math:`\mu` and any covariance (B is its Cholesky regression; M and A do
not count). When a correlated source closes, the weights left take over what it explained. B = M = A = 0 gives
:class:`~pyro_ssbnn.distributions.GatedNormal`. For two sources the family holds the exact posterior of a linear
Gaussian model of known noise; for more it is exact to first order in the closed gates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints, register_kl
from torch.types import _size

from pyro_ssbnn.distributions.gate import Gate, gate_values
from pyro_ssbnn.distributions.slab import IsotropicNormal

__all__ = ["CoupledGate", "CoupledNormal", "SourceGates", "gate_table"]

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def gate_table(size: int, like: Tensor) -> Tensor:
    """All gates of a group, ``[2^size, size]``; row s opens gate k where bit k of s is one."""
    index = torch.arange(2**size, device=like.device)
    return ((index.unsqueeze(-1) >> torch.arange(size, device=like.device)) & 1).to(like.dtype)


class CoupledGate(TorchDistribution):
    r"""Dependent gates, one joint draw of p of them in the last batch dimension.

    :param logits: b, ``[p]``: log-odds of the gates where they are independent.
    :param residual: r, ``[2^p]``, in the order of :func:`gate_table`.

    The entries of :meth:`log_prob`, ``[..., p]``, *sum* to the joint log-mass; a single one means nothing. So do those
    of the KL.

    .. note:: The draw is exactly 0 or 1. Its gradient is that of the trapezoidal rule between two independent draws z
       and z', averaged over z': from :math:`\nabla E f = \tfrac12 E[\{f(z) - f(z')\}\nabla\log\{q(z)/q(z')\}]` and
       :math:`f(z) - f(z') \approx \tfrac12\{\nabla f(z) + \nabla f(z')\}^\top(z - z')` follows

       .. math:: dz_i = \tfrac12\{(z_i - \pi_i)\, d\log q(z) + d\pi_i\},\qquad \pi = E_q[z],

       which is unbiased for every f that is quadratic in z, at no temperature. (For one gate, and the difference taken
       exactly, this is the second-order straight-through estimator of Liu et al. 2023, arXiv 2304.08612.)
    """

    arg_constraints = {"logits": constraints.real, "residual": constraints.real}  # noqa: RUF012
    support = gate_values
    has_rsample = True

    def __init__(
        self,
        logits: Tensor,
        residual: Tensor,
        batch_shape: _size | None = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.logits, self.residual = logits, residual
        shape = logits.shape if batch_shape is None else Size(batch_shape)
        super().__init__(shape, Size(), validate_args=validate_args)

    def expand(self, batch_shape: _size, _instance: CoupledGate | None = None) -> CoupledGate:
        """Expand the batch shape; the last dimension stays the p gates of one draw."""
        return type(self)(self.logits, self.residual, batch_shape, validate_args=False)

    @property
    def table(self) -> Tensor:
        """All gates, ``[2^p, p]``."""
        return gate_table(len(self.logits), self.logits)

    def table_log_prob(self) -> Tensor:
        """Log-mass of every row of the table, ``[2^p]``."""
        return (self.table @ self.logits + self.residual).log_softmax(0)

    @property
    def mean(self) -> Tensor:
        """Marginal inclusion probabilities, ``[p]``."""
        return self.table_log_prob().exp() @ self.table

    def rsample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008
        """Draw gates, ``sample_shape + batch_shape``, with the gradient of the class's note."""
        log_mass = self.table_log_prob()
        with torch.no_grad():
            cumulated = log_mass.double().exp().cumsum(0)
            shape = self._extended_shape(sample_shape)[:-1]
            uniform = torch.rand(shape, dtype=torch.float64, device=cumulated.device)
            index = torch.searchsorted(cumulated, uniform * cumulated[-1], right=True)
            index = index.clamp_max(len(cumulated) - 1)
        drawn = self.table[index]
        mean = log_mass.exp() @ self.table
        score = log_mass[index].unsqueeze(-1)
        slope = 0.5 * ((drawn - mean.detach()) * score + mean)
        return drawn + (slope - slope.detach())

    def log_prob(self, value: Tensor) -> Tensor:
        """Equal shares ``[..., p]`` of the joint log-mass, which between 0 and 1 is extended multilinearly."""
        if self._validate_args:
            self._validate_sample(value)
        rows = value.new_ones(*value.shape[:-1], 1)
        for gate in value.unbind(-1):  # the first gate is the lowest bit
            gate = gate.unsqueeze(-1)
            rows = torch.cat([rows * (1 - gate), rows * gate], -1)
        size = len(self.logits)
        return (rows @ self.table_log_prob() / size).unsqueeze(-1).expand(*value.shape[:-1], size)


@register_kl(CoupledGate, Gate)
def kl_coupled_gate_gate(q: CoupledGate, p: Gate) -> Tensor:
    """Shares ``[..., p]`` of the exact KL, summed over the table of all gates."""
    log_mass, table = q.table_log_prob(), q.table
    prior = p.logits.expand(q.batch_shape)[(0,) * (len(q.batch_shape) - 1)]
    log_prior = (table * prior).sum(-1) - torch.nn.functional.softplus(prior).sum()
    total = (log_mass.exp() * (log_mass - log_prior)).sum()
    return (total / len(q.logits)).expand(q.batch_shape)


@dataclass(frozen=True)
class SourceGates:
    """Gates of the p sources that a layer's weights come from.

    :param draw: their draw, ``[..., 1, p]``.
    :param table: all values they take, ``[T, p]``, with their probabilities, ``[T]``.
    :param closes: whether a closed source gives its weights back to the prior (predictors), or only changes the law of
        the others (nodes, whose closing leaves the next layer's weights in place).
    """

    draw: Tensor
    table: Tensor
    probability: Tensor
    closes: bool


class CoupledNormal(TorchDistribution):
    r"""Guide of the standardised weights of a dense layer's nodes given all gates; see the module.

    :param loc: :math:`\mu`, mean with all sources open, ``[size, m]``; the bias, last, has no gate.
    :param log_scale: s, log of the innovations' standard deviations, ``[size, m]``.
    :param regression: B, ``[size, m, m]``; what lies below the diagonal counts.
    :param mean_response: M, ``[size, m, p]``; what lies above the diagonal counts.
    :param scale_response: A, likewise.
    :param source: gates of the sources.
    :param open: draw of the nodes' own gates, ``[..., size, 1]``.
    :param inclusion: their probabilities, same shape rule; they weight the closed-form KL.
    :param closed_scale: standard deviation of the prior, scalar tensor.
    :param unit: c, ``[..., size]``: the law is then that of the open weights c u, given c, such as a power of the slab
        scale's draw. None for the law of u itself.

    As with :class:`GatedNormal`, ``rsample`` returns the open draw also where a weight is closed, ``sample`` that of
    q(u | z) itself.
    """

    arg_constraints = {"loc": constraints.real_vector, "log_scale": constraints.real_vector}  # noqa: RUF012
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        loc: Tensor,
        log_scale: Tensor,
        regression: Tensor,
        mean_response: Tensor,
        scale_response: Tensor,
        source: SourceGates,
        open: Tensor,
        inclusion: Tensor,
        closed_scale: Tensor,
        unit: Tensor | None = None,
        batch_shape: _size | None = None,
        *,
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.log_scale = loc, log_scale
        self.regression = regression.tril(-1)
        self.mean_response, self.scale_response = mean_response.triu(1), scale_response.triu(1)
        self.source, self.open, self.inclusion = source, open, inclusion
        self.closed_scale, self.unit = closed_scale, unit
        if batch_shape is None:
            shapes = [loc.shape[:-1], open.shape[:-1], source.draw.shape[:-1]]
            shapes += [] if unit is None else [unit.shape]
            batch_shape = torch.broadcast_shapes(*shapes)
        super().__init__(Size(batch_shape), loc.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: _size, _instance: CoupledNormal | None = None) -> CoupledNormal:
        """Expand the batch shape; parameters and gates broadcast."""
        return type(self)(
            self.loc,
            self.log_scale,
            self.regression,
            self.mean_response,
            self.scale_response,
            self.source,
            self.open,
            self.inclusion,
            self.closed_scale,
            self.unit,
            batch_shape,
            validate_args=False,
        )

    def conditional_mean(self, gates: Tensor) -> Tensor:
        """E[c u | z] of the open weights, ``[..., size, m]``, given gates of the sources, ``[..., 1, p]``."""
        offset, _, system = self._chain(gates)
        return _solve(system, offset.unsqueeze(-1)).squeeze(-1)

    def rsample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008
        """Draw of the open slab, ``sample_shape + batch_shape + (m,)``."""
        shape = self._extended_shape(sample_shape)
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        offset, log_scale, system = self._chain(self.source.draw)
        innovation = offset + log_scale.exp() * noise
        system = system.expand(*shape, shape[-1])
        drawn = _solve(system, innovation.unsqueeze(-1)).squeeze(-1)
        return drawn if self.unit is None else drawn / self.unit.unsqueeze(-1)

    def sample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008
        """Draw from q(u | z): the slab where the weight is open, the prior where it is closed."""
        with torch.no_grad():
            slab = self.rsample(sample_shape)
            prior = self.closed_scale * torch.randn_like(slab)
            return torch.lerp(prior, slab, self._open_weights().expand_as(slab))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log q(u | z), shape of the batch."""
        if self._validate_args:
            self._validate_sample(value)
        offset, log_scale, _ = self._chain(self.source.draw)
        opened, density = value, -log_scale
        if self.unit is not None:
            scale = self.unit.unsqueeze(-1)
            opened, density = value * scale, density + scale.log()
        gated = opened * self._with_own(self.source.draw)
        mean = offset + (self.regression @ gated.unsqueeze(-1)).squeeze(-1)
        slab = -0.5 * ((opened - mean) / log_scale.exp()).square() + density
        prior = -0.5 * (value / self.closed_scale).square() - self.closed_scale.log()
        open = self._open_weights().expand_as(slab)
        return (torch.lerp(prior, slab, open) - _HALF_LOG_2PI).sum(-1)

    def mean_kl(self, scale: Tensor) -> Tensor:
        r"""KL from N(0, scale^2 I) of the nodes that are in, averaged over the sources' table, ``[..., size]``.

        Weight i contributes :math:`E_z z_i\{(E[u_i|z]^2 + V[u_i|z])/(2\sigma_0^2) - \log s_i(z) + \log\sigma_0 - 1/2\}`
        (the bias without :math:`z_i`), because the chain's entropy is the sum of its innovations'. With a unit c the
        chain is that of c u, whose prior has :math:`c\sigma_0` in the place of :math:`\sigma_0`.
        """
        gates = self.source.table.unsqueeze(-2)  # [T, 1, p]
        offset, log_scale, system = self._chain(gates)
        identity = torch.eye(offset.shape[-1], dtype=offset.dtype, device=offset.device)
        inverse = _solve(system, identity.expand_as(system))
        mean = (inverse @ offset.unsqueeze(-1)).squeeze(-1)
        variance = (inverse.square() @ (2 * log_scale).exp().unsqueeze(-1)).squeeze(-1)
        parts = torch.stack([mean.square() + variance, -log_scale - 0.5, torch.ones_like(mean)])
        if self.source.closes:
            parts = parts * self._with_own(gates)
        probability = self.source.probability
        squares, innovations, count = torch.einsum("t,kts->ks", probability, parts.sum(-1))
        scale = scale if self.unit is None else scale * self.unit
        return 0.5 * squares / scale.square() + innovations + count * scale.log()

    def _chain(self, gates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Offsets and log-scales ``[..., size, m]``, and I - B diag(z), ``[..., size, m, m]``."""
        closed = (1 - gates).unsqueeze(-1)
        own_mean = (self.regression @ self.loc.unsqueeze(-1)).squeeze(-1)
        offset = self.loc - own_mean + (self.mean_response @ closed).squeeze(-1)
        log_scale = self.log_scale + (self.scale_response @ closed).squeeze(-1)
        identity = torch.eye(offset.shape[-1], dtype=offset.dtype, device=offset.device)
        return offset, log_scale, identity - self.regression * self._with_own(gates).unsqueeze(-2)

    def _with_own(self, gates: Tensor) -> Tensor:
        """Gates of the weights, ``[..., m]``: a node's own weights have none."""
        own = self.loc.shape[-1] - gates.shape[-1]
        return torch.cat([gates, gates.new_ones(*gates.shape[:-1], own)], -1)

    def _open_weights(self) -> Tensor:
        return self.open * self._with_own(self.source.draw) if self.source.closes else self.open


def _solve(system: Tensor, right: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(system, right, upper=False, unitriangular=True)


@register_kl(CoupledNormal, IsotropicNormal)
def kl_coupled_normal_isotropic_normal(q: CoupledNormal, p: IsotropicNormal) -> Tensor:
    """E_z KL(q(u|z) || p(u)): exact over the gates of the sources, Rao-Blackwellised over the node's own."""
    scale = p.scale.reshape(-1)[:1].squeeze(-1)  # one prior scale in a layer
    return (q.inclusion.squeeze(-1) * q.mean_kl(scale)).expand(q.batch_shape)
