"""What linear terms buy: small linear and nonlinear tables, with and without them, beside the lasso.

    python benchmarks/linear_terms.py --seeds 5 --json benchmarks/results/linear_terms.json
    python benchmarks/linear_terms.py --quick

Every problem has training and test rows of its own for each seed; predictors and target are standardised by the
training rows, errors are in the target's own units. Networks are fitted with the package's defaults. ``cars`` are the
32 cars of Henderson and Velleman (1981, "Building multiple regression models interactively", Biometrics 37, 391-411),
25 of them for training: miles per gallon from the ten other columns.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LassoCV

import pyro_ssbnn as ss

Array = NDArray[np.float64]
Split = tuple[Array, Array, Array, Array, frozenset[int]]
"""Predictors and target for training, for testing, and the real predictors, none where they are not known."""

# Miles per gallon, cylinders, displacement, horsepower, axle ratio, weight, quarter mile, straight engine, manual,
# gears, carburettors.
CARS = """
21.0 6 160.0 110 3.90 2.620 16.46 0 1 4 4; 21.0 6 160.0 110 3.90 2.875 17.02 0 1 4 4
22.8 4 108.0 93 3.85 2.320 18.61 1 1 4 1; 21.4 6 258.0 110 3.08 3.215 19.44 1 0 3 1
18.7 8 360.0 175 3.15 3.440 17.02 0 0 3 2; 18.1 6 225.0 105 2.76 3.460 20.22 1 0 3 1
14.3 8 360.0 245 3.21 3.570 15.84 0 0 3 4; 24.4 4 146.7 62 3.69 3.190 20.00 1 0 4 2
22.8 4 140.8 95 3.92 3.150 22.90 1 0 4 2; 19.2 6 167.6 123 3.92 3.440 18.30 1 0 4 4
17.8 6 167.6 123 3.92 3.440 18.90 1 0 4 4; 16.4 8 275.8 180 3.07 4.070 17.40 0 0 3 3
17.3 8 275.8 180 3.07 3.730 17.60 0 0 3 3; 15.2 8 275.8 180 3.07 3.780 18.00 0 0 3 3
10.4 8 472.0 205 2.93 5.250 17.98 0 0 3 4; 10.4 8 460.0 215 3.00 5.424 17.82 0 0 3 4
14.7 8 440.0 230 3.23 5.345 17.42 0 0 3 4; 32.4 4 78.7 66 4.08 2.200 19.47 1 1 4 1
30.4 4 75.7 52 4.93 1.615 18.52 1 1 4 2; 33.9 4 71.1 65 4.22 1.835 19.90 1 1 4 1
21.5 4 120.1 97 3.70 2.465 20.01 1 0 3 1; 15.5 8 318.0 150 2.76 3.520 16.87 0 0 3 2
15.2 8 304.0 150 3.15 3.435 17.30 0 0 3 2; 13.3 8 350.0 245 3.73 3.840 15.41 0 0 3 4
19.2 8 400.0 175 3.08 3.845 17.05 0 0 3 2; 27.3 4 79.0 66 4.08 1.935 18.90 1 1 4 1
26.0 4 120.3 91 4.43 2.140 16.70 0 1 5 2; 30.4 4 95.1 113 3.77 1.513 16.90 1 1 5 2
15.8 8 351.0 264 4.22 3.170 14.50 0 1 5 4; 19.7 6 145.0 175 3.62 2.770 15.50 0 1 5 6
15.0 8 301.0 335 3.54 3.570 14.60 0 1 5 8; 21.4 4 121.0 109 4.11 2.780 18.60 1 1 4 2
"""


def cars(seed: int) -> Split:
    """25 cars drawn for training, 7 left out."""
    table = np.array([row.split() for row in CARS.replace(";", "\n").strip().splitlines()], float)
    order = np.random.default_rng(seed).permutation(len(table))
    train, test = table[order[:25]], table[order[25:]]
    return train[:, 1:], train[:, 0], test[:, 1:], test[:, 0], frozenset()


def simulated(
    f: Callable[[Array], Array], rows: int, predictors: int, noise: float, real: int
) -> Callable[[int], Split]:
    """Uniform predictors on (0, 1), of which the first are real; 2,000 test rows without noise."""

    def draw(seed: int) -> Split:
        rng = np.random.default_rng(1000 + seed)
        x, fresh = rng.random((rows, predictors)), rng.random((2000, predictors))
        y = f(x) + noise * rng.standard_normal(rows)
        return x, y, fresh, f(fresh), frozenset(range(real))

    return draw


def line(x: Array) -> Array:
    """A sparse linear function."""
    value: Array = 6 * x[:, 0] - 4 * x[:, 1] + 3 * x[:, 2]
    return value


def friedman(x: Array) -> Array:
    """Friedman's first function: five predictors, of which two act linearly."""
    value: Array = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2
    return value + 10 * x[:, 3] + 5 * x[:, 4]


