r"""What S draws say of some rows: moments, densities, entropies and quantiles of their predictive mixture.

With :math:`p_s` the class probabilities of draw s and :math:`\bar p` their mean, the predictive entropy splits into the
entropy expected given the weights and the mutual information of class and weights:

.. math:: H[\bar p] = \frac1S\sum_s H[p_s] + I,\qquad I \ge 0,

*aleatoric* and *epistemic* (Depeweg et al. 2018). For numbers, the law of total variance takes entropy's place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ssbnn.checks import check_that, is_number
from pyro_ssbnn.display import as_html, plain
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.likelihoods import Likelihood

__all__ = [
    "PredictiveSummary",
    "RunningSummary",
    "check_quantiles",
    "check_targets",
    "joined",
    "predictive_quantiles",
]

_SHOWN = 8  # rows of a table in a notebook
_PIECE = 2**17  # outputs among which quantiles are searched together


@dataclass(frozen=True, repr=False)
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
    :param probabilities: those of the quantiles, Q of them, ascending.
    :param quantiles: of the predictive mixture over the draws, ``[Q, N]`` (``[Q, N, K]``), in units of y: to within
        1e-8 standard deviations, exact for counts; None unless asked for.
    """

    mean: Tensor
    variance: Tensor | None
    epistemic_variance: Tensor | None
    log_density: Tensor | None
    entropy: Tensor | None
    aleatoric: Tensor | None
    num_draws: int
    probabilities: tuple[float, ...] = ()
    quantiles: Tensor | None = None

    @property
    def epistemic(self) -> Tensor | None:
        """Mutual information of class and weights, entropy minus aleatoric, ``[N]``, nats; None for numbers."""
        if self.entropy is None or self.aleatoric is None:
            return None
        return self.entropy - self.aleatoric

    def interval(self, probability: float = 0.9) -> tuple[Tensor, Tensor]:
        """Lower and upper limit of the central predictive interval, ``[N]`` (``[N, K]``) each.

        :param probability: that y lies in it; half of the rest lies on either side.
        :raises ConfigurationError: when the two quantiles are not among those asked for.

        >>> from pyro_ssbnn import MLP, SSIG, GaussianLikelihood, StructuredGuide, predict
        >>> net = MLP(3, [4], prior=SSIG(inclusion=0.3), likelihood=GaussianLikelihood())
        >>> x = torch.randn(20, 3)
        >>> found = predict(net, StructuredGuide(net), x, quantiles=(0.05, 0.95))  # a fit's guide, as a rule
        >>> lower, upper = found.interval(0.9)
        >>> bool((lower < upper).all())
        True
        """
        wanted = ((1 - probability) / 2, (1 + probability) / 2)
        at = [
            i
            for p in wanted
            for i, held in enumerate(self.probabilities)
            if math.isclose(p, held, rel_tol=0, abs_tol=1e-9)
        ]
        if self.quantiles is None or len(at) != 2:
            raise ConfigurationError(
                f"interval({probability:g}): needs the quantiles {wanted[0]:g} and {wanted[1]:g}; there are"
                f" {list(self.probabilities) or 'none'}. Ask for them: predict(..., quantiles=({wanted[0]:g},"
                f" {wanted[1]:g}))."
            )
        return self.quantiles[at[0]], self.quantiles[at[1]]

    def __repr__(self) -> str:
        draws = f"{self.num_draws:,} draw{'s' if self.num_draws > 1 else ''}"
        held = [f.name for f in fields(self) if isinstance(getattr(self, f.name), Tensor)]
        lines = [
            f"PredictiveSummary of {len(self.mean):,} rows, {draws}",
            f"  {', '.join(held)}; mean {list(self.mean.shape)}",
        ]
        if self.probabilities:
            lines.append(f"  quantiles of {', '.join(f'{p:g}' for p in self.probabilities)}")
        if self.variance is not None and self.epistemic_variance is not None:
            share = float(self.epistemic_variance.mean() / self.variance.mean())
            lines.append(
                f"  variance {plain(float(self.variance.mean()))} on average, {100 * share:.0f} % of it epistemic"
            )
        if self.entropy is not None and self.epistemic is not None:
            lines.append(
                f"  entropy {float(self.entropy.mean()):.4g} nats on average,"
                f" {float(self.epistemic.mean()):.4g} of it epistemic"
            )
        if self.log_density is not None:
            lines.append(f"  log density of y {plain(float(self.log_density.mean()))} nats a row")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """The first rows, with what there is of them."""
        columns: dict[str, Tensor] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, Tensor):
                continue
            if field.name == "quantiles":
                columns |= {
                    f"{100 * p:g} %": q for p, q in zip(self.probabilities, value, strict=True)
                }
            else:
                columns[field.name] = value
        rows = [
            (
                str(i),
                *(", ".join(plain(v) for v in c[i].reshape(-1).tolist()) for c in columns.values()),
            )
            for i in range(min(_SHOWN, len(self.mean)))
        ]
        return as_html(repr(self).splitlines()[0], rows, ("row", *columns))


