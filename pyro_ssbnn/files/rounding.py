r"""How far two evaluations of a network may lie apart when nothing but rounding differs.

Runtimes add the terms of an inner product in different orders. With unit roundoff u, the error of one of n terms is
below :math:`\lambda\sqrt{n}\,u\,|w||h|` with probability at least :math:`1 - 2 e^{-\lambda^2/2}` (Higham and Mary, "A
new approach to probabilistic rounding error analysis", SIAM J. Sci. Comput. 41(5), 2019). The errors of different sums
are independent, so that their variances v add up through the squared weights; those of elementary functions, d, need
not be, and add up through the absolute ones:

.. math::
    v_l &= L^2\,(W_l^2 v_{l-1} + 2 (n_l + 1) u^2 (|W_l||h_{l-1}| + |b_l|)^2)\\
    d_l &= L\,|W_l| d_{l-1} + 2 c u (1 + |a_l|)

for two evaluations, pre-activations a, and activations of slope at most L, computed to within c u (1 + |a|). The
tolerance is :math:`\lambda\sqrt{v} + d`.

Networks of images are put together in many ways, so there the same model is simulated: noise of each layer's own
standard deviation, :math:`\sqrt{2 (n_l + 1)}\,u\,(|W_l||h_{l-1}| + |b_l|)`, is added in float64 to what the layer
gives, and :math:`\pm 2 c u (1 + |a_l|)` to the activations; the tolerance is :math:`\lambda` times the largest root
mean square change of an output.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.models import (
    CompactImageNetwork,
    CompactLinear,
    CompactMLP,
    CompactNetwork,
    compact_from_state,
)

__all__ = ["rounding_tolerance"]

_SLOPE = 1.13  # of GELU, the steepest of the activations
_FUNCTION = 8.0  # unit roundoffs: vector libraries promise 4 units in the last place
_FALSE_ALARM = 1e-9
_SIMULATIONS = 8


@torch.no_grad()
def rounding_tolerance(network: CompactNetwork, x: Tensor) -> Tensor:
    """Largest difference at x that rounding explains, but for one comparison in 10^9.

    :param network: a pruned perceptron or image network.
    :param x: predictors ``[N, p]``.
    :returns: one tolerance for each value of ``network(x)``, ``[N, K]`` or ``[S, N, K]``, float64.
    :raises ConfigurationError: for another kind of network.
    """
    if isinstance(network, CompactMLP):
        return _of_perceptron(network, x)
    if isinstance(network, CompactImageNetwork):
        return _of_image_network(network, x)
    raise ConfigurationError(
        f"rounding_tolerance: expected a pruned perceptron or image network; got {type(network).__name__}."
    )


def _of_perceptron(network: CompactMLP, x: Tensor) -> Tensor:
    unit = torch.finfo(x.dtype).eps / 2
    h = (x if network.input_index is None else x.index_select(-1, network.input_index)).double()
    variance, shift = torch.zeros_like(h), torch.zeros_like(h)
    for number, layer in enumerate(network.layers, 1):
        weight = layer.get_buffer("weight").double().mT
        bias = layer.get_buffer("bias").double().unsqueeze(-2)
        terms = weight.shape[-2] + 1
        size = h.abs() @ weight.abs() + bias.abs()
        variance = variance @ weight**2 + 2 * terms * (unit * size) ** 2
        shift = shift @ weight.abs()
        h = h @ weight + bias
        if number < len(network.layers):
            variance = _SLOPE**2 * variance
            shift = _SLOPE * shift + 2 * _FUNCTION * unit * (1 + h.abs())
            h = network.phi(h)
    sigmas = math.sqrt(2 * math.log(2 * h.numel() / _FALSE_ALARM))
    return sigmas * variance.sqrt() + shift


def _of_image_network(network: CompactImageNetwork, x: Tensor) -> Tensor:
    unit = torch.finfo(x.dtype).eps / 2
    exact = compact_from_state(network.to_config(), network.state_dict()).double().eval()
    f = exact(x.double())
    absolute = compact_from_state(network.to_config(), network.state_dict()).double()
    for name, buffer in absolute.named_buffers():
        if name.startswith("layers."):
            buffer.copy_(buffer.abs())
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

    image = cast("CompactImageNetwork", exact)
    others = cast("CompactImageNetwork", absolute)
    twins = {layer: others.layers[name] for name, layer in image.layers.items()}
    for layer in twins:
        layer.register_forward_hook(round_layer)
    image.phi.register_forward_hook(round_function)
    changes = torch.stack([exact(x.double()) - f for _ in range(_SIMULATIONS)])
    sigmas = math.sqrt(2 * math.log(2 * f.numel() / _FALSE_ALARM))
    return (sigmas * changes.square().mean(0).sqrt().max()).expand_as(f)
