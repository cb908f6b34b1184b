r"""Predictive distributions of S draws in bounded memory: one draw and one batch of rows at a time.

What is kept is of the size of the answer, never ``S x N``. With :math:`p_s` the class probabilities of draw s and
:math:`\bar p` their mean, the predictive entropy splits into the entropy expected given the weights and the mutual
information of class and weights:

.. math:: H[\bar p] = \frac1S\sum_s H[p_s] + I,\qquad I \ge 0,

*aleatoric* and *epistemic* (Depeweg et al. 2018). For numbers, the law of total variance takes entropy's place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.isolation import seeded
from pyro_ssbnn.likelihoods import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    GaussianLikelihood,
    Likelihood,
)
from pyro_ssbnn.posterior.draws import ExactDraws, evaluating, site_values
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.network import Network

__all__ = ["PredictiveSummary", "predict", "predict_compact"]


@dataclass(frozen=True)
class PredictiveSummary:
    """The predictive distribution at N rows; tensors on the CPU, float64.

    :param mean: expected y, ``[N]`` (``[N, K]`` for several targets), or ``[N, K]`` class probabilities; ``[N]`` is
        the probability of 1 for two classes.
    :param variance: of y, with the noise, shape of the mean; None for classes.
    :param epistemic_variance: of the mean over the draws, the part of it that more data would take away; None for
        classes.
    :param log_density: log predictive density (or probability) of each observation, ``[N]``, nats; None without y.
    :param entropy: of the predictive probabilities, ``[N]``, nats; None for numbers.
    :param aleatoric: the entropy expected given the weights, ``[N]``; None for numbers.
    :param num_draws: S.
    """

    mean: Tensor
    variance: Tensor | None
    epistemic_variance: Tensor | None
    log_density: Tensor | None
    entropy: Tensor | None
    aleatoric: Tensor | None
    num_draws: int

    @property
    def epistemic(self) -> Tensor | None:
        """Mutual information of class and weights, entropy minus aleatoric, ``[N]``, nats; None for numbers."""
        if self.entropy is None or self.aleatoric is None:
            return None
        return self.entropy - self.aleatoric


def predict(
    model: Network,
    guide: Guide,
    x: Tensor,
    y: Tensor | None = None,
    *,
    num_draws: int = 100,
    batch_size: int = 1024,
    seed: int = 0,
) -> PredictiveSummary:
    """Predict with draws from the whole posterior, gates drawn too.

    Memory is that of one draw of the weights, one batch of rows in the network, and the answer: nothing grows with
    S. The answer does not depend on
    ``batch_size``, but for rounding.

    :param x: predictors ``[N, p]``; batches are moved to the guide's device.
    :param y: targets to score, ``[N]`` (``[N, K]`` for several).
    :param num_draws: S.
    :param batch_size: rows at a time.
    :param seed: of the draws; the caller's random state is left untouched.
    :raises ConfigurationError: for fewer than one draw or row at a time.
    :raises DataError: for x or y of the wrong shape.
    """
    _check(x, y, model.description.inputs.size, num_draws, batch_size)
    like = next(guide.parameters())

    def draws() -> Iterator[_Draw]:
        for _ in range(num_draws):
            with ExactDraws():
                values = site_values(poutine.trace(guide).get_trace())
            yield poutine.condition(model.network, data=values), values

    with torch.no_grad(), seeded(seed, like.device), evaluating(model, guide):
        return _streamed(draws(), model.likelihood, x, y, like, batch_size)


def predict_compact(
    network: nn.Module,
    likelihood: Likelihood,
    x: Tensor,
    y: Tensor | None = None,
    *,
    noise_variance: Tensor | None = None,
    batch_size: int = 1024,
) -> PredictiveSummary:
    """Predict with a pruned network, of posterior mean weights or of draws.

    :param network: maps ``[N, p]`` to f, ``[N, K]`` or ``[S, N, K]``, as :func:`~pyro_ssbnn.prune` returns it. All
        its draws pass one batch of rows together.
    :param likelihood: of the model it was cut from.
    :param x: predictors ``[N, p]``.
    :param y: targets to score, ``[N]`` (``[N, K]`` for several).
    :param noise_variance: where a Gaussian likelihood's noise is unknown: ``[S]`` draws of it (``[S, K]`` for several
        targets), ``draw_posterior(...).latents["noise.variance"]``.
    :param batch_size: rows at a time.
    :raises ConfigurationError: for an unknown noise that is not given, or draws in another number than the network's.
    :raises DataError: for x or y of the wrong shape.
    """
    _check(x, y, x.shape[-1], 1, batch_size)
    unknown = isinstance(likelihood, GaussianLikelihood) and likelihood.scale is None
    if unknown and noise_variance is None:
        raise ConfigurationError(
            "predict_compact: the noise of this likelihood is unknown, and a pruned network does not carry it; give"
            ' noise_variance, for example draw_posterior(...).latents["noise.variance"].'
        )
    like = next((t for t in network.buffers() if t.is_floating_point()), x)
    with torch.no_grad():
        parts = []
        for at in range(0, len(x), batch_size):
            f = network(x[at : at + batch_size].to(like))
            f = f if f.ndim == 3 else f.unsqueeze(0)
            noise = _noise_draws(noise_variance, f) if unknown else [{}] * len(f)
            f = f.expand(len(noise), *f.shape[1:])
            target = _batch(y, at, batch_size, like)
            total = _Totals()
            for draw, latents in zip(f, noise, strict=True):
                total.add(likelihood, draw, latents, target)
            parts.append(total.summary())
    return _joined(parts)


_Draw = tuple[Callable[[Tensor], Tensor], Mapping[str, Tensor]]


def _streamed(
    draws: Iterable[_Draw],
    likelihood: Likelihood,
    x: Tensor,
    y: Tensor | None,
    like: Tensor,
    batch_size: int,
) -> PredictiveSummary:
    """Add draw after draw, batch after batch, to running totals of the size of the answer."""
    starts = range(0, len(x), batch_size)
    totals = [_Totals() for _ in starts]
    for network, latents in draws:
        for at, total in zip(starts, totals, strict=True):
            f = network(x[at : at + batch_size].to(like))
            total.add(likelihood, f, latents, _batch(y, at, batch_size, like))
    return _joined([total.summary() for total in totals])


@dataclass
class _Totals:
    """Running moments over the draws at one batch of rows (Welford's recursion), float64 on the CPU."""

    count: int = 0
    values: dict[str, Tensor] = field(default_factory=dict)

    def add(
        self, likelihood: Likelihood, f: Tensor, latents: Mapping[str, Tensor], y: Tensor | None
    ) -> None:
        """Take in one draw's f, ``[rows, num_outputs]``."""
        self.count += 1
        mean = likelihood.mean(f).cpu().double()
        distribution = likelihood.distribution(f, latents)
        before = self.values.get("mean", torch.zeros_like(mean))
        self._average("mean", mean)
        if isinstance(likelihood, CategoricalLikelihood | BernoulliLikelihood):
            self._average("aleatoric", _entropy(mean))
        else:
            # sum of squared deviations of the draws' means, and mean of their variances
            spread = (mean - before) * (mean - self.values["mean"])
            self.values["squares"] = self.values.get("squares", torch.zeros_like(mean)) + spread
            self._average("noise", distribution.variance.cpu().double())
        if y is not None:
            score = distribution.log_prob(y).cpu().double()
            known = self.values.get("scores")
            self.values["scores"] = score if known is None else torch.logaddexp(known, score)

    def _average(self, name: str, value: Tensor) -> None:
        mean = self.values.get(name, torch.zeros_like(value))
        self.values[name] = mean + (value - mean) / self.count

    def summary(self) -> PredictiveSummary:
        """What the totals say."""
        v = self.values
        epistemic = v["squares"] / self.count if "squares" in v else None
        return PredictiveSummary(
            mean=v["mean"],
            variance=None if epistemic is None else epistemic + v["noise"],
            epistemic_variance=epistemic,
            log_density=v["scores"] - torch.tensor(self.count).double().log()
            if "scores" in v
            else None,
            entropy=_entropy(v["mean"]) if "aleatoric" in v else None,
            aleatoric=v.get("aleatoric"),
            num_draws=self.count,
        )


def _entropy(probabilities: Tensor) -> Tensor:
    """Entropy in nats, ``[N]``, of ``[N, K]`` class probabilities, or of ``[N]`` probabilities of 1."""
    if probabilities.ndim == 1:
        return torch.special.entr(probabilities) + torch.special.entr(1 - probabilities)
    return torch.special.entr(probabilities).sum(-1)


def _joined(parts: list[PredictiveSummary]) -> PredictiveSummary:
    def along_rows(name: str) -> Tensor | None:
        tensors = [getattr(part, name) for part in parts]
        return None if tensors[0] is None else torch.cat(tensors)

    return PredictiveSummary(
        mean=torch.cat([part.mean for part in parts]),
        variance=along_rows("variance"),
        epistemic_variance=along_rows("epistemic_variance"),
        log_density=along_rows("log_density"),
        entropy=along_rows("entropy"),
        aleatoric=along_rows("aleatoric"),
        num_draws=parts[0].num_draws,
    )


def _batch(y: Tensor | None, at: int, size: int, like: Tensor) -> Tensor | None:
    if y is None:
        return None
    rows = y[at : at + size]
    return rows.to(like) if rows.dtype.is_floating_point else rows.to(like.device)


def _noise_draws(noise_variance: Tensor | None, f: Tensor) -> list[dict[str, Tensor]]:
    """Latents of each draw; one set of weights goes with any number of noise draws."""
    if noise_variance is None or (len(f) > 1 and len(noise_variance) != len(f)):
        given = None if noise_variance is None else list(noise_variance.shape)
        raise ConfigurationError(
            f"predict_compact: noise_variance must hold one draw for each of the network's {len(f)}; got {given}."
        )
    return [{"noise.variance": v.to(f)} for v in noise_variance]


def _check(x: Tensor, y: Tensor | None, size: int, num_draws: int, batch_size: int) -> None:
    for name, value in (("num_draws", num_draws), ("batch_size", batch_size)):
        if value < 1:
            raise ConfigurationError(f"predict: {name} must be at least 1; got {value}.")
    if x.ndim != 2 or x.shape[1] != size or not len(x):
        raise DataError(f"predict: x must be [N, {size}], N at least 1; got {list(x.shape)}.")
    if y is not None and len(y) != len(x):
        raise DataError(f"predict: x has {len(x)} rows and y has {len(y)}; give one target a row.")
