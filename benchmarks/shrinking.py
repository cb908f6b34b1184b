"""Does training that shrinks change the answer? The same fits with and without removal, over several seeds.

    python benchmarks/shrinking.py --json shrinking.json

A regression small enough to be fitted often: n = 400, ten predictors of which three matter (y = sin(2 x1) + x2 x3 +
noise), gates on predictors and on 32 hidden nodes, SS-GHS. For each seed: inclusion of every predictor, number of
active nodes, and predictive mean and log-density on 1,000 fresh rows. What removal changes at a given seed is set
beside what another seed changes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import warnings
from pathlib import Path

import torch
from torch import Tensor

import pyro_ssbnn as ss
from pyro_ssbnn.analysis import log_predictive_density
from pyro_ssbnn.files.atomic import write_text

NOISE = 0.2


def data(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Predictors and targets."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 10, generator=generator)
    y = torch.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + NOISE * torch.randn(n, generator=generator)
    return x, y


def run(seed: int, removal: bool, epochs: int) -> dict:
    """One fit and what it says."""
    x, y = data(400, 0)
    x_test, y_test = data(1000, 1)
    likelihood = ss.GaussianLikelihood()
    prior = ss.SSGHS(inclusion=0.1)
    model = ss.MLP(10, [32], prior=prior, likelihood=likelihood, input_inclusion=0.3)
    options = {} if removal else {"remove_below": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chosen = ss.TrainingOptions(epochs=epochs, seed=seed, **options)
        fitted = ss.fit(model, x, y, chosen, progress=False)
    draws = ss.draw_posterior(model, fitted.guide, 400, x=x_test, y=y_test)
    inclusion = fitted.guide.inclusion()
    return {
        "predictors": inclusion["input"].tolist(),
        "active": int((inclusion["hidden1"] > 0.5).sum()),
        "log_density": float(log_predictive_density(draws.log_likelihood)),
        "mean": draws.mean.mean(0).tolist(),
        "removed": len(fitted.history.removed),
        "seconds": fitted.history.seconds[-1],
    }


def distances(a: dict, b: dict) -> dict[str, float]:
    """How far two fits are apart."""
    gap = torch.tensor(a["mean"]) - torch.tensor(b["mean"])
    predictors = torch.tensor(a["predictors"]) - torch.tensor(b["predictors"])
    return {
        "predictor inclusion, largest difference": float(predictors.abs().max()),
        "active nodes": abs(a["active"] - b["active"]),
        "log density": abs(a["log_density"] - b["log_density"]),
        "predictive mean, RMS": float(gap.square().mean().sqrt()),
    }


def averaged(pairs: list[tuple[dict, dict]]) -> dict[str, float]:
    """Mean distance over pairs of fits."""
    each = [distances(a, b) for a, b in pairs]
    return {key: sum(d[key] for d in each) / len(each) for key in each[0]}


def main() -> None:
    """Run all fits and print both distances."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=800)
    parser.add_argument("--json", type=Path, help="write all figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    fits = {
        removal: [run(seed, removal, arguments.epochs) for seed in range(arguments.seeds)]
        for removal in (True, False)
    }
    removal = averaged(list(zip(fits[True], fits[False], strict=True)))
    seeds = averaged(list(itertools.combinations(fits[False], 2)))
    print("| mean distance between two fits | with and without removal | two seeds, no removal |")
    print("|---|---|---|")
    for key, value in removal.items():
        print(f"| {key} | {value:.3g} | {seeds[key]:.3g} |")
    for name, group in (("with", fits[True]), ("without", fits[False])):
        active = [f["active"] for f in group]
        density = sum(f["log_density"] for f in group) / len(group)
        seconds = sum(f["seconds"] for f in group) / len(group)
        removed = sum(f["removed"] for f in group) / len(group)
        print(
            f"{name} removal: active nodes {active}, log density {density:.3f}, {removed:.1f} of 42 members removed,"
            f" {seconds:.1f} s a fit"
        )
    if arguments.json:
        record = {"with": fits[True], "without": fits[False], "distance": removal, "seeds": seeds}
        write_text(arguments.json, json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
