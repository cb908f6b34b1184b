r"""Do replicated data look like the data? Coverage, mean and spread, calibration of classes, and the prior's own data.

**Coverage** uses the probability integral transform :math:`u_i = P(\tilde y_i < y_i) + v_i P(\tilde y_i = y_i)`,
:math:`v_i` uniform, of the predictive distribution: an interval of level L holds y when :math:`|u - 1/2| < L/2`. For
training rows the draws carry leave-one-out weights. A predictive scale that is wrong by the factor s turns the
coverage L into :math:`2\Phi(z_L s) - 1` (s > 1: too wide), which translates ``SCALE_RATIO`` into limits of the
coverage.

**Classes**: mean probability of the most probable class against the share of rows where it is right, with the standard
error :math:`\sqrt{\sum c_i (1 - c_i)}/n` that a calibrated forecast would have.

**Replicates**: mean and standard deviation of y against those of S replicated data sets (Gelman, Meng and Stern 1996).

**Prior**: where the data's mean and standard deviation stand among those of data sets drawn from the prior (Box 1980).
Standard deviations of replicated data come from the law of total variance over the rows, without sampling noise.
"""

from __future__ import annotations

import math

import numpy as np
import pyro
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from pyro_ssbnn.analysis.diagnostics.evidence import Evidence
from pyro_ssbnn.analysis.diagnostics.report import SCALE_RATIO, SIGMAS, Check
from pyro_ssbnn.display import plain
from pyro_ssbnn.inference import Fit
from pyro_ssbnn.posterior.draws import draw_latents
from pyro_ssbnn.posterior.networks import outputs

__all__ = ["check_calibration", "check_prior_predictive", "check_replicates"]

Array = NDArray[np.float64]

_TAIL = 0.005  # two-sided, 1 %
_ABSURD = 100.0  # prior scale of y over that of the data
_GAP = 0.1  # between confidence and accuracy
_PRIOR_DRAWS, _PRIOR_ROWS = 500, 200


def check_calibration(evidence: Evidence) -> Check:
    """Coverage of predictive intervals, or confidence against accuracy for classes."""
    likelihood = evidence.result.model.likelihood
    if likelihood.predicts_classes:
        return _class_calibration(evidence)
    u = transformed(evidence).ravel()
    inside = {level: float((np.abs(u - 0.5) < level / 2).mean()) for level in (0.5, 0.9)}
    error = {level: math.sqrt(level * (1 - level) / len(u)) for level in inside}
    ratio = _implied_ratio(u)
    said = (
        f"{100 * inside[0.5]:.0f} % and {100 * inside[0.9]:.0f} % of {evidence.rows} lie in their 50 % and 90 %"
        " predictive intervals"
    )
    values = {"coverage_50": inside[0.5], "coverage_90": inside[0.9], "scale_ratio": ratio}
    if all(abs(inside[level] - level) <= SIGMAS * error[level] for level in inside):
        return Check("calibration", "ok", f"{said}.", values=values)
    far = any(
        not _scaled(v, 1 / SCALE_RATIO) <= inside[v] <= _scaled(v, SCALE_RATIO) for v in inside
    )
    narrow = inside[0.5] - 0.5 + inside[0.9] - 0.9 < 0
    todo = (
        "Infer the noise (GaussianLikelihood() without scale) or give a larger scale; for counts,"
        " NegativeBinomialLikelihood; for errors that are far off now and then, StudentTLikelihood; for a spread that"
        " changes with the predictors, HeteroscedasticLikelihood."
        if narrow
        else "Infer the noise (GaussianLikelihood() without scale) or give a smaller scale."
    )
    return Check(
        "calibration",
        "warning" if far else "note",
        f"{said}: the predictive distribution is too {'narrow' if narrow else 'wide'}"
        f" by a factor of about {max(ratio, 1 / ratio):.1f}.",
        todo,
        values,
    )


def transformed(evidence: Evidence) -> Array:
    """Probability integral transform of every observation, shape of y; ties are split at random (fixed seed).

    Of an observation that is censored at c, all that is above c is a tie.
    """
    if evidence.draws.predictive is None:
        raise ValueError("the evidence holds no predictions.")
    replicated = evidence.draws.predictive.double().numpy()  # [S, N(, K)]
    censored = evidence.result.model.likelihood.censored(evidence.y).numpy()
    observed = evidence.y.double().numpy()
    observed = np.where(censored, np.abs(observed), observed)
    weights = evidence.row_weights.T.reshape(len(replicated), -1, *[1] * (observed.ndim - 1))
    below = (weights * (replicated < observed)).sum(0)
    tied = (replicated == observed) | (censored & (replicated > observed))
    share = np.random.default_rng(evidence.seed).uniform(size=observed.shape)
    result: Array = below + share * (weights * tied).sum(0)
    return result


