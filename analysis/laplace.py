r"""The evidence of a set of predictors in a perceptron, by Laplace's method around what a fit has found.

Given a set z of columns, the open nodes and the slab scales, with w the weights that are there,

.. math:: \log p(y \mid z) \approx \log p(y \mid \hat w) + \log p(\hat w \mid z) + \tfrac{d}{2}\log 2\pi
          - \tfrac12\log\lvert J^\top H J + P\rvert,

:math:`\hat w` the mode that Levenberg-Marquardt steps reach from the fit's own weights, J the outputs' derivatives
there, H the curvature of the negative log-likelihood in the outputs (negative parts cut off) and P the prior precision:
the generalised Gauss-Newton form of Laplace's approximation (MacKay 1992, Neural Computation 4, 448-472). A noise
variance with an InverseGamma prior is integrated out.

A further member, with derivatives :math:`J_m` and precision :math:`P_m`, is judged to second order around the mode,

.. math:: \tfrac12 b^\top A^{-1} b + \tfrac12 \log\lvert P_m\rvert - \tfrac12\log\lvert A\rvert,\qquad
          b = J_m^\top g,\quad
          A = J_m^\top H J_m + P_m - J_m^\top H J\,(J^\top H J + P)^{-1} J^\top H J_m,

g the gradient of the log-likelihood in the outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyro_ssbnn.analysis.open_perceptron import OpenPerceptron, Weights
from pyro_ssbnn.inference import Fit
from pyro_ssbnn.likelihoods import GaussianLikelihood
from pyro_ssbnn.posterior.draws import evaluating, site_values, trace_draws
from pyro_ssbnn.posterior.networks import log_likelihood

__all__ = ["Mode", "SetEvidence"]

_STEPS = 100
_TRIES = 8
_LEAST = 1e-4  # damping, as a share of the curvature
_STILL = 1e-3  # nats
_EARLY = 3  # steps after which a hopeless set is given up
_LATENT_DRAWS = 64


class _Slopes(NamedTuple):
    """Log-likelihood, its gradient ``[N, K]`` and the negative of its curvature ``[N, K, K]``, in the outputs."""

    value: Tensor
    gradient: Tensor
    curvature: Tensor


@dataclass(frozen=True)
class Mode:
    """Where Laplace's approximation of a set is taken.

    :param weights: the mode.
    :param evidence: log p(y | z), up to a constant that all sets share.
    """

    weights: Weights
    evidence: float


class SetEvidence:
    """Log evidence of sets of columns, given data.

    :param network: what the fit leaves open.
    :param x: predictors ``[N, C]``, float64.
    :param y: their targets.
    :param share: rows that each of these stands for.
    """

    def __init__(
        self, fit: Fit, network: OpenPerceptron, x: Tensor, y: Tensor, share: float
    ) -> None:
        self.network, self.x, self.share = network, x, share
        self._model, likelihood = fit.model, fit.model.likelihood
        self._y = likelihood.as_target(y, x)
        self._profiled = type(likelihood) is GaussianLikelihood and likelihood.scale is None
        self._latents = {} if self._profiled else _medians(fit)

    def mode(self, start: Weights, columns: Tensor, linear: Tensor, least: float) -> Mode:
        """The mode of a set, from these weights on.

        :param columns: which are in the set, ``[C]``; ``linear`` those of linear terms.
        :param least: evidence below which it need not be found exactly.
        """
        network = self.network
        masks = network.masks(columns, linear)
        precision = network.flat(network.precision, masks)
        at, damping = network.flat(start, masks), 10 * _LEAST
        score = self._score(at, masks, precision)
        for step in range(_STEPS):
            f, by_weights, _ = network.jacobian(network.shaped(at, masks), self.x, masks)
            slopes = self._slopes(f)
            normal = self._normal(by_weights, slopes)
            gradient = _gradient(by_weights, slopes) - precision * at
            if step == _EARLY and self._laplace(score, normal, precision) < least:
                break
            before = score
            diagonal = normal.diagonal() + precision
            for _ in range(_TRIES):
                matrix = normal + torch.diag(precision + damping * diagonal)
                move = torch.linalg.solve(matrix, gradient)
                new = self._score(at + move, masks, precision)
                if new > score:
                    at, score, damping = at + move, new, max(damping / 10, _LEAST)
                    break
                damping *= 10
            if score - before < _STILL:
                break
        f, by_weights, _ = network.jacobian(network.shaped(at, masks), self.x, masks)
        normal = self._normal(by_weights, self._slopes(f))
        evidence = self._laplace(score, normal, precision)
        return Mode(network.shaped(at, masks), float(evidence))

    def gains(
        self, mode: Mode, columns: Tensor, linear: Tensor, members: Mapping[tuple[str, int], Tensor]
    ) -> dict[tuple[str, int], float]:
        """What each further member adds to the log evidence of a set, to second order; see the module.

        :param members: columns of each, by what it is of ("linear" for linear terms) and its index.
        """
        network, x = self.network, self.x
        masks = network.masks(columns, linear)
        f, by_weights, by_first = network.jacobian(mode.weights, x, masks)
        slopes = self._slopes(f)
        precision = network.flat(network.precision, masks)
        root = torch.linalg.cholesky(self._normal(by_weights, slopes) + torch.diag(precision))
        curved = torch.einsum("nok,nkd->nod", slopes.curvature, by_weights)
        eye = torch.eye(f.shape[1], dtype=x.dtype)
        found = {}
        for member, own in members.items():
            if member[0] == "linear":
                extra = (x[:, None, own, None] * eye[:, None, :]).flatten(2)
                prior = network.precision.linear[own].flatten()
            else:
                extra = (by_first.unsqueeze(-1) * x[:, None, None, own]).flatten(2)
                prior = network.precision.layers[0][:, :-1][:, own].flatten()
            matrix = self._normal(extra, slopes) + torch.diag(prior)
            cross = torch.einsum("nod,noe->de", curved, extra)
            half = torch.linalg.solve_triangular(root, cross, upper=False)
            factor = torch.linalg.cholesky(matrix - half.mT @ half)
            pull = torch.linalg.solve_triangular(
                factor, _gradient(extra, slopes).unsqueeze(-1), upper=False
            )
            gain = 0.5 * pull.square().sum() + 0.5 * prior.log().sum()
            found[member] = float(gain - factor.diagonal().log().sum())
        return found

    def _score(self, at: Tensor, masks: list[Tensor], precision: Tensor) -> Tensor:
        """Log-likelihood and log prior, the noise integrated out, up to a constant."""
        f = self.network.outputs(self.network.shaped(at, masks), self.x)
        return self._value(f) - 0.5 * (precision * at.square()).sum()

    def _laplace(self, score: Tensor, normal: Tensor, precision: Tensor) -> Tensor:
        curvature = torch.linalg.slogdet(normal + torch.diag(precision))[1]
        return score + 0.5 * precision.log().sum() - 0.5 * curvature

    def _normal(self, by_weights: Tensor, slopes: _Slopes) -> Tensor:
        """J' H J."""
        if slopes.curvature.shape[-1] == 1:
            flat = by_weights.squeeze(1)
            return (flat * slopes.curvature[:, 0]).mT @ flat
        curved = torch.einsum("nok,nkd->nod", slopes.curvature, by_weights)
        return by_weights.flatten(0, 1).mT @ curved.flatten(0, 1)

    def _value(self, f: Tensor) -> Tensor:
        if not self._profiled:
            values = self._latents
            return self.share * log_likelihood(self._model, values, f.unsqueeze(0), self._y)[0]
        rate, shape, _, _ = self._residuals(f)
        return -(shape * rate.log()).sum()

    def _residuals(self, f: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rate and shape of the noise's InverseGamma posterior, ``[K]``, residuals ``[N, K]`` and weights ``[N]``."""
        likelihood: Any = self._model.likelihood
        f, target, weight = likelihood.unpacked(f, self._y)
        residuals = target.reshape(f.shape) - f
        weight = torch.ones(len(f), dtype=f.dtype) if weight is None else weight
        weight = self.share * weight
        rate = likelihood.rate + 0.5 * (weight.unsqueeze(-1) * residuals.square()).sum(0)
        return rate, likelihood.concentration + 0.5 * weight.sum(), residuals, weight

    def _slopes(self, f: Tensor) -> _Slopes:
        if self._profiled:
            rate, shape, residuals, weight = self._residuals(f)
            each = weight.unsqueeze(-1) * (shape / rate)
            return _Slopes(self._value(f), each * residuals, torch.diag_embed(each))
        with torch.enable_grad():
            f = f.detach().requires_grad_()
            value = self._value(f)
            gradient = torch.autograd.grad(value, f, create_graph=True)[0]
            rows = [
                torch.autograd.grad(gradient[:, k].sum(), f, retain_graph=True)[0]
                for k in range(f.shape[1])
            ]
        curvature = -torch.stack(rows, 1).detach()
        size, axes = torch.linalg.eigh(curvature)
        curvature = axes @ torch.diag_embed(size.clamp_min(0)) @ axes.mT
        return _Slopes(value.detach(), gradient.detach(), curvature)


def _gradient(by_weights: Tensor, slopes: _Slopes) -> Tensor:
    return torch.einsum("no,nod->d", slopes.gradient, by_weights)


def _medians(fit: Fit) -> dict[str, Tensor]:
    """Posterior medians of the likelihood's own latents, as one draw of them."""
    names = fit.model.likelihood.latent_names
    if not names:
        return {}
    with torch.no_grad(), evaluating(fit.model, fit.guide):
        values = site_values(trace_draws(fit.guide, _LATENT_DRAWS))
    sites = [fit.model.description.site(name) for name in names]
    return {site: values[site].double().cpu().median(0, keepdim=True).values for site in sites}