def curves(x: Array) -> Array:
    """No linear part at all."""
    value: Array = 2 * np.sin(2 * np.pi * x[:, 0]) + 8 * (x[:, 1] - 0.5) ** 2
    return value


PROBLEMS: dict[str, Callable[[int], Split]] = {
    "cars, n = 25": cars,
    "line, n = 30": simulated(line, 30, 10, 1.0, 3),
    "line, n = 100": simulated(line, 100, 20, 1.0, 3),
    "Friedman, n = 100": simulated(friedman, 100, 10, 1.0, 5),
    "Friedman, n = 300": simulated(friedman, 300, 10, 1.0, 5),
    "curves, n = 200": simulated(curves, 200, 10, 0.5, 2),
}


def network_scores(split: Split, linear: bool, seed: int, hidden: list[int]) -> dict[str, Any]:
    """Fit a network with the package's defaults."""
    x, y, fresh, target, real = split
    centre, scale = x.mean(0), x.std(0)
    rows, new = (torch.tensor((part - centre) / scale).float() for part in (x, fresh))
    standardised = torch.tensor((y - y.mean()) / y.std()).float()
    predictors = x.shape[1]
    net = ss.MLP(
        predictors,
        hidden,
        prior=ss.SSGHS(inclusion=0.1),
        likelihood=ss.GaussianLikelihood(),
        input_inclusion=1 / predictors,
        linear=linear,
    )
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ss.errors.CollapseWarning)
        options = ss.TrainingOptions(seed=seed)
        fit = ss.fit(net, rows, standardised, options, progress=False)
    seconds = time.process_time() - start
    mean = ss.predict(fit.model, fit.guide, new).mean.squeeze(-1).numpy() * y.std() + y.mean()
    inclusion = fit.guide.inclusion()
    nonlinear = inclusion["input"]
    terms = inclusion.get("linear", torch.zeros_like(nonlinear))
    chosen = set((1 - (1 - nonlinear) * (1 - terms) > 0.5).nonzero().flatten().tolist())
    bound = ss.evaluate_bound(fit.model, fit.guide, rows, standardised)
    return {
        "rmse": math.sqrt(((mean - target) ** 2).mean()),
        "elbo": bound.elbo,
        "nonlinear": nonlinear.tolist(),
        "linear": terms.tolist(),
        "nodes": int((inclusion["hidden1"] > 0.5).sum()),
        "selected": len(chosen),
        "false": len(chosen - real) if real else None,
        "seconds": seconds,
    }


def lasso_scores(split: Split) -> dict[str, Any]:
    """The lasso with its penalty by cross-validation."""
    x, y, fresh, target, real = split
    centre, scale = x.mean(0), x.std(0)
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence at the smallest penalties
        lasso = LassoCV(cv=5, random_state=0).fit((x - centre) / scale, y)
    mean = lasso.predict((fresh - centre) / scale)
    chosen = set(np.flatnonzero(lasso.coef_).tolist())
    return {
        "rmse": math.sqrt(((mean - target) ** 2).mean()),
        "selected": len(chosen),
        "false": len(chosen - real) if real else None,
        "seconds": time.process_time() - start,
    }


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="data sets of each problem")
    parser.add_argument("--quick", action="store_true", help="the cars alone, two splits")
    parser.add_argument("--only", help="problems whose name has this in it")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--json", type=Path, help="file of all figures; other problems' stay in it")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    only = "cars" if arguments.quick else arguments.only or ""
    seeds = range(2 if arguments.quick else arguments.seeds)
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for name, draw in PROBLEMS.items():
        if only not in name:
            continue
        parts = found[name] = {"without": [], "with": [], "lasso": []}
        for seed in seeds:
            split = draw(seed)
            parts["without"].append(network_scores(split, False, seed, [arguments.hidden]))
            parts["with"].append(network_scores(split, True, seed, [arguments.hidden]))
            parts["lasso"].append(lasso_scores(split))
        for method, scores in parts.items():
            rmse = [score["rmse"] for score in scores]
            numbers = " ".join(f"{value:.2f}" for value in rmse)
            extra = {
                key: np.mean([s[key] for s in scores if s.get(key) is not None])
                for key in ("elbo", "selected", "false", "nodes", "seconds")
                if scores[0].get(key) is not None
            }
            told = ", ".join(f"{key} {value:.1f}" for key, value in extra.items())
            print(f"{name:18} {method:8} RMSE {np.mean(rmse):.2f} ({numbers}); {told}", flush=True)
    if arguments.json is not None:
        before = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
        arguments.json.write_text(json.dumps(before | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
