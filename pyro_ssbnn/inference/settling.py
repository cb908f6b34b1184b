r"""The last phase of a linear network's fit: joint laws of predictors at their optimum, without sampling.

:mod:`pyro_ssbnn.inference.block_ascent` finds the laws of gates and weights given the precision of noise and slab.
In turns with it, the LogNormal law of the noise variance under an InverseGamma(a, rate b) prior has the optimum

.. math:: E[1/\sigma^2] = \frac{N/2 + a}{E\lVert y - f\rVert^2/2 + b},\qquad v^2 = \frac{1}{N/2 + a},

and the laws of slab scales t follow the gradient of their part of the bound. Two families are tried where there is a
slab scale, and that of the higher bound is kept: weights u independent of t, which suits scales that the data leave
open, and effective weights t u independent of t, which suits weights that the data know. With a the mean of t (1 if
centred) and b that of its square, the linear model sees targets :math:`(a/b) y`, a noise precision
:math:`b E[1/\sigma^2]` and a slab precision :math:`1/\sigma_0^2` (:math:`E[t^{-2}]/\sigma_0^2` if centred).
"""

from __future__ import annotations

import math
from copy import deepcopy
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides.block import BlockGuide
from pyro_ssbnn.guides.joint_law import JointLaw
from pyro_ssbnn.inference.block_ascent import BlockAscent, Fitted, Regression, correlated_blocks
from pyro_ssbnn.inference.elbo import AnalyticELBO
from pyro_ssbnn.inference.guards import check_data
from pyro_ssbnn.inference.training_rows import require_in_memory
from pyro_ssbnn.isolation import isolated
from pyro_ssbnn.posterior.draws import site_values
from pyro_ssbnn.posterior.weights import amplitudes
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.match import require_match
from pyro_ssbnn.structure.network import Network

__all__ = ["settle"]

_ROUNDS = 12  # of blocks, noise and slab scales
_STILL = 3e-3  # relative change of what the linear model takes from the other laws, below which rounds end
_DRAWS = 256  # of the slab scale
_STEPS = 15  # of its law in a round
_RATE = 0.1


def settle(model: Network, guide: Guide, x: Tensor, y: Tensor, *, seed: int = 0) -> None:
    """Bring a :class:`~pyro_ssbnn.guides.BlockGuide` to the optimum of its joint laws, given data; ``fit`` does.

    The laws start from what the guide was trained to. Its trained weights and gates stay beside them; the laws of noise
    and slab scales are changed.

    :param x: predictors ``[N, p]``.
    :param y: targets, ``[N]`` (``[N, K]`` for several).
    :param seed: of draws of the slab scale; the caller's random state is left untouched.
    :raises ConfigurationError: for another guide, or one of another network.
    :raises DataError: for data that do not fit the model.
    """
    require_match("settle", model, guide)
    if not isinstance(guide, BlockGuide):
        raise ConfigurationError(
            f"settle: expected a BlockGuide, which has joint laws; got {type(guide).__name__}."
        )
    require_in_memory("settle", x)
    check_data("settle", model, x, y)
    like = next(guide.parameters())
    with isolated(seed, like):
        guide.release()
        begun = {name: value.clone() for name, value in guide.state_dict().items()}
        runs = [_Settling(model, guide, x.to(like), y.to(like), False, seed).run()]
        if guide.mean_slab_scale(model.description.groups[0].name) is not None:
            guide.load_state_dict(begun)
            runs.append(_Settling(model, guide, x.to(like), y.to(like), True, seed).run())
        best = max(runs, key=lambda run: run.bound)
        guide.load_state_dict(best.latents)
        guide.take_law(best.law)


class _Run(NamedTuple):
    law: JointLaw
    latents: dict[str, Tensor]
    bound: float


