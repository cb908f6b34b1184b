r"""The ``ss-ghs`` case of ``benchmarks/calibration.py`` against its exact posterior, by Gibbs sampling.

    python benchmarks/calibration_scales.py                       # what calibration.json holds, half a CPU minute

50 predictors are too many for a sum over all sets, and the slab scale is unknown. A sampler that visits each gate with
its own weight integrated out mixes well here: gates and weights, one predictor after the other, the noise variance, and
the slab scale t from a grid, once given the weights t u and once given u (interwoven, so that neither small nor large
scales hold it back). With the cap 1, :math:`t^2 = r / (1 + r)`, r the product of two squared half-Cauchy variables,
whose logarithm has the density :math:`x / (2 \pi^2 \sinh(x / 2))`. Eight chains a problem, half of them from no
predictor; the standard error is that of their means.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from calibration import CORRELATIONS
from calibration_problems import ACTING, CONCENTRATION, RATE, draw_blocks

Array = np.ndarray[Any, Any]

CHAINS, WARM_UP = 8, 0.25  # share of the sweeps
LOG_R = np.linspace(-24, 24, 481) + 1e-3
SCALES = 1 / np.sqrt(1 + np.exp(-LOG_R))
LOG_PRIOR = np.log(LOG_R / np.sinh(LOG_R / 2))


def pick(random: np.random.Generator, log_mass: Array) -> Array:
    """A slab scale for every chain, from log probabilities ``[B, grid]``."""
    mass = np.exp(log_mass - log_mass.max(1, keepdims=True)).cumsum(1)
    place = (mass < random.random((len(mass), 1)) * mass[:, -1:]).sum(1)
    return SCALES[place]


def inclusion(x: Array, y: Array, sweeps: int, seed: int = 0) -> tuple[Array, Array]:
    """Exact inclusion of each predictor and its standard error, ``[problems, p]``.

    :param x: predictors ``[problems, n, p]``.
    :param y: targets ``[problems, n]``.
    """
    random = np.random.default_rng(seed)
    x, y = np.repeat(x, CHAINS, 0), np.repeat(y, CHAINS, 0)
    count, rows, p = x.shape
    columns = np.ascontiguousarray(
        np.concatenate([x, np.ones((count, rows, 1))], 2).transpose(2, 0, 1)
    )
    squares = (columns**2).sum(2)
    prior = math.log(ACTING / p) - math.log1p(-ACTING / p)
    t, noise = np.exp(random.uniform(-5, 0, count)), np.ones(count)
    weights, gates = np.zeros((count, p + 1)), np.ones((count, p + 1))
    gates[:, :p] = random.random((count, p)) < ACTING / p * (np.arange(count) % 2)[:, None]
    residual, total, kept = y.copy(), np.zeros((count, p)), 0
    for sweep in range(sweeps):
        kept += sweep >= WARM_UP * sweeps
        for j, column in enumerate(columns):
            residual += column * weights[:, j : j + 1]
            variance = 1 / (squares[j] / noise + 1 / t**2)
            mean = variance * (column * residual).sum(1) / noise
            if j < p:
                logit = prior + 0.5 * np.log(variance) - np.log(t) + mean**2 / (2 * variance)
                probability = 1 / (1 + np.exp(-logit.clip(-500, 500)))
                total[:, j] += probability * (sweep >= WARM_UP * sweeps)
                gates[:, j] = random.random(count) < probability
            drawn = mean + np.sqrt(variance) * random.standard_normal(count)
            weights[:, j] = gates[:, j] * drawn
            residual -= column * weights[:, j : j + 1]
        of_weights = gates.sum(1)[:, None] * np.log(SCALES)
        of_weights += 0.5 * (weights**2).sum(1)[:, None] / SCALES**2
        t = pick(random, LOG_PRIOR - of_weights)
        unit, fitted = weights / t[:, None], (y - residual) / t[:, None]
        square, cross = (fitted**2).sum(1)[:, None], (fitted * y).sum(1)[:, None]
        off = 0.5 * (square * SCALES**2 - 2 * cross * SCALES) / noise[:, None]
        t = pick(random, LOG_PRIOR - off)
        weights, residual = unit * t[:, None], y - fitted * t[:, None]
        rate = RATE + 0.5 * (residual**2).sum(1)
        noise = rate / random.gamma(CONCENTRATION + rows / 2, size=count)
    each = (total / kept).reshape(-1, CHAINS, p)
    return each.mean(1), each.std(1, ddof=1) / math.sqrt(CHAINS)


def main() -> None:
    """Hold every correlation's problems against the sampler."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/calibration.json"))
    parser.add_argument("--sweeps", type=int, default=1600)
    arguments = parser.parse_args()
    results = json.loads(arguments.json.read_text())["ss-ghs"]
    print(
        "correlation  error   bias     worst  largest of a sum   below 0.05: reported, exact, real"
    )
    for place, correlation in enumerate(CORRELATIONS):
        records = results[str(correlation)]
        drawn = [
            draw_blocks("ss-ghs", correlation, len(CORRELATIONS) * int(s) + place) for s in records
        ]
        x, y = (np.stack([problem[i].numpy() for problem in drawn]) for i in (1, 2))
        exact, error = inclusion(x, y, arguments.sweeps)
        reported = np.array([record["reported"] for record in records.values()])
        real = np.array([record["real"] for record in records.values()])
        apart, low = reported - exact, reported < 0.05
        print(
            f"{correlation:<13}{np.abs(apart).mean():.4f}  {apart.mean():+.4f}  {np.abs(apart).max():.3f}"
            f"  {np.abs(apart.sum(1)).max():.2f}               {reported[low].mean():.4f} {exact[low].mean():.4f}"
            f" {real[low].mean():.4f} of {low.sum()}; standard error at most {error.max():.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
