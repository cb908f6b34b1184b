r"""Bernoulli gates, and their relaxation by the binary concrete distribution.

A node's gate is :math:`z \sim \mathrm{Bernoulli}(\gamma)`, with ``logits`` :math:`\log\gamma/(1-\gamma)`. Its
relaxation at temperature :math:`T` (Maddison et al. 2017; Jang et al. 2017) is

.. math:: y = \mathrm{sigmoid}((\mathrm{logits} + \epsilon)/T),\qquad \epsilon \sim \mathrm{Logistic}(0, 1),

and :math:`1[y > 1/2]` is an exact :math:`\mathrm{Bernoulli}(\gamma)` draw for every :math:`T`. A *hard* gate
returns that draw with the gradient of :math:`y` (straight-through); a *soft* gate returns :math:`y` itself.
"""

from __future__ import annotations

from typing import NoReturn

import torch
from pyro.distributions import Bernoulli
from torch import Size, Tensor
from torch.distributions import biject_to, constraints, transform_to
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.types import _size

from pyro_ssbnn.errors import ConfigurationError

__all__ = ["Gate", "RelaxedGate", "gate_values"]

_REMEDIES = (
    "Take StructuredGuide (or pyro_ssbnn.fit), pyro_ssbnn.exact.sample_exact for small networks, or fix the gates:"
    ' poutine.condition(net, data={"hidden1.gate": ...}).'
)


class _GateValues(constraints.Constraint):
    """Values of a gate: 0 and 1, and for relaxed gates what lies between."""

    is_discrete = True
    event_dim = 0

    def check(self, value: Tensor) -> Tensor:
        """Whether each value lies in [0, 1]."""
        return (value >= 0) & (value <= 1)


gate_values = _GateValues()
"""Support of gates: discrete, so that no inference for continuous latents takes them, though relaxed draws pass."""


@biject_to.register(gate_values)
@transform_to.register(gate_values)
def _no_transform(constraint: constraints.Constraint) -> NoReturn:
    """Refuse to move gates to the real line, which Hamiltonian kernels and Pyro's automatic guides ask for."""
    raise ConfigurationError(
        "Gate: gates are discrete, so HMC, NUTS and Pyro's automatic guides cannot treat them as continuous latents. "
        + _REMEDIES
    )


class Gate(Bernoulli):
    r"""Bernoulli gate whose log-mass is extended linearly to relaxed values in [0, 1].

    :math:`\log p(z) = z \log\gamma + (1 - z)\log(1 - \gamma)`, the Bernoulli mass at 0 and 1. The extension lets one
    model serve hard and soft gates; at hard values nothing differs from :class:`~pyro.distributions.Bernoulli`.

    Gates offer no enumeration: Pyro enumerates the members of a plate independently of each other, and the layer that
    reads them mixes them.

    :param logits: log-odds of inclusion, any batch shape.
    """

    support = gate_values
    # Claimed, so that whatever enumerates asks for the support and is refused, and does not pass the site by.
    has_enumerate_support = True

    def __init__(self, logits: Tensor, *, validate_args: bool | None = None) -> None:
        super().__init__(logits=logits, validate_args=validate_args)

    def expand(self, batch_shape: _size, _instance: Gate | None = None) -> Gate:
        """Expand the batch shape, keeping the class (so that the registered KL is still found)."""
        return type(self)(self.logits.expand(batch_shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-mass at ``value`` in [0, 1], shape of the broadcast of value and logits."""
        if self._validate_args:
            self._validate_sample(value)
        logits, value = torch.broadcast_tensors(self.logits, value)
        return -binary_cross_entropy_with_logits(logits, value, reduction="none")

    def enumerate_support(self, expand: bool = True) -> NoReturn:
        """Refuse.

        :raises ConfigurationError: always.
        """
        raise ConfigurationError(
            "Gate: gates cannot be enumerated site by site. Pyro takes the members of a plate for independent given the"
            " rest, but the nodes of a layer are read together, so that the sum over each gate alone is wrong. "
            + _REMEDIES
            + ' For other discrete sites of the same model write infer={"enumerate": "parallel"} at them, and leave out'
            " config_enumerate."
        )


class RelaxedGate(Gate):
    r"""Guide's gate: a reparameterised draw that scores Bernoulli mass.

    :param temperature: positive scalar tensor :math:`T`; lower is closer to the Bernoulli and noisier in gradient.
    :param logits: log-odds of inclusion, any batch shape.
    :param hard: draw in {0, 1} with the relaxed gradient (default), or the relaxed value in (0, 1).

    A hard gate's draw is *exactly* 0.0 or 1.0 in the forward pass, so ``log_prob`` is its Bernoulli mass and
    ``Trace_ELBO`` mixes no density with a mass.
    """

    has_rsample = True
    has_enumerate_support = False

    def __init__(
        self,
        temperature: Tensor,
        logits: Tensor,
        *,
        hard: bool = True,
        validate_args: bool | None = None,
    ) -> None:
        self.temperature = temperature
        self.hard = hard
        super().__init__(logits, validate_args=validate_args)

    def expand(self, batch_shape: _size, _instance: Gate | None = None) -> RelaxedGate:
        """Expand the batch shape, keeping the temperature and the class."""
        return type(self)(
            self.temperature, self.logits.expand(batch_shape), hard=self.hard, validate_args=False
        )

    def rsample(self, sample_shape: _size = Size()) -> Tensor:  # noqa: B008
        """Draw gates of shape ``sample_shape + batch_shape``, differentiable in the logits."""
        uniform = torch.rand_like(self.logits.expand(self._extended_shape(sample_shape)))
        noisy = self.logits + torch.logit(uniform, torch.finfo(uniform.dtype).eps)
        soft = torch.sigmoid(noisy / self.temperature)
        if not self.hard:
            return soft
        return (noisy > 0).to(soft.dtype) + (soft - soft.detach())