def check_replicates(evidence: Evidence) -> Check:
    """Mean and standard deviation of y among those of replicated data sets; for classes the share of each class."""
    likelihood = evidence.result.model.likelihood
    if evidence.draws.predictive is None:
        raise ValueError("the evidence holds no predictions.")
    censored = likelihood.censored(evidence.y)
    if censored.any():
        share = 100 * float(censored.double().mean())
        return Check(
            "replicates",
            "ok",
            f"{share:.0f} % of the times are censored: their mean and spread are not known, and not compared.",
        )
    replicated = evidence.draws.predictive.double().numpy()
    observed = evidence.y.double().numpy()
    if likelihood.predicts_classes:
        mean = evidence.draws.mean
        labels = [1] if mean is None or mean.ndim == 2 else range(mean.shape[-1])
        statistics = {f"share of class {k}": (replicated == k, observed == k) for k in labels}
        pairs = {k: (r.mean(1), float(o.mean())) for k, (r, o) in statistics.items()}
        unit = 1.0
    else:
        flat, y = replicated.reshape(len(replicated), -1), observed.ravel()
        pairs = {
            "mean": (flat.mean(1), float(y.mean())),
            "standard deviation": (flat.std(1), float(y.std())),
        }
        unit = float(y.std())
    values, far = {}, []
    for name, (drawn, seen) in pairs.items():
        tail = _tail(drawn, seen)
        typical = float(np.median(drawn))
        values[name] = {"observed": seen, "replicated": typical, "tail": tail}
        if tail < _TAIL and abs(typical - seen) > 0.1 * unit:
            far.append(f"{name} of y is {plain(seen, 3)}, of replicated data {plain(typical, 3)}")
    if not far:
        return Check(
            "replicates",
            "ok",
            f"Replicated data have the {' and '.join(pairs)} of the data.",
            values=values,
        )
    return Check(
        "replicates",
        "warning",
        f"Replicated data do not look like the data: {'; '.join(far)}.",
        "Look at the likelihood first (its kind and its scale), then at layers without active nodes.",
        values,
    )


def check_prior_predictive(result: Fit, x: Tensor, y: Tensor, *, seed: int = 0) -> Check:
    """Where mean and standard deviation of y stand among those of data sets drawn from the prior.

    :param x: predictors ``[N, p]``.
    :param y: targets.
    """
    likelihood = result.model.likelihood
    if likelihood.predicts_classes:
        return _prior_classes(result, x, seed)
    mean, spread = _prior_moments(result, x, seed)
    y = torch.where(likelihood.censored(y), y.abs(), y)
    observed = {"mean": float(y.double().mean()), "standard deviation": float(y.double().std())}
    drawn = {"mean": mean, "standard deviation": spread}
    tails = {name: _tail(drawn[name], observed[name]) for name in drawn}
    middle = float(np.median(spread))
    values = {
        "prior_sd": middle,
        "observed_sd": observed["standard deviation"],
        "tail_mean": tails["mean"],
        "tail_sd": tails["standard deviation"],
    }
    said = (
        f"Data drawn from the prior have a median standard deviation of {plain(middle, 3)}, y has"
        f" {plain(observed['standard deviation'], 3)}"
    )
    far = [name for name in drawn if tails[name] < _TAIL]
    if far:
        # A prior of few nodes and little noise expects little spread: data that have more are why one fits. But no
        # posterior comes back from a noise that is larger than all of y, and no output bias reaches a far mean.
        harmless = far == ["standard deviation"] and middle < observed["standard deviation"]
        return Check(
            "prior predictive",
            "note" if harmless else "warning",
            f"{said}; the {' and the '.join(far)} of y lies outside what the prior expects.",
            "Standardise y, or mend the likelihood's scale or the prior's.",
            values,
        )
    if middle > _ABSURD * observed["standard deviation"]:
        return Check(
            "prior predictive",
            "note",
            f"{said}: the prior expects much wilder data.",
            "A smaller slab scale (or global scale) would say what you believe.",
            values,
        )
    return Check("prior predictive", "ok", f"{said}.", values=values)


