r"""Do bands of effects cover the truth? Friedman's function of five of ten uniform predictors, whose effects are known.

    python benchmarks/effects.py --json benchmarks/results/effects.json
    python benchmarks/effects.py --quick

.. math:: y = 10\sin(\pi x_1 x_2) + 20 (x_3 - 1/2)^2 + 10 x_4 + 5 x_5 + N(0, 1),\qquad n = 500

The true partial dependence and accumulated effect are those of this function on the same rows and points. Counted is
how often the central 90 % posterior band holds it, over 20 points of each of the five predictors and all data sets;
idle predictors have no effect, and count apart. Predictors and target are standardised; predictor gates have the prior
inclusion 0.2; the fits are made at the package's defaults.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from resume import run_missing
from torch import Tensor

import pyro_ssbnn as ss

REAL, PREDICTORS, ROWS = 5, 10, 500
POINTS, DRAWS = 20, 400
LEVEL = 0.9


def friedman(x: Tensor) -> Tensor:
    """Friedman's (1991) function of uniform predictors."""
    a, b, c, d, e = x[:, :REAL].unbind(1)
    return 10 * torch.sin(math.pi * a * b) + 20 * (c - 0.5).square() + 10 * d + 5 * e


def true_dependence(x: Tensor, column: int, points: np.ndarray) -> np.ndarray:
    """Partial dependence of the function on standardised predictors x."""
    means = []
    for value in points:
        moved = x.clone()
        moved[:, column] = value
        means.append(float(friedman(own(moved)).mean()))
    return np.asarray(means)


def true_accumulation(x: Tensor, column: int, points: np.ndarray) -> np.ndarray:
    """Accumulated local effect of the function, with the same bins, averaging to 0 over the rows."""
    bins = np.searchsorted(points, x[:, column].numpy()).clip(1)
    steps = []
    for b in range(1, len(points)):
        ends = []
        for value in points[b - 1 : b + 1]:
            moved = x[bins == b].clone()
            moved[:, column] = value
            ends.append(float(friedman(own(moved)).mean()))
        steps.append(ends[1] - ends[0])
    effect = np.concatenate([[0.0], np.cumsum(steps)])
    return effect - 0.5 * (effect[bins] + effect[bins - 1]).mean()


def own(x: Tensor) -> Tensor:
    """Uniform predictors from standardised ones."""
    return x / math.sqrt(12) + 0.5


def run(seed: int, options: dict) -> dict:
    """Fit one data set, and see which bands hold the truth."""
    torch.manual_seed(seed)
    x = (torch.rand(ROWS, PREDICTORS) - 0.5) * math.sqrt(12)
    y = friedman(own(x)) + torch.randn(ROWS)
    loc, scale = float(y.mean()), float(y.std())
    net = ss.MLP(
        PREDICTORS,
        [32],
        prior=ss.SSGHS(),
        likelihood=ss.GaussianLikelihood(),
        input_inclusion=0.2,
    )
    target = (y - loc) / scale
    fit = ss.fit(net, x, target, ss.TrainingOptions(seed=seed, **options), progress=False)
    model, guide, x = fit.model, fit.guide, x.double()
    shared = {"num_points": POINTS, "num_draws": DRAWS}

    def back(mean: Tensor) -> Tensor:
        return loc + scale * mean

    found: dict = {
        "elbo": float(fit.history.elbo[-1]),
        "inclusion": guide.inclusion()["input"].tolist(),
    }
    kinds: dict[str, list] = {name: [] for name in ("dependence", "centred", "accumulated", "idle")}
    for column in range(PREDICTORS):
        plain = ss.partial_dependence(model, guide, x, column, to_target=back, **shared)
        truth = true_dependence(averaged(x), column, plain.points)
        if column >= REAL:
            kinds["idle"].append(held(plain.centred(), truth - truth.mean()))
            continue
        kinds["dependence"].append(held(plain, truth))
        kinds["centred"].append(held(plain.centred(), truth - truth.mean()))
        local = ss.accumulated_effects(model, guide, x, column, to_target=back, **shared)
        kinds["accumulated"].append(held(local, true_accumulation(x, column, local.points)))
    return found | kinds


def averaged(x: Tensor) -> Tensor:
    """The rows that partial dependence averages over."""
    return x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:200]]


def held(effect: ss.Effect, truth: np.ndarray) -> dict:
    """Share of the points whose band holds the truth, width of the bands, and error of the posterior mean."""
    low, high = effect.band(LEVEL)
    inside = (low <= truth + 1e-9) & (truth - 1e-9 <= high)
    error = float(np.sqrt(((effect.draws.mean(0) - truth) ** 2).mean()))
    return {"covered": float(inside.mean()), "width": float((high - low).mean()), "error": error}


def main() -> None:
    """Run the data sets, and print coverages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--json", type=Path, help="file of all figures; what it holds is not run again"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--quick", action="store_true", help="one data set, a tenth of the steps")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    options = {"epochs": 130} if chosen.quick else {}
    seeds = range(chosen.first, chosen.first + (1 if chosen.quick else chosen.seeds))
    results = run_missing(
        map(str, seeds),
        lambda key: run(int(key), options),
        chosen.json,
        shown="elbo",
    )
    for kind in ("dependence", "centred", "accumulated", "idle"):
        rows = [row for seed in seeds for row in results[str(seed)][kind]]
        means = {key: np.mean([row[key] for row in rows]) for key in rows[0]}
        print(f"{kind:12}", "; ".join(f"{key} {value:.3f}" for key, value in means.items()))


if __name__ == "__main__":
    main()
