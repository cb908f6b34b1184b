r"""Local reparameterisation: pre-activations are drawn in place of weights.

Layers call effectful operations such as :func:`~pyro_ssbnn.layers.affine`; inside :class:`LocalReparameterization` the
map of a *random* weight matrix is not computed from a draw of the weights but drawn itself, row by row of the input
(Kingma, Salimans and Welling 2015):

.. math:: x^\top u \sim N\big(x^\top\mu,\ (x^2)^\top\sigma^2\big)

The draws of different rows are then independent, which takes most of the noise out of the gradient of the gates.

For a convolution the same is done at each output position: every pre-activation has the mean and variance that the
weights give it, but positions of one image, which share their weights, are drawn as if they did not. The estimate is
then one of a bound on a network with independent noise at each position, as is usual for convolutions; draws of the
weights estimate the bound itself.
"""

from __future__ import annotations

from inspect import unwrap
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor

from pyro_ssbnn.distributions import GatedNormal
from pyro_ssbnn.layers.affine import affine
from pyro_ssbnn.layers.convolution import convolution
from pyro_ssbnn.layers.linear_terms import linear_terms
from pyro_ssbnn.layers.normalization import scale_and_shift

__all__ = ["LocalReparameterization"]

_DENSE = (unwrap(affine), unwrap(linear_terms))


class LocalReparameterization(Messenger):
    """Draw pre-activations in place of weights, wherever the guide's weights are :class:`GatedNormal`.

    Wraps the running of *both* guide and model. Weight sites are not drawn at all (their value is the mean), so only
    objectives that take the KL in closed form may be used with it, as :class:`~pyro_ssbnn.AnalyticELBO` does.
    """

    def __enter__(self) -> LocalReparameterization:
        self._slabs: dict[int, tuple[Tensor, GatedNormal]] = {}
        return super().__enter__()

    def _pyro_sample(self, msg: Message) -> None:
        slab = msg["fn"]
        if isinstance(slab, GatedNormal) and msg["value"] is None and not msg["is_observed"]:
            # A view of the mean: cheap, and an identity by which the model's layer finds the slab.
            value = slab.loc.expand(slab.shape())
            msg["value"], msg["done"] = value, True
            self._slabs[id(value)] = (value, slab)  # the value is kept alive, so is its id

    def _pyro_affine(self, msg: Message) -> None:
        x, weight, *rest = msg["args"]
        if id(weight) not in self._slabs:
            return
        weight, slab = self._slabs[id(weight)]
        transform: Any = msg["fn"]  # linear in the weights, and in x but for the bias
        loc, log_scale, shape = weight, slab.log_scale.expand(slab.shape()), ()
        if transform in _DENSE:
            # One product for all particles, but noise for each.
            loc, log_scale, shape = slab.loc, slab.log_scale, (*slab.batch_shape[:-1], 1, 1)
        mean = transform(x, loc, *rest)
        variance = transform(x.square(), (2 * log_scale).exp(), *rest)
        # A map without bias has variance 0 where it sees nothing but zeros: the root has no gradient there.
        deviation = variance.clamp_min(torch.finfo(variance.dtype).tiny).sqrt()
        noise = mean.new_empty(torch.broadcast_shapes(mean.shape, shape)).normal_()
        msg["value"] = torch.addcmul(mean, deviation, noise)
        msg["done"] = True

    def _pyro_gated_convolution(self, msg: Message) -> None:
        x, weight, amplitude, geometry = msg["args"]
        if id(weight) not in self._slabs:
            return
        # Drawn first, then gated: a closed filter's draw is what its gate's gradient needs.
        msg["value"] = convolution(x, weight, geometry) * amplitude[..., None, :, None, None]
        msg["done"] = True

    def _pyro_batch_norm(self, msg: Message) -> None:
        y, weight, amplitude, statistics = msg["args"]
        if id(weight) not in self._slabs:
            return
        f = scale_and_shift(statistics(y), weight)  # the affine map is drawn, so it stands alone
        msg["value"] = f if amplitude is None else f * amplitude[..., None, :, None, None]
        msg["done"] = True
