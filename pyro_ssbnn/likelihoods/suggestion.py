r"""Which likelihood suits targets, by their values alone, with the reason in words.

Targets without a look at the predictors say less than one may think: a strong predictor spreads them, too. So a choice
that holds the simpler one as a limit is suggested where the simpler one may fail: a negative binomial contains the
Poisson. Counts are told from it by the index of dispersion, :math:`(n - 1) s^2/\bar y`, chi-squared of n - 1 degrees of
freedom for Poisson counts of one mean (Fisher 1950); counts that vary less than the mean in all vary less given the
predictors as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pyro_ssbnn.errors import DataError
from pyro_ssbnn.likelihoods.base import Likelihood
from pyro_ssbnn.likelihoods.bernoulli import BernoulliLikelihood
from pyro_ssbnn.likelihoods.gaussian import GaussianLikelihood
from pyro_ssbnn.likelihoods.negative_binomial import NegativeBinomialLikelihood
from pyro_ssbnn.likelihoods.ordinal import OrdinalLikelihood
from pyro_ssbnn.likelihoods.poisson import PoissonLikelihood
from pyro_ssbnn.likelihoods.student_t import StudentTLikelihood
from pyro_ssbnn.likelihoods.survival import WeibullLikelihood

__all__ = ["Suggestion", "suggest_likelihood"]

_LEVEL = 0.001  # of the test of dispersion
_GRADES = 10  # different values, at most, of what may be grades
_FAR = 6.0  # robust standard deviations from the median: one Normal value in 500 million
_FEW = 3  # values so far out that are no accident
_HEADROOM = 10.0  # largest mean of counts over the largest count


@dataclass(frozen=True)
class Suggestion:
    """A likelihood and why.

    :param likelihood: with the unit and the largest mean that the targets ask for.
    :param reason: one or two sentences, with what else may be meant.
    """

    likelihood: Likelihood
    reason: str


def suggest_likelihood(y: ArrayLike | Tensor, *, counts: bool = False) -> Suggestion:
    """Suggest a likelihood for targets in their own units.

    :param y: targets ``[N]``; ``[N, 2]`` of positive times with 0 and 1 beside them are taken for censored times, other
        ``[N, K]`` for several numbers. Names of classes are not numbers: code them first.
    :param counts: whether y is known to count something; whole numbers may be grades or quantities otherwise.
    :raises DataError: for missing or infinite values, for anything but numbers, and for targets that are all the same.

    >>> suggest_likelihood([0, 0, 3, 0, 12, 1, 0, 0, 7, 0, 0, 25]).likelihood.name
    'negative-binomial'
    >>> print(suggest_likelihood([True, False, True]).reason)
    Zeros and ones: Bernoulli.
    """
    values = _numbers(y)
    if values.ndim == 2:
        return _of_columns(values)
    if np.ptp(values) == 0:
        raise DataError(
            f"suggest_likelihood: all y are {values[0]:g}; there is nothing to predict."
        )
    whole = bool((values == np.round(values)).all() and (values >= 0).all())
    if counts:
        if not whole:
            raise DataError(
                "suggest_likelihood: counts are whole numbers 0, 1, 2, ...; got others."
            )
        return _of_counts(values)
    if np.isin(values, (0, 1)).all():
        return Suggestion(BernoulliLikelihood(), "Zeros and ones: Bernoulli.")
    return _of_whole_numbers(values) if whole else _of_measurements(values)


def _numbers(y: ArrayLike | Tensor) -> NDArray[np.float64]:
    try:
        values = np.asarray(y.detach().cpu() if isinstance(y, Tensor) else y).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"suggest_likelihood: y must hold numbers ({error}); code classes as 0..K-1 and take CategoricalLikelihood."
        ) from error
    if values.ndim not in (1, 2) or not values.size:
        raise DataError(f"suggest_likelihood: y must be [N] or [N, K]; got {list(values.shape)}.")
    if not np.isfinite(values).all():
        raise DataError("suggest_likelihood: y has missing or infinite values; remove those rows.")
    return values


def _of_columns(values: NDArray[np.float64]) -> Suggestion:
    columns = values.shape[1]
    if columns == 2 and (values[:, 0] > 0).all() and np.isin(values[:, 1], (0, 1)).all():
        median = float(np.median(values[:, 0]))
        share = 100 * (1 - values[:, 1].mean())
        return Suggestion(
            WeibullLikelihood(unit=median),
            f"Positive times beside zeros and ones, {share:.0f} % zeros: Weibull times, censored on the right. A"
            " log-normal lets the hazard rise and fall again.",
        )
    return Suggestion(
        GaussianLikelihood(num_targets=columns), f"{columns} numbers a row: Gaussian, standardised."
    )


def _of_whole_numbers(values: NDArray[np.float64]) -> Suggestion:
    found = np.unique(values)
    first = int(found[0])
    if _dispersion(values)[1] >= _LEVEL:
        return _of_counts(values)
    in_a_row = np.array_equal(found, first + np.arange(len(found)))
    if first <= 1 and 2 < len(found) <= _GRADES and in_a_row:
        shift = " Pass y - 1, as grades are numbered from 0." if first == 1 else ""
        return Suggestion(
            OrdinalLikelihood(len(found)),
            f"{len(found)} whole numbers in a row that vary less than counts of their mean would: grades, ordinal."
            f"{shift} If they number classes without an order: Categorical.",
        )
    return Suggestion(
        GaussianLikelihood(),
        "Whole numbers that vary less than counts of their mean would: a quantity, Gaussian, standardised.",
    )


def _of_counts(values: NDArray[np.float64]) -> Suggestion:
    ratio, _, above = _dispersion(values)
    unit, largest = float(values.mean()), float(_HEADROOM * values.max())
    if above < _LEVEL:
        return Suggestion(
            NegativeBinomialLikelihood(unit, largest),
            f"Whole numbers whose variance is {ratio:.1f} times their mean: counts, negative binomial. A Poisson"
            " distribution has a variance equal to its mean.",
        )
    return Suggestion(
        PoissonLikelihood(unit, largest),
        f"Whole numbers whose variance is {ratio:.1f} times their mean: counts, Poisson.",
    )


def _dispersion(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Variance over mean, and the probabilities that Poisson counts of one mean have so little, and so much."""
    from scipy.special import chdtr, chdtrc  # half a second at import, for this alone

    ratio = float(values.var(ddof=1) / values.mean())
    freedom = len(values) - 1
    return (
        ratio,
        float(chdtr(freedom, freedom * ratio)),
        float(chdtrc(freedom, freedom * ratio)),
    )


def _of_measurements(values: NDArray[np.float64]) -> Suggestion:
    distance = values - np.median(values)
    spread = 1.4826 * np.median(np.abs(distance))  # the standard deviation, of Normal values
    far = np.abs(distance) > _FAR * spread
    above, below = int((far & (distance > 0)).sum()), int((far & (distance < 0)).sum())
    if spread > 0 and above + below >= _FEW and min(above, below) > 0:
        return Suggestion(
            StudentTLikelihood(),
            f"{above + below} of {len(values)} numbers lie more than {_FAR:g} robust standard deviations from the"
            " median, on both sides: Student-t, standardised.",
        )
    reason = "Numbers: Gaussian, standardised."
    if spread > 0 and above >= _FEW and values.min() > 0:
        reason += f" {above} of {len(values)}, all positive, lie far above the rest: consider their logarithm."
    return Suggestion(GaussianLikelihood(), reason)
