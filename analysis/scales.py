r"""What a guide says without sampling: gate logits, moments of the scale latents, quantiles of the slab scale t.

With LogNormal scale latents (see :mod:`pyro_ssbnn.guides`) the slab scale is, under the guide,

========== ================================ ==========================================================
prior      slab scale t                     quantile at level p, :math:`z_p` the standard Normal's
========== ================================ ==========================================================
Gaussian   1                                1
group      :math:`\sqrt{\tau^2}`            :math:`\exp\{(m + v z_p)/2\}`, :math:`\log\tau^2 \sim N(m, v^2)`
lasso
group      :math:`(1/c^2 + 1/x)^{-1/2}`,    the same function at :math:`x = \exp(m + v z_p)`: it rises with x,
horseshoe  :math:`x = (s\tau)^2`            and :math:`\log x` is Normal, the sum of four
others     ``prior.slab_scale``             Monte Carlo with a fixed seed (the random cap :math:`c^2`, too)
========== ================================ ==========================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import singledispatch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides.members import CLOSED_LOGIT
from pyro_ssbnn.guides.mixture import MixtureGuide, named_groups
from pyro_ssbnn.guides.scales import LogMoments
from pyro_ssbnn.priors import Gaussian, GroupHorseshoe, GroupLasso, Prior
from pyro_ssbnn.selection.predictor_law import PredictorLaw
from pyro_ssbnn.structure.guide import Guide

__all__ = [
    "gate_logits",
    "inclusion_probabilities",
    "mixed_logits",
    "predictor_inclusion",
    "predictor_logits",
    "predictor_prior",
    "slab_scale_quantiles",
]


def gate_logits(guide: Guide | MixtureGuide, name: str) -> NDArray[np.float64]:
    """Posterior log-odds of inclusion of a gated group's members, ``[size]``; finite where probabilities round to 1.

    :raises ConfigurationError: for an unknown group, or one without gates; for nodes of a mixture.
    """
    if isinstance(guide, MixtureGuide) and _is_named(guide, name):
        parts = [(np.log(w), _open_logits(member, name)) for _, member, w in guide.members if w]
        return np.maximum(mixed_logits(parts), CLOSED_LOGIT)
    return guide.inclusion_logits(name).double().cpu().numpy()


def inclusion_probabilities(
    guide: Guide | MixtureGuide | PredictorLaw, name: str
) -> NDArray[np.float64]:
    """Posterior inclusion probabilities of a gated group's members in double precision, ``[size]``; 0 for removed ones.

    :raises ConfigurationError: for an unknown group, or one without gates; for nodes of a mixture.
    """
    if isinstance(guide, MixtureGuide) and _is_named(guide, name):
        return _average([(w, inclusion_probabilities(m, name)) for _, m, w in guide.members])
    if isinstance(guide, PredictorLaw):
        return guide.of_gates()[name].numpy()
    logits = guide.inclusion_logits(name).double().cpu()
    return torch.where(logits == CLOSED_LOGIT, 0.0, logits.sigmoid()).numpy()


def predictor_inclusion(guide: Guide | MixtureGuide | PredictorLaw) -> NDArray[np.float64]:
    r"""Posterior probability that each gated predictor is in the network, ``[p]``.

    With linear terms it is in when either of its gates is open: :math:`1 - (1 - \gamma_j)(1 - \gamma^{lin}_j)`, the two
    being independent under a guide. Under a mixture it is the average of that.

    :raises ConfigurationError: when predictors carry no gates.
    """
    if isinstance(guide, PredictorLaw):
        return guide.inclusion()[guide.description.inputs.name].numpy()
    if isinstance(guide, MixtureGuide):
        return _average([(w, predictor_inclusion(member)) for _, member, w in guide.members])
    nonlinear = inclusion_probabilities(guide, guide.description.inputs.name)
    linear = guide.description.linear
    if linear is None:
        return nonlinear
    either: NDArray[np.float64] = 1 - (1 - nonlinear) * (
        1 - inclusion_probabilities(guide, linear.name)
    )
    return either


def predictor_prior(guide: Guide | MixtureGuide | PredictorLaw) -> NDArray[np.float64]:
    """The same under the prior, ``[p]``."""
    inputs, linear = guide.description.inputs, guide.description.linear
    prior = inputs.prior_inclusion
    if linear is not None:
        prior = 1 - (1 - prior) * (1 - linear.prior_inclusion)
    return prior.numpy()


def predictor_logits(guide: Guide | MixtureGuide) -> NDArray[np.float64]:
    r"""Log-odds of :func:`predictor_inclusion`, finite where it rounds to 1; minus infinity for removed predictors.

    With a and b the log-odds of its two gates, a predictor is out with odds :math:`1/(e^a + e^b + e^{a + b})` to one.
    """
    if isinstance(guide, MixtureGuide):
        return mixed_logits([(np.log(w), predictor_logits(m)) for _, m, w in guide.members if w])
    nonlinear = _open_logits(guide, guide.description.inputs.name)
    linear = guide.description.linear
    if linear is None:
        return nonlinear
    other = _open_logits(guide, linear.name)
    found: NDArray[np.float64] = np.logaddexp(np.logaddexp(nonlinear, other), nonlinear + other)
    return found


def mixed_logits(
    parts: Sequence[tuple[float, NDArray[np.float64]]],
) -> NDArray[np.float64]:
    """Log-odds of an average of probabilities, ``[size]``, finite where they round to 1; minus infinity for 0.

    :param parts: logarithm of the weight and log-odds of each probability.
    """
    open = np.logaddexp.reduce([weight - np.logaddexp(0.0, -logit) for weight, logit in parts])
    closed = np.logaddexp.reduce([weight - np.logaddexp(0.0, logit) for weight, logit in parts])
    difference: NDArray[np.float64] = open - closed
    return difference


def _is_named(guide: MixtureGuide, name: str) -> bool:
    """Whether a group's members are the same in every fit."""
    return name in {group.name for group in named_groups(guide.description)}


