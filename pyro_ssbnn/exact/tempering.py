r"""Hamiltonian Monte Carlo on a ladder of temperatures, all replicas in one batch.

The targets are

.. math:: \pi_k(\theta) \propto p(\theta)\,p(y | \theta)^{\beta_k},\qquad 0 = \beta_1 < \dots < \beta_T = 1,

from the prior, which has one mode, to the posterior, which may have many. Every iteration moves each replica by a
Hamiltonian trajectory of a random number of leapfrog steps, then offers neighbours on the ladder to swap, even and odd
pairs in turn (Okabe et al. 2001), with probability

.. math:: \min\{1, \exp[(\beta_{k+1} - \beta_k)(\log p(y | \theta_k) - \log p(y | \theta_{k+1}))]\}.

Warm-up adapts, to each temperature, the step size (dual averaging, Hoffman and Gelman 2014) and a diagonal metric,
and the ladder itself so that all neighbours swap equally often (Syed et al. 2022, section 5); then all are frozen. A
small network costs the same time for one replica as for thirty, because handing operations to torch is most of it:
hence one batch in place of one chain after the other.

Tensors lead with ``[T, G, C]``: temperatures, data sets, chains. Chains of one data set share what warm-up adapts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from pyro.ops.dual_averaging import DualAveraging
from pyro.ops.welford import WelfordCovariance
from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError

__all__ = ["SamplerOptions", "TemperedDraws", "temper"]

_WINDOWS = (0.15, 0.3, 0.5, 0.75, 0.9)  # of the warm-up: where metric and ladder are renewed

Score = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""Gradient, log-prior and log-likelihood of points ``[T, G, C, dim]`` at temperatures ``[T, G, C]``."""


@dataclass(frozen=True)
class SamplerOptions:
    """Size and tuning of a run.

    :param num_draws: kept draws of each chain, after the warm-up.
    :param warmup: iterations that adapt and are thrown away.
    :param chains: independent chains.
    :param temperatures: rungs of each chain's ladder; 1 leaves out the tempering.
    :param leapfrog_steps: longest trajectory; each takes a uniformly drawn number of steps up to it.
    :param target_accept: acceptance probability that the step sizes are tuned to.
    :param thin: iterations for each kept draw.
    :raises ConfigurationError: for values outside their domain.
    """

    num_draws: int = 1000
    warmup: int = 1000
    chains: int = 4
    temperatures: int = 8
    leapfrog_steps: int = 16
    target_accept: float = 0.8
    thin: int = 1

    def __post_init__(self) -> None:
        least = {
            "num_draws": 4,
            "warmup": 20,
            "chains": 1,
            "temperatures": 1,
            "leapfrog_steps": 1,
            "thin": 1,
        }
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ConfigurationError(
                    f"SamplerOptions: {name} must be at least {low}; got {getattr(self, name)}."
                )
        if not 0 < self.target_accept < 1:
            raise ConfigurationError(
                f"SamplerOptions: target_accept must lie strictly between 0 and 1; got {self.target_accept}."
            )


@dataclass(frozen=True)
class TemperedDraws:
    """What a run gives; D kept draws.

    :param points: unconstrained draws of the posterior (the last rung), ``[G, C, D, dim]``.
    :param log_likelihood: log p(y | theta) of the draws of every rung, gates summed out, ``[T, G, C, D]``.
    :param ladder: the temperatures, ``[T]``.
    :param acceptance: mean acceptance probability of the trajectories, ``[T, G]``.
    :param swap_acceptance: of neighbours on the ladder, ``[T - 1, G]``.
    """

    points: Tensor
    log_likelihood: Tensor
    ladder: Tensor
    acceptance: Tensor
    swap_acceptance: Tensor

    def log_evidence(self) -> Tensor:
        r"""Estimates of log p(y) by stepping stones (Xie et al. 2011), one a chain, ``[G, C]``.

        :math:`\sum_k \log \mathrm{mean}_{\pi_k} p(y | \theta)^{\beta_{k+1} - \beta_k}`; NaN without tempering.
        """
        if len(self.ladder) == 1:
            return torch.full(self.log_likelihood.shape[1:3], math.nan, dtype=torch.float64)
        steps = self.ladder.diff().reshape(-1, 1, 1, 1)
        draws = self.log_likelihood.shape[-1]
        return ((steps * self.log_likelihood[:-1]).logsumexp(-1) - math.log(draws)).sum(0)


