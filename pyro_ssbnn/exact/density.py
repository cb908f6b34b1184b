r"""The log joint density of a network under all its structures at once.

With continuous latents :math:`\theta` (weights, scales, noise), gates z and targets y,

.. math:: p(\theta, y) = p(\theta)\, \sum_z p(z)\, p(y \mid \theta, z),\qquad
          p(z \mid \theta, y) \propto p(z)\, p(y \mid \theta, z).

The model runs once for all structures: its gate sites are conditioned on the whole table, ``[2^K, size]``, whose first
dimension stands left of the model's own plates and is carried by broadcasting, so that :math:`\theta` is shared by all
structures and its density is counted once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.trace_struct import Trace
from torch import Tensor
from torch.distributions import biject_to
from torch.func import grad_and_value, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.exact.structures import Structures
from pyro_ssbnn.structure.network import Network
from pyro_ssbnn.traces import random_sites

__all__ = ["EnumeratedDensity", "Scored"]

_CHUNK_ELEMENTS = (
    2**20
)  # activations of one layer held at a time; 8 MB, times the operations of a pass

Scored = tuple[Tensor, Tensor, Tensor]
"""Gradient ``[B, dim]``, log-prior ``[B]`` and log-likelihood ``[B]`` of B points."""


class EnumeratedDensity:
    """Log-density of a small network's continuous latents in unconstrained coordinates, gates summed out.

    :param model: a network of this package with at most ``MAX_GATES`` gates.
    :param x: predictors ``[N, p]``; everything is computed in float64 on the CPU.
    :param y: targets ``[N]`` (``[N, K]`` for several), to find shapes; scored targets are handed over at every call.
    :param structures: those to sum over; all by default.
    :raises ConfigurationError: for too many gates, or a network that structures cannot be broadcast through.
    """

    def __init__(
        self, model: Network, x: Tensor, y: Tensor, structures: Structures | None = None
    ) -> None:
        self.model, self.x = model, x
        self.structures = Structures.of(model.description) if structures is None else structures
        self._gates = self.structures.gates()
        trace = poutine.trace(model).get_trace(x, y)
        nodes: dict[str, Any] = {**trace.nodes}
        latent = [n for n in random_sites(trace) if not nodes[n]["is_observed"]]
        self.sites = tuple(name for name in latent if name not in self._gates)
        self.transforms, self.shapes = {}, {}
        for name in self.sites:
            support = nodes[name]["fn"].support
            if support.is_discrete:
                raise ConfigurationError(
                    f"EnumeratedDensity: site {name!r} is discrete but no gate; only gates are enumerated."
                )
            self.transforms[name] = biject_to(support)
            self.shapes[name] = self.transforms[name].inverse_shape(nodes[name]["value"].shape)
        self._splits = [math.prod(self.shapes[name]) for name in self.sites]
        self._check_broadcasting(y)

    @property
    def dim(self) -> int:
        """Number of unconstrained coordinates."""
        return sum(self._splits)

    @property
    def row_elements(self) -> int:
        """Largest number of activations in one layer, over all structures and rows."""
        widths = [group.size for group in self.model.description.groups]
        return len(self.structures) * len(self.x) * max(widths)

    def constrained(self, point: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Latents by site, ``[..., *site]``, of points ``[..., dim]``, and the log-Jacobian, ``[...]``."""
        latents, jacobian = {}, point.new_zeros(point.shape[:-1])
        for name, part in zip(self.sites, point.split(self._splits, -1), strict=True):
            raw = part.reshape(point.shape[:-1] + self.shapes[name])
            latents[name] = self.transforms[name](raw)
            change = self.transforms[name].log_abs_det_jacobian(raw, latents[name])
            jacobian = jacobian + change.reshape((*point.shape[:-1], -1)).sum(-1)
        return latents, jacobian

    def unconstrained(self, values: Mapping[str, Tensor]) -> Tensor:
        """Points ``[S, dim]`` of latents by site: S draws, each of the site's own shape but for dimensions of 1."""
        parts = []
        for name in self.sites:
            transform = self.transforms[name]
            shape = transform.forward_shape(self.shapes[name])
            value = values[name].double().cpu().reshape(-1, *shape)
            parts.append(transform.inv(value).reshape(len(value), -1))
        return torch.cat(parts, -1)

    def log_terms(self, latents: Mapping[str, Tensor], y: Tensor) -> tuple[Tensor, Tensor]:
        r"""Score one value of the latents under every structure.

        :param latents: constrained values of all continuous sites, in their own shapes.
        :returns: :math:`\log p(\theta)`, a scalar, and :math:`\log p(z) + \log p(y | \theta, z)`, ``[2^K]``.
        """
        conditioned = poutine.condition(self.model, data={**latents, **self._gates})
        trace = poutine.trace(conditioned).get_trace(self.x, y)
        prior = y.new_zeros((), dtype=torch.float64)
        weights = y.new_zeros(len(self.structures), dtype=torch.float64)
        if self.structures.log_weight is not None:
            weights = weights + self.structures.log_weight
        for name, score in _scores(trace).items():
            if name in self.shapes:
                prior = prior + score.sum()
            else:  # a gate, or the targets: structures lead, unless there is but one
                weights = weights + score.reshape(-1, score.shape[-1]).sum(-1)
        return prior, weights

    def log_weights(self, points: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Score many points ``[B, dim]``: log p(theta) in the latents' own coordinates, ``[B]``, and ``[B, 2^K]``.

        :param y: targets of each point, ``[B, N]`` (``[B, N, K]``).
        """

        def score(point: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            return self.log_terms(self.constrained(point)[0], targets)

        size = max(1, _CHUNK_ELEMENTS // self.row_elements)
        with torch.no_grad(), pyro.validation_enabled(False):
            parts = [
                vmap(score)(*part) for part in zip(points.split(size), y.split(size), strict=True)
            ]
        prior, weights = zip(*parts, strict=True)
        return torch.cat(prior), torch.cat(weights)

    def traced_score(self, count: int, y: Tensor) -> Callable[[Tensor, Tensor, Tensor], Scored]:
        r"""Trace the tempered log-density of ``count`` points to a graph of plain tensor operations.

        :math:`\log p(\theta) + \log|J| + \beta \log p(y | \theta)`, gates summed out; Pyro's handlers run once, here.

        :param y: targets of each point, ``[count, N]`` (``[count, N, K]``); later ones have the same shape.
        :returns: a function of points ``[count, dim]``, :math:`\beta` ``[count]`` and y.
        """

        def tempered(point: Tensor, beta: Tensor, y: Tensor) -> tuple[Tensor, Any]:
            latents, jacobian = self.constrained(point)
            prior, weights = self.log_terms(latents, y)
            prior, likelihood = prior + jacobian, weights.logsumexp(0)
            return prior + beta * likelihood, (prior, likelihood)

        def score(points: Tensor, beta: Tensor, y: Tensor) -> Scored:
            gradient, (_, parts) = vmap(grad_and_value(tempered, has_aux=True))(points, beta, y)
            return gradient, *parts

        fits = max(1, _CHUNK_ELEMENTS // self.row_elements)
        chunk = max(k for k in range(1, count + 1) if count % k == 0 and k <= max(fits, 1))
        points = y.new_zeros(chunk, self.dim, dtype=torch.float64)
        with pyro.validation_enabled(False):
            graph = make_fx(score)(points, points.new_ones(chunk), y[:chunk])

        def run(points: Tensor, beta: Tensor, y: Tensor) -> Scored:
            with torch.no_grad():
                parts = [
                    graph(*part)
                    for part in zip(
                        points.split(chunk), beta.split(chunk), y.split(chunk), strict=True
                    )
                ]
            gradient, prior, likelihood = (torch.cat(column) for column in zip(*parts, strict=True))
            return gradient, prior, likelihood

        return run

    def _check_broadcasting(self, y: Tensor) -> None:
        """Hold the vectorised scores of the first and the last structure against runs of their own."""
        point = torch.linspace(-0.5, 0.5, self.dim, dtype=torch.float64)
        latents, _ = self.constrained(point)
        prior, weights = self.log_terms(latents, y)
        if self.structures.log_weight is not None:
            weights = weights - self.structures.log_weight
        for index in (0, len(self.structures) - 1):
            gates = self.structures.gates(torch.tensor(index))
            conditioned = poutine.condition(self.model, data={**latents, **gates})
            expected = sum(
                s.sum() for s in _scores(poutine.trace(conditioned).get_trace(self.x, y)).values()
            )
            if not torch.isclose(prior + weights[index], torch.as_tensor(expected), rtol=1e-8):
                raise ConfigurationError(
                    "EnumeratedDensity: gates of shape [structures, size] do not broadcast through this network;"
                    " its layers must accept leading dimensions in their gates and inputs, as dense layers do."
                )


def _scores(trace: Trace) -> dict[str, Tensor]:
    """Log-probabilities of all random sites, scaled and masked as the model says."""
    nodes: dict[str, Any] = {**trace.nodes}
    return {
        name: scale_and_mask(
            nodes[name]["fn"].log_prob(nodes[name]["value"]),
            scale=nodes[name]["scale"],
            mask=nodes[name]["mask"],
        )
        for name in random_sites(trace)
    }
