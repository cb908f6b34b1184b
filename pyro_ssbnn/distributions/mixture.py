r"""Quantiles of equal mixtures, found by their distribution functions.

The predictive distribution of S draws is the mixture :math:`F(y) = S^{-1}\sum_s F_s(y)`; its quantile of probability p
is the smallest y with :math:`F(y) \ge p`. Every element is searched for on its own: what it comes to depends neither on
the others nor on their number. Nothing is sampled.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["mixture_quantile", "normal_mixture_quantile"]

TOLERANCE = 1e-8
"""Largest error of a quantile, in standard deviations of the mixture."""

_MOST_STEPS = 200  # a bracket halved so often is down to rounding


def normal_mixture_quantile(probability: float, loc: Tensor, scale: Tensor) -> Tensor:
    """Quantile of equal mixtures of S Normals, by Newton's method with bisection where it would stray.

    :param probability: p, strictly between 0 and 1.
    :param loc: means, ``[S, N, ...]``, float64.
    :param scale: standard deviations, broadcastable with ``loc``.
    :returns: ``[N, ...]``, to within :data:`TOLERANCE`.
    """
    shape = torch.broadcast_shapes(loc.shape, scale.shape)
    scale = scale.reshape(*[1] * (len(shape) - scale.ndim), *scale.shape)
    shared = scale[0].numel() == 1  # one scale for all elements of a draw
    loc, scale = loc.expand(shape).flatten(1), (scale if shared else scale.expand(shape)).flatten(1)
    standard = float(torch.special.ndtri(torch.tensor(probability, dtype=torch.float64)))
    own = loc + scale * standard
    low, high = own.amin(0), own.amax(0)  # between the quantiles of its members lies the mixture's
    mean = loc.mean(0)
    spread = (scale.square().mean(0) + (loc - mean).square_().mean(0)).sqrt()
    y = (mean + standard * spread).clamp(low, high)
    enough, last = TOLERANCE * spread, high - low
    found, left = y.clone(), torch.arange(len(y), device=y.device)
    rate = 1 / (math.sqrt(2) * scale)
    for _ in range(_MOST_STEPS):
        u = (y - loc) * rate
        excess = 0.5 + 0.5 * torch.erf(u).mean(0) - probability
        density = (u.square_().neg_().exp_() * rate).mean(0) / math.sqrt(math.pi)
        low, high = torch.where(excess < 0, y, low), torch.where(excess < 0, high, y)
        newton = excess / density.clamp_min(torch.finfo(density.dtype).tiny)
        middle = 0.5 * (low + high)
        inside = (y - newton >= low) & (y - newton <= high)
        found[left] = (y - newton).clamp(low, high)
        wide = high - low > enough
        if not wide.any():
            break
        # Numerical Recipes' rule: bisect when Newton's step leaves the bracket or does not halve the last one. A step
        # goes at least half the tolerance, so that the bracket closes from its other side, too.
        fast = inside & (2 * newton.abs() <= last)
        newton = torch.where(excess < 0, -1.0, 1.0) * newton.abs().maximum(0.5 * enough)
        step = torch.where(fast, newton, y - middle)
        y, last = y - step, step.abs()
        if not wide.all():  # an element that is found stays as it is, whatever the others need
            left, y, last, enough = left[wide], y[wide], last[wide], enough[wide]
            low, high, loc = low[wide], high[wide], loc[:, wide]
            rate = rate if shared else rate[:, wide]
    return found.unflatten(0, shape[1:])


def mixture_quantile(
    probability: float,
    cdf: Callable[[Tensor], Tensor],
    centre: Tensor,
    spread: Tensor,
    *,
    whole: bool = False,
) -> Tensor:
    """Smallest y with ``cdf(y) >= probability``, elementwise, by doubling a bracket and halving it.

    :param probability: p, strictly between 0 and 1.
    :param cdf: non-decreasing, from ``[...]`` to ``[...]``; of whole numbers where ``whole``.
    :param centre: where to start.
    :param spread: standard deviations, not negative; where one is 0 or infinite, 1 takes its place.
    :param whole: whether y takes whole numbers 0, 1, 2, ... only: the answer is then exact.
    :returns: ``[...]``, otherwise to within :data:`TOLERANCE`.
    """
    spread = torch.where((spread > 0) & spread.isfinite(), spread, 1.0)
    step = spread.ceil().clamp_min(1) if whole else spread
    start = centre.floor().clamp_min(0) if whole else centre
    low, high = start - step, start + step
    if whole:
        low = low.clamp_min(-1)  # below all counts
    for _ in range(_MOST_STEPS):
        short, long = cdf(high) < probability, cdf(low) >= probability
        if not (short | long).any():
            break
        low, high = torch.where(short, high, low), torch.where(long, low, high)
        step = 2 * step
        high = torch.where(short, high + step, high)
        # Counts may be spread over hundreds of orders of magnitude: their lower bound is known at once.
        low = torch.where(long, torch.full_like(low, -1.0) if whole else low - step, low)
    enough = torch.ones_like(spread) if whole else 2 * TOLERANCE * spread
    for _ in range(_MOST_STEPS):
        wide = high - low > enough
        if not wide.any():
            break
        middle = _whole_middle(low, high) if whole else 0.5 * (low + high)
        below = cdf(middle) < probability
        low = torch.where(wide & below, middle, low)
        high = torch.where(wide & ~below, middle, high)
    return high if whole else 0.5 * (low + high)


def _whole_middle(low: Tensor, high: Tensor) -> Tensor:
    """A whole number between two others, from -1 on: their mean, or the geometric one where their sizes differ much."""
    geometric = (low + 2).sqrt() * (high + 2).sqrt() - 2
    return torch.where(high + 2 > 4 * (low + 2), geometric, 0.5 * low + 0.5 * high).floor()
