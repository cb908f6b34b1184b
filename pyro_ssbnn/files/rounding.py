r"""How far two evaluations of a network may lie apart when nothing but rounding differs.

Runtimes add the terms of an inner product in different orders. With unit roundoff u, the error of one of n terms is of
the order of :math:`\sqrt{n}\,u\,|w||h|` (Higham and Mary, "A new approach to probabilistic rounding error analysis",
SIAM J. Sci. Comput. 41(5), 2019). Networks are put together in many ways, so this model is simulated: in float64, noise
of each layer's own standard deviation,

.. math:: \sqrt{2 (n_l + 1)}\,u\,(|W_l||h_{l-1}| + |b_l|)

for two evaluations, is added to what the layer gives, and :math:`\pm 2 c u (1 + |a_l|)` to activations at a, which are
computed to within c u (1 + |a|). The tolerance is the largest root mean square change of an output, times the quantile
of Student's t that a normal error exceeds, in units of a scale so estimated, once in 10^9 comparisons.
"""

from __future__ import annotations

import math
from copy import deepcopy

import torch
from scipy.stats import t
from torch import Tensor, nn

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.models import CompactLinear, CompactNetwork

__all__ = ["rounding_tolerance"]

_FUNCTION = 8.0  # unit roundoffs: vector libraries promise 4 units in the last place
_FALSE_ALARM = 1e-9
_SIMULATIONS = 16


@torch.no_grad()
def rounding_tolerance(network: CompactNetwork, x: Tensor) -> Tensor:
    """Largest difference at x that rounding explains, but for one comparison in 10^9.

    :param network: a pruned network.
    :param x: predictors ``[N, p]``.
    :returns: one tolerance for each value of ``network(x)``, ``[N, K]`` or ``[S, N, K]``, float64; all are the same.
    :raises ConfigurationError: for another kind of network.
    """
    if not isinstance(network, CompactNetwork):
        raise ConfigurationError(
            f"rounding_tolerance: expected a pruned network; got {type(network).__name__}."
        )
    unit = torch.finfo(x.dtype).eps / 2
    exact, absolute = (deepcopy(network).double().eval() for _ in range(2))
    for name, buffer in absolute.named_buffers():
        if name.startswith("layers."):
            buffer.copy_(buffer.abs())
    f = exact(x.double())
    generator = torch.Generator(x.device).manual_seed(0)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)

    def round_layer(layer: nn.Module, inputs: tuple[Tensor], out: Tensor) -> Tensor:
        weight = layer.get_buffer("weight")
        dims = 1 if isinstance(layer, CompactLinear) else 3
        terms = math.prod(weight.shape[-dims:]) + 1
        size = twins[layer](inputs[0].abs())
        return out + math.sqrt(2 * terms) * unit * size * noise(out)

    def round_function(layer: nn.Module, inputs: tuple[Tensor], out: Tensor) -> Tensor:
        return out + 2 * _FUNCTION * unit * (1 + inputs[0].abs()) * noise(out).sign()

    twins = {layer: absolute.layers[name] for name, layer in exact.layers.items()}
    for layer in twins:
        layer.register_forward_hook(round_layer)
    exact.phi.register_forward_hook(round_function)
    changes = torch.stack([exact(x.double()) - f for _ in range(_SIMULATIONS)])
    quantile = float(t.isf(_FALSE_ALARM / (2 * f.numel()), df=_SIMULATIONS))
    return (quantile * changes.square().mean(0).sqrt().max()).expand_as(f)