def _open_logits(guide: Guide, name: str) -> NDArray[np.float64]:
    """Log-odds of inclusion, minus infinity for removed members."""
    logits = gate_logits(guide, name)
    return np.where(logits == CLOSED_LOGIT, -np.inf, logits)


def _average(parts: Sequence[tuple[float, NDArray[np.float64]]]) -> NDArray[np.float64]:
    """Sum of values times their weights."""
    total: NDArray[np.float64] = np.sum([weight * value for weight, value in parts], axis=0)
    return total


def slab_scale_quantiles(
    guide: Guide,
    name: str,
    levels: Sequence[float] = (0.05, 0.5, 0.95),
    *,
    num_draws: int = 10_000,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Posterior quantiles of the slab scale t (a standard deviation) of a layer's nodes, ``[levels, size]``.

    :param levels: probabilities, strictly between 0 and 1.
    :param num_draws: of Monte Carlo, where there is no closed form (see the module's table).
    :param seed: of these draws; the caller's random state is left untouched.
    :raises ConfigurationError: for an unknown layer, or a level outside (0, 1).
    """
    group = guide.description.layer(name)
    wrong = [level for level in levels if not 0 < level < 1]
    if wrong:
        raise ConfigurationError(
            f"slab_scale_quantiles: levels must lie strictly between 0 and 1; got {wrong}."
        )
    local, shared = (_double(moments) for moments in guide.scale_moments(name))
    probabilities = torch.tensor(list(levels), dtype=torch.float64)
    found = _exact_quantiles(group.prior, local, shared, torch.special.ndtri(probabilities))
    if found is None:
        found = _sampled_quantiles(group.prior, local, shared, probabilities, num_draws, seed)
    return found.expand(len(levels), group.size).numpy()


@singledispatch
def _exact_quantiles(
    prior: Prior, local: LogMoments, shared: LogMoments, z: Tensor
) -> Tensor | None:
    """Quantiles at standard Normal quantiles z, ``[levels, size]`` (or 1 for size); None without a closed form."""
    return None


@_exact_quantiles.register
def _(prior: Gaussian, local: LogMoments, shared: LogMoments, z: Tensor) -> Tensor | None:
    return torch.ones(len(z), 1, dtype=z.dtype)


@_exact_quantiles.register
def _(prior: GroupLasso, local: LogMoments, shared: LogMoments, z: Tensor) -> Tensor | None:
    loc, variance = local["variance"]
    return ((loc + variance.sqrt() * z[:, None]) / 2).exp()


@_exact_quantiles.register
def _(prior: GroupHorseshoe, local: LogMoments, shared: LogMoments, z: Tensor) -> Tensor | None:
    if prior.cap is None:
        return None
    factors = [moments[key] for moments in (local, shared) for key in ("scale_a", "scale_b")]
    loc = torch.stack(torch.broadcast_tensors(*(m for m, _ in factors))).sum(0)
    scale = torch.stack(torch.broadcast_tensors(*(v for _, v in factors))).sum(0).sqrt()
    return (prior.cap**-2 + (-loc - scale * z[:, None]).exp()).rsqrt()


def _sampled_quantiles(
    prior: Prior, local: LogMoments, shared: LogMoments, levels: Tensor, num_draws: int, seed: int
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)

    def draw(moments: LogMoments) -> dict[str, Tensor]:
        drawn = {}
        for key, (loc, variance) in moments.items():
            shape = [num_draws, *(loc.shape or [1])]
            noise = torch.randn(shape, dtype=loc.dtype, generator=generator)
            drawn[key] = (loc + variance.sqrt() * noise).exp()
        return drawn

    slab_scale = prior.slab_scale(draw(local), draw(shared))
    if slab_scale is None:
        return torch.ones(len(levels), 1, dtype=levels.dtype)
    return torch.as_tensor(np.quantile(slab_scale.numpy(), levels.numpy(), axis=0))


def _double(moments: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
    return {key: (m.double().cpu(), v.double().cpu()) for key, (m, v) in moments.items()}