class _SwapRates:
    """Mean swap acceptance of every pair of neighbours, ``[T - 1, G]``."""

    def __init__(self, pairs: int, groups: int) -> None:
        self.total = torch.zeros(pairs, groups, dtype=torch.float64)
        self.count = torch.zeros(pairs, 1, dtype=torch.float64)

    def add(self, first: int, acceptance: Tensor) -> None:
        self.total[first::2] += acceptance
        self.count[first::2] += 1

    @property
    def mean(self) -> Tensor:
        return self.total / self.count.clamp(min=1)


class _Replicas:
    """State of all replicas, and what the warm-up adapts.

    :param shape: ``(T, G, C, dim)``.
    :param start: see :func:`temper`.
    """

    def __init__(
        self,
        score: Score,
        shape: tuple[int, int, int, int],
        options: SamplerOptions,
        start: Tensor | None = None,
    ) -> None:
        self.score, self.options = score, options
        rungs = torch.linspace(0, 1, shape[0], dtype=torch.float64)
        self.ladder = rungs**6 if shape[0] > 1 else torch.ones_like(rungs)
        self.points, self.likelihood = self._scattered(shape, start)
        self.variance = torch.ones(1, 1, 1, shape[3], dtype=torch.float64)
        self.size = torch.full((*shape[:2], 1), 0.1, dtype=torch.float64)  # of a leapfrog step
        self.averaging = _averaging(self.size)
        self.rates = _SwapRates(shape[0] - 1, shape[1])

    def _scattered(
        self, shape: tuple[int, int, int, int], start: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Points far apart: uniform on (-2, 2) in unconstrained coordinates, as in Stan; and their log-likelihood.

        Every other chain begins at the points given, where there are any.
        """
        points = torch.full(shape, math.nan, dtype=torch.float64)
        bad = torch.ones(shape[:3], dtype=torch.bool)
        for _ in range(100):
            fresh = 4 * torch.rand(shape, dtype=torch.float64) - 2
            if start is not None:
                chosen = torch.randint(len(start), (*shape[:2], len(range(0, shape[2], 2))))
                fresh[:, :, ::2] = start[chosen]
            points = torch.where(bad.unsqueeze(-1), fresh, points)
            gradient, prior, likelihood = self.score(points, self._beta(shape))
            bad = ~((prior + likelihood).isfinite() & gradient.isfinite().all(-1))
            if not bad.any():
                return points, likelihood
        raise ConfigurationError(
            "temper: found no starting point with a finite density in 100 trials; are predictors and targets"
            " standardised, and the targets within the likelihood's domain?"
        )

    def _beta(self, shape: tuple[int, ...]) -> Tensor:
        return self.ladder.reshape(-1, 1, 1).expand(shape[:3])

    def move(self) -> Tensor:
        """One Hamiltonian trajectory of every replica; returns acceptance probabilities ``[T, G, C]``."""
        beta, size = self._beta(self.points.shape), self.size.unsqueeze(-1)
        momentum = torch.randn_like(self.points) * self.variance.rsqrt()
        point = self.points
        gradient, prior, likelihood = self.score(point, beta)
        before = self._energy(prior + beta * likelihood, momentum)
        for _ in range(int(torch.randint(1, self.options.leapfrog_steps + 1, ()))):
            momentum = momentum + 0.5 * size * gradient
            point = point + size * self.variance * momentum
            gradient, prior, likelihood = self.score(point, beta)
            momentum = momentum + 0.5 * size * gradient
        change = self._energy(prior + beta * likelihood, momentum) - before
        acceptance = (
            (-change).exp().clamp(max=1).nan_to_num(0.0)
        )  # a diverged trajectory is refused
        accepted = torch.rand_like(acceptance) < acceptance
        self.points = torch.where(accepted.unsqueeze(-1), point, self.points)
        self.likelihood = torch.where(accepted, likelihood, self.likelihood)
        return acceptance

    def _energy(self, log_density: Tensor, momentum: Tensor) -> Tensor:
        return 0.5 * (momentum.square() * self.variance).sum(-1) - log_density

    def swap(self, first: int) -> None:
        """Offer rungs first and first + 1, first + 2 and first + 3, ... to swap."""
        pairs = len(self.ladder) - 1
        if first >= pairs:
            return
        low = torch.arange(first, pairs, 2)
        steps = self.ladder.diff()[low].reshape(-1, 1, 1)
        gain = steps * (self.likelihood[low] - self.likelihood[low + 1])
        acceptance = gain.exp().clamp(max=1)
        swapped = torch.rand_like(acceptance) < acceptance
        for values, mask in ((self.points, swapped.unsqueeze(-1)), (self.likelihood, swapped)):
            lower, upper = values[low], values[low + 1]
            values[low] = torch.where(mask, upper, lower)
            values[low + 1] = torch.where(mask, lower, upper)
        self.rates.add(first, acceptance.mean(-1))

    def tune(self, acceptance: Tensor) -> None:
        """Learn step sizes from one trajectory's acceptance probabilities ``[T, G, C]``; the chains share them."""
        self.averaging.step(self.options.target_accept - acceptance.mean(-1, keepdim=True))
        self.size = self.averaging.get_state()[0].exp()

    def freeze(self) -> None:
        """Keep the averaged step sizes from now on."""
        self.size = self.averaging.get_state()[1].exp()

    def renew(self, moments: WelfordCovariance) -> None:
        """Take the metric from the window's draws, respace the ladder, and start to tune the step sizes anew."""
        self.variance = moments.get_covariance().unsqueeze(2)  # [T, G, 1, dim]
        if len(self.ladder) > 2:
            self.ladder = _respaced(self.ladder, 1 - self.rates.mean.mean(-1))
        self.averaging = _averaging(self.size)
        self.rates = _SwapRates(len(self.ladder) - 1, self.points.shape[1])


def _averaging(size: Tensor) -> DualAveraging:
    """Dual averaging of log step sizes from here on (Hoffman and Gelman 2014, algorithm 5)."""
    return DualAveraging(prox_center=(10 * size).log())


def _respaced(ladder: Tensor, rejection: Tensor) -> Tensor:
    """Ladder whose neighbours reject equally often, from the rejection rates ``[T - 1]`` of the present one.

    The cumulative rejection is taken as piecewise linear in the temperature (Syed et al. 2022).
    """
    barrier = torch.cat([rejection.new_zeros(1), rejection.clamp(min=1e-3).cumsum(0)])
    wanted = torch.linspace(0, float(barrier[-1]), len(barrier), dtype=torch.float64)[1:-1]
    upper = torch.searchsorted(barrier, wanted).clamp(1, len(barrier) - 1)
    share = (wanted - barrier[upper - 1]) / (barrier[upper] - barrier[upper - 1])
    inner = torch.lerp(ladder[upper - 1], ladder[upper], share)
    return torch.cat([ladder[:1], inner, ladder[-1:]])


def temper(
    score: Score,
    groups: int,
    dim: int,
    options: SamplerOptions,
    tick: Callable[[], object] = lambda: None,
    start: Tensor | None = None,
) -> TemperedDraws:
    """Warm up, then draw; random numbers come from torch's global state.

    :param score: see :data:`Score`.
    :param groups: G, data sets sampled side by side.
    :param dim: number of unconstrained coordinates.
    :param tick: called after every iteration (a progress bar).
    :param start: points at which every other chain begins, on all rungs, drawn from these ``[S, dim]``; the others, and
        all by default, begin far apart, so that R-hat compares the two.
    :raises ConfigurationError: when no starting point has a finite density.
    """
    shape = (options.temperatures, groups, options.chains, dim)
    replicas = _Replicas(score, shape, options, start)
    _warm_up(replicas, tick)
    iterations = options.num_draws * options.thin
    acceptance = torch.zeros(shape[:2], dtype=torch.float64)
    points, likelihoods = [], []
    for iteration in range(iterations):
        acceptance += replicas.move().mean(-1)
        replicas.swap(iteration % 2)
        if (iteration + 1) % options.thin == 0:
            points.append(replicas.points[-1].clone())
            likelihoods.append(replicas.likelihood.clone())
        tick()
    return TemperedDraws(
        torch.stack(points, 2),
        torch.stack(likelihoods, -1),
        replicas.ladder,
        acceptance / iterations,
        replicas.rates.mean,
    )


def _warm_up(replicas: _Replicas, tick: Callable[[], object]) -> None:
    warmup = replicas.options.warmup
    renewals = {math.ceil(share * warmup) for share in _WINDOWS}
    moments = WelfordCovariance()
    for iteration in range(warmup):
        replicas.tune(replicas.move())
        replicas.swap(iteration % 2)
        for chain in replicas.points.unbind(2):
            moments.update(chain)
        if iteration + 1 in renewals:
            replicas.renew(moments)
            moments = WelfordCovariance()
        tick()
    replicas.freeze()
    replicas.rates = _SwapRates(len(replicas.ladder) - 1, replicas.points.shape[1])