class RunningSummary:
    """What the draws seen so far say of some rows, float64 on the CPU; as large as the answer.

    :param likelihood: of the targets.
    """

    def __init__(self, likelihood: Likelihood) -> None:
        self.likelihood = likelihood
        self._count = 0
        self._values: dict[str, Tensor] = {}

    def add(
        self, f: Tensor, latents: Mapping[str, Tensor], num_draws: int, y: Tensor | None = None
    ) -> None:
        """Take in d more draws (moments by Chan, Golub and LeVeque's update).

        :param f: outputs ``[d, N, K]``, or ``[1, N, K]`` of one set of weights, float64.
        :param latents: the likelihood's, ``[d, 1, ...]``.
        :param num_draws: d.
        :param y: targets of the rows to score, ``[N]`` (``[N, K]``), the same ones for all draws.
        """
        before, self._count = self._count, self._count + num_draws
        share = num_draws / self._count
        means = self.likelihood.mean(f, latents)
        mean, v = means.mean(0), self._values
        distribution = self.likelihood.distribution(f, latents)
        if self.likelihood.predicts_classes:
            entropy = _entropy(means, classes=means.ndim == f.ndim)
            self._average("aleatoric", entropy.mean(0), share)
        else:
            # sum of squared deviations of the draws' means, and mean of their variances
            squares = (means - mean).square().mean(0) * num_draws
            if before:
                squares = v["squares"] + squares + before * share * (mean - v["mean"]).square()
            v["squares"] = squares
            self._average("noise", distribution.variance.mean(0), share)
        self._average("mean", mean, share)
        if y is not None:
            if not before:
                check_targets(y, distribution)
            score = distribution.log_prob(y).logsumexp(0)
            v["scores"] = torch.logaddexp(v["scores"], score) if before else score

    def _average(self, name: str, value: Tensor, share: float) -> None:
        mean = self._values.get(name)
        self._values[name] = value if mean is None else mean + share * (value - mean)

    def result(self) -> PredictiveSummary:
        """What all draws say."""
        v = self._values
        epistemic = v["squares"] / self._count if "squares" in v else None
        return PredictiveSummary(
            mean=v["mean"],
            variance=None if epistemic is None else epistemic + v["noise"],
            epistemic_variance=epistemic,
            log_density=v["scores"] - math.log(self._count) if "scores" in v else None,
            entropy=_entropy(v["mean"], v["mean"].ndim > 1) if "aleatoric" in v else None,
            aleatoric=v.get("aleatoric"),
            num_draws=self._count,
        )


def predictive_quantiles(
    likelihood: Likelihood, f: Tensor, latents: Mapping[str, Tensor], probabilities: Sequence[float]
) -> Tensor:
    """Quantiles of the predictive mixture, ``[Q, N]`` (``[Q, N, K]``), ascending.

    :param f: outputs of all S draws, ``[S, N, K]``, or ``[1, N, K]`` of one set of weights, float64.
    :param latents: the likelihood's, ``[S, 1, ...]``.
    """
    rows = max(1, _PIECE // (f.shape[0] * f.shape[2]))
    pieces = [
        torch.stack([likelihood.quantile(p, piece, latents) for p in probabilities])
        for piece in f.split(rows, 1)
    ]
    return torch.cat(pieces, 1).cummax(0).values  # ascending, rounding apart


def check_targets(y: Tensor, distribution: TorchDistribution) -> None:
    """Raise :class:`DataError` unless y are targets that a predictive distribution can score.

    :param y: ``[N]`` (``[N, K]``).
    :param distribution: of draws first, ``[d, N]``.
    """
    shape = (*distribution.batch_shape[1:], *distribution.event_shape)
    if y.shape != shape:
        wanted = ["N", *shape[1:]]
        raise DataError(f"predict: y must be [{', '.join(map(str, wanted))}]; got {list(y.shape)}.")
    support: Any = distribution.support
    inside = support.check(y)
    if not inside.all():
        bad = y[~inside].flatten()
        raise DataError(
            f"predict: y holds values that this likelihood gives no probability, such as {bad[0].item():g}."
        )


def check_quantiles(likelihood: Likelihood, probabilities: Sequence[float]) -> None:
    """Raise :class:`ConfigurationError` unless quantiles of these probabilities can be had."""
    if isinstance(probabilities, Sequence) and probabilities and likelihood.predicts_classes:
        raise ConfigurationError(
            "quantiles: class labels have none; the mean holds the probabilities of the classes."
        )
    listed = isinstance(probabilities, Sequence) and all(map(is_number, probabilities))
    check_that("quantiles", "they", probabilities, listed, "a sequence of probabilities")
    inside = all(0 < p < 1 for p in probabilities)
    if not inside or any(a >= b for a, b in pairwise(probabilities)):
        raise ConfigurationError(
            f"quantiles: give ascending probabilities strictly between 0 and 1; got {list(probabilities)}."
        )


def joined(parts: Sequence[PredictiveSummary]) -> PredictiveSummary:
    """Summaries of the same draws at rows that follow each other, as one."""
    first = parts[0]
    if len(parts) == 1:
        return first
    along_rows: dict[str, Any] = {
        f.name: torch.cat(
            [getattr(part, f.name) for part in parts], 1 if f.name == "quantiles" else 0
        )
        for f in fields(first)
        if isinstance(getattr(first, f.name), Tensor)
    }
    return replace(first, **along_rows)


def _entropy(probabilities: Tensor, classes: bool) -> Tensor:
    """Entropy in nats of class probabilities along the last dimension, or of probabilities of 1."""
    if classes:
        return torch.special.entr(probabilities).sum(-1)
    return torch.special.entr(probabilities) + torch.special.entr(1 - probabilities)