def _class_calibration(evidence: Evidence) -> Check:
    if evidence.draws.mean is None:
        raise ValueError("the evidence holds no predictions.")
    mean, weights = evidence.draws.mean.double().numpy(), evidence.row_weights.T
    labels = evidence.y.numpy()
    if mean.ndim == 2:
        p = (weights * mean).sum(0)
        confidence, right = np.maximum(p, 1 - p), (p > 0.5) == (labels > 0.5)
    else:
        p = (weights[..., None] * mean).sum(0)
        confidence, right = p.max(1), p.argmax(1) == labels
    gap = float(confidence.mean() - right.mean())
    error = math.sqrt(float((confidence * (1 - confidence)).sum())) / len(right)
    values = {
        "confidence": float(confidence.mean()),
        "accuracy": float(right.mean()),
        "error": error,
    }
    said = (
        f"On {evidence.rows} the most probable class has probability {confidence.mean():.3f} on average and is right at"
        f" {right.mean():.3f} ± {error:.3f}"
    )
    if abs(gap) <= SIGMAS * error:
        return Check("calibration", "ok", f"{said}.", values=values)
    return Check(
        "calibration",
        "warning" if abs(gap) > _GAP else "note",
        f"{said}: probabilities are too {'sure' if gap > 0 else 'timid'}.",
        "Do not read them as frequencies; see reliability on held-out rows.",
        values,
    )


def _prior_classes(result: Fit, x: Tensor, seed: int) -> Check:
    p = _prior_outputs(result, x, seed)[0]
    top = torch.maximum(p, 1 - p) if p.ndim == 2 else p.max(-1).values
    sure = float((top > 0.99).double().mean())
    values = {"share_certain": sure}
    said = f"Under the prior {100 * sure:.0f} % of the rows have a class of probability above 0.99"
    if sure <= 0.5:
        return Check("prior predictive", "ok", f"{said}.", values=values)
    return Check(
        "prior predictive",
        "note",
        f"{said}: the prior expects classes without overlap.",
        "A smaller slab scale (or global scale), or a narrower output_prior, would leave room for doubt.",
        values,
    )


def _prior_moments(result: Fit, x: Tensor, seed: int) -> tuple[Array, Array]:
    """Mean and standard deviation over the rows of y drawn from the prior, ``[S]`` each, by total variance."""
    mean, variance = _prior_outputs(result, x, seed)
    flat, noise = mean.reshape(len(mean), -1), variance.reshape(len(mean), -1)
    spread = (flat.var(1, correction=0) + noise.mean(1)).sqrt()
    return (
        np.nan_to_num(flat.mean(1).numpy(), nan=np.inf, posinf=np.inf),
        np.nan_to_num(spread.numpy(), nan=np.inf, posinf=np.inf),
    )


def _prior_outputs(result: Fit, x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Means and variances of y at some rows for draws from the prior, ``[S, N, ...]``, float64."""
    model, likelihood = result.model, result.model.likelihood
    rows, anchor = x[:_PRIOR_ROWS], next(result.guide.parameters()).new_zeros(1, x.shape[1])

    def prior() -> None:
        likelihood.sample_latents(model.network(anchor), model.description.prefix)

    parts = []
    for values in draw_latents(model, result.guide, _PRIOR_DRAWS, seed, program=prior):
        with torch.no_grad():
            f = outputs(model, values, rows).double()
        latents = likelihood.latents_of(values, model.description.prefix)
        with pyro.validation_enabled(
            False
        ):  # rates beyond the floating point range are an answer here, no error
            latents = {k: v.cpu().double() for k, v in latents.items()}
            variance = likelihood.distribution(f, latents).variance
        parts.append((likelihood.mean(f, latents), variance))
    mean, variance = (torch.cat(part) for part in zip(*parts, strict=True))
    return mean, variance


def _tail(drawn: Array, seen: float) -> float:
    """Smaller share of draws on either side of the observed value; ties count half."""
    above = float((drawn > seen).mean() + 0.5 * (drawn == seen).mean())
    return min(above, 1 - above)


def _scaled(level: float, ratio: float) -> float:
    """Coverage of an interval of this level when the predictive scale is ``ratio`` times the right one."""
    return float(2 * norm.cdf(norm.ppf((1 + level) / 2) * ratio) - 1)


def _implied_ratio(u: Array) -> float:
    """Predictive scale over the right one, from the quartiles of the transform on the Normal scale."""
    z = norm.ppf(np.clip(u, 1e-4, 1 - 1e-4))
    low, high = np.quantile(z, [0.25, 0.75])
    return float(2 * norm.ppf(0.75) / max(high - low, 1e-4))