class _Settling:
    """One run, in double precision; the guide holds the laws of noise and slab scales."""

    def __init__(
        self, model: Network, guide: BlockGuide, x: Tensor, y: Tensor, centred: bool, seed: int
    ) -> None:
        self.model, self.guide, self.centred, self.seed = model, guide, centred, seed
        self.group = model.description.groups[0]
        self.likelihood: Any = model.likelihood
        inputs = model.description.inputs
        self.row = (x[:1], y[:1])
        like = guide.temperature.new_zeros(len(y), self.group.size)
        _, target, weights = self.likelihood.unpacked(like, self.likelihood.as_target(y, like))
        self.y = target.double().reshape(len(y), -1)
        weights = self.y.new_ones(len(y)) if weights is None else weights.double()
        mean = guide.mean_weights(self.group.name).double()[:, :-1]
        inclusion = guide.inclusion()[inputs.name].double()
        mean = mean * inputs.spread(inclusion)
        unit = guide.mean_slab_scale(self.group.name)
        if unit is not None and not centred:
            mean = mean / unit.double().unsqueeze(-1)
        blocks = correlated_blocks(x, inputs.columns)
        start = (blocks, mean, inclusion)
        self.ascent = BlockAscent(model.description, x.double(), self.y, weights, *start)
        self.rows, self.squares = self.ascent.rows, self.ascent.y.square().sum(0)

    def run(self) -> _Run:
        """Alternate between blocks and the laws of noise and slab scales."""
        given = self._given()
        for _ in range(_ROUNDS):
            self.ascent.ascend(given)
            law, fitted = self.ascent.law(given, self.centred)
            self._follow(law, fitted)
            before, given = torch.stack(given), self._given()
            moved = (torch.stack(given) - before).abs() > _STILL * before.abs().clamp_min(_STILL)
            if not moved.any():
                break
        state = {name: value.clone() for name, value in self.guide.state_dict().items()}
        return _Run(law, state, float(self._bound(law, fitted)))

    def _given(self) -> Regression:
        noise, _ = self._noise()
        size, scale = self.group.size, self.group.prior.scale
        one = self.y.new_ones(size)
        if self._unit() is None:
            return Regression(noise, one, one / scale**2, one * math.log(scale))
        unit = self._unit().double()  # type: ignore[union-attr]
        if self.centred:
            slab = (unit**-2).mean(0) / scale**2
            log_slab = unit.log().mean(0) + math.log(scale)
            return Regression(noise, one, slab.expand(size), log_slab.expand(size))
        mean, square = unit.mean(0).expand(size), unit.square().mean(0).expand(size)
        return Regression(noise * square, mean / square, one / scale**2, one * math.log(scale))

    def _noise(self) -> tuple[Tensor, Tensor]:
        """E[1/sigma^2] and E log sigma^2 of each target, ``[size]``."""
        if self.likelihood.scale is not None:
            variance = self.y.new_full((self.group.size,), self.likelihood.scale**2)
            return 1 / variance, variance.log()
        law: Any = self.guide.noise.variance  # type: ignore[union-attr]
        loc, scale = law.loc.double(), law.log_scale.double().exp()
        precision = (-loc + 0.5 * scale.square()).exp()
        return precision.expand(self.group.size), loc.expand(self.group.size)

    def _unit(self) -> Tensor | None:
        """Draws of the slab scale t, ``[S, size]``, always by the same random numbers; None for t = 1."""
        like = self.guide.temperature
        with isolated(self.seed, like, grad=torch.is_grad_enabled()):
            with pyro.plate("draws", _DRAWS, dim=-2):
                trace = poutine.trace(self.guide).get_trace()
            return amplitudes(self.group, site_values(trace))

    def _follow(self, law: JointLaw, fitted: Fitted) -> None:
        """Bring noise and slab scales to their optimum given the law."""
        unit = self._unit()
        if self.likelihood.scale is None:
            shape = 0.5 * self.rows + self.likelihood.concentration
            residuals = self._squared_residuals(unit, fitted)
            precision = shape / (0.5 * residuals + self.likelihood.rate)
            noise: Any = self.guide.noise.variance  # type: ignore[union-attr]
            noise.log_scale.fill_(-0.5 * math.log(shape))
            noise.loc.copy_((0.5 / shape - precision.log()).reshape(noise.loc.shape))
        if unit is not None:
            self._follow_scales(law, fitted)

    def _squared_residuals(self, unit: Tensor | None, fitted: Fitted) -> Tensor:
        """E of the sum of squared residuals, ``[size]``."""
        if unit is None or self.centred:
            mean = square = self.y.new_ones(self.group.size)
        else:
            mean, square = unit.mean(0), unit.square().mean(0)
        return self.squares - 2 * mean * fitted.cross + square * fitted.squares

    def _bound(self, law: JointLaw, fitted: Fitted) -> Tensor:
        """The bound on the log evidence, by the same draws of the slab scale at every call."""
        precision, log_variance = self._noise()
        self.guide.release()
        residuals = self._squared_residuals(self._unit(), fitted)
        each = self.rows * (log_variance + math.log(2 * math.pi)) + precision * residuals
        self.guide.take_law(law)
        grad = torch.is_grad_enabled()
        with isolated(self.seed, self.guide.temperature, grad=grad):
            x, y = self.row
            target = self.likelihood.as_target(y, x)
            terms = AnalyticELBO(_DRAWS).terms(self.model, self.guide, x, target)
        self.guide.release()
        return -0.5 * each.sum() - torch.stack([*terms.kl.values()]).sum()

    def _follow_scales(self, law: JointLaw, fitted: Fitted) -> None:
        noise = [] if self.guide.noise is None else [*self.guide.noise.parameters()]
        latents = self.guide.parameter_groups()["latents"]
        parameters = [p for p in latents if all(p is not other for other in noise)]
        optimizer = torch.optim.Adam(parameters, lr=_RATE)
        decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, _STEPS)
        law = deepcopy(law).to(self.guide.temperature)
        for _ in range(_STEPS):
            with torch.enable_grad():
                loss = -self._bound(law, fitted)
                gradients = torch.autograd.grad(loss, parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
            decay.step()
        optimizer.zero_grad()
