"""What a training step costs under Pyro's handlers, traced and compiled, and what a whole default fit costs.

CPU seconds on one thread. Steps take turns, round after round; medians. First calls and fits are those of an empty
compiler cache and of a warm one; fits are processes of their own, compiling children included, imports left out.

    python benchmarks/steps.py --json benchmarks/results/steps.json
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median
from typing import Any

import torch

import pyro_ssbnn as ss
from pyro_ssbnn.inference.step import STEPS
from pyro_ssbnn.isolation import isolated

# predictors, hidden layers, rows of a step, particles
SHAPES = [(55, [64, 32], 32, 4), (10, [32], 62, 4), (784, [400, 400], 128, 1)]
FITS = [(1000, 55, [64, 32]), (200, 10, [32])]
ROUNDS = 7


def spent() -> float:
    """CPU seconds of this process and of its children so far."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def network(predictors: int, hidden: list[int]) -> ss.MLP:
    """SS-GHS with gated predictors, as for a table; an image's pixels carry no gates."""
    return ss.MLP(
        predictors,
        hidden,
        prior=ss.SSGHS(inclusion=0.1),
        likelihood=ss.GaussianLikelihood(),
        input_inclusion=1 / predictors if predictors < 784 else None,
    )


def time_steps(predictors: int, hidden: list[int], rows: int, particles: int) -> dict[str, Any]:
    """Milliseconds a step of each kind, and seconds of its first call."""
    model = network(predictors, hidden)
    guide = ss.StructuredGuide(model)
    elbo = ss.AnalyticELBO(particles, local_reparameterization=True)
    x, y, weight = torch.randn(rows, predictors), torch.randn(rows), torch.ones(())
    found: dict[str, Any] = {
        "network": f"{predictors}-{hidden}",
        "rows": rows,
        "particles": particles,
    }
    steps = {}
    with isolated(0, x, grad=True):
        for name, kind, first in [
            ("eager", "eager", ""),
            ("traced", "trace", "first"),
            ("compiled", "compile", "first_empty_cache"),
            ("compiled", "compile", "first_warm_cache"),
        ]:
            step = STEPS[kind](model, guide, elbo, 1000)
            start = spent()
            step.prepare(x, y)
            if first:
                found[f"{name}_{first}_s"] = spent() - start
            steps[name] = step
        rounds: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(ROUNDS):
            for name, step in steps.items():
                start = time.process_time()
                for _ in range(100):
                    step(x, y, weight)
                rounds[name].append(10 * (time.process_time() - start))
    return found | {f"{name}_ms": median(times) for name, times in rounds.items()}


def friedman(num_data: int, predictors: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Friedman's function of five predictors with noise of standard deviation 1; all standardised."""
    draws = torch.Generator().manual_seed(0)
    x = torch.rand(num_data, predictors, generator=draws)
    y = 10 * torch.sin(math.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2
    y = y + 10 * x[:, 3] + 5 * x[:, 4] + torch.randn(num_data, generator=draws)
    return (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()


def run_fit(index: int, compile: str) -> None:
    """A fit at the package's defaults; prints its CPU seconds."""
    num_data, predictors, hidden = FITS[index]
    x, y = friedman(num_data, predictors)
    options = ss.TrainingOptions(compile=compile)
    start = spent()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ss.fit(network(predictors, hidden), x, y, options, progress=False)
    print(spent() - start)


def time_fits() -> list[dict[str, Any]]:
    """CPU seconds of default fits, in processes of their own."""
    rows = []
    for index, (num_data, predictors, hidden) in enumerate(FITS):
        row: dict[str, Any] = {"rows": num_data, "network": f"{predictors}-{hidden}"}
        with tempfile.TemporaryDirectory() as cache:
            environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
            for name, compile in [
                ("off", "off"),
                ("trace", "trace"),
                ("auto_empty_cache", "auto"),
                ("auto_warm_cache", "auto"),
            ]:
                command = [sys.executable, __file__, "--fit", str(index), "--compile", compile]
                done = subprocess.run(
                    command, env=environment, capture_output=True, text=True, check=True
                )
                row[f"{name}_s"] = float(done.stdout.split()[-1])
        rows.append(row)
        print(row)
    return rows


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--fit", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--compile", default="auto", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.fit is not None:
        run_fit(arguments.fit, arguments.compile)
        return
    results: dict[str, Any] = {"torch": torch.__version__, "steps": []}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        for shape in SHAPES:
            results["steps"].append(time_steps(*shape))
            print(results["steps"][-1])
    results["fits"] = time_fits()
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
