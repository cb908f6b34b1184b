"""What joint laws add to a fit: default fits of linear networks beside those of independent gates.

    python benchmarks/settling_cost.py --json benchmarks/results/settling_cost.json               # some CPU minutes

500 rows of 50 predictors, neighbours of which correlate at 0.7, as in ``benchmarks/tables.py``; the first five act. The
default guide, a :class:`~pyro_ssbnn.BlockGuide`, is trained and then settled on its joint laws; ``StructuredGuide`` is
trained alone. CPU seconds of one thread, fits of both guides in turn.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from tables_problems import neighbours

import pyro_ssbnn as ss
from pyro_ssbnn.files.atomic import write_text

ROWS, PREDICTORS, REAL = 500, 50, 5
PRIORS = {"ss-ig": ss.Gaussian(), "ss-gl": ss.GroupLasso(), "ss-ghs": ss.GroupHorseshoe()}


def run(prior: str, seed: int) -> dict[str, float]:
    """CPU seconds of a fit by each guide."""
    random = np.random.default_rng(seed)
    x = neighbours(random, (ROWS, PREDICTORS))
    x = (x - x.mean(0)) / x.std(0)
    y = x[:, :REAL] @ random.normal(0, 0.5, REAL) + random.normal(size=ROWS)
    x, y = (torch.as_tensor(values, dtype=torch.float32) for values in (x, y))
    net = ss.MLP(
        PREDICTORS,
        [],
        prior=ss.Gaussian(),
        output_prior=PRIORS[prior],
        likelihood=ss.GaussianLikelihood(),
        input_inclusion=REAL / PREDICTORS,
    )
    seconds = {}
    for name, guide in (("joint", ss.BlockGuide(net)), ("independent", ss.StructuredGuide(net))):
        began = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ss.fit(net, x, y, ss.TrainingOptions(seed=seed), guide=guide, progress=False)
        seconds[name] = round(time.process_time() - began, 1)
    return seconds


def main() -> None:
    """Run what the file does not hold yet, then print what it holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="all figures; fits it holds are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    held = arguments.json is not None and arguments.json.exists()
    results = json.loads(arguments.json.read_text()) if held else {}
    run("ss-ig", 1_000)  # what only the first fit of a process costs
    for seed in range(arguments.seeds):
        for prior in PRIORS:
            if f"{prior} {seed}" not in results:
                results[f"{prior} {seed}"] = run(prior, seed)
            if arguments.json:
                write_text(arguments.json, json.dumps(results) + "\n")
    for prior in PRIORS:
        rows = [row for key, row in results.items() if key.startswith(f"{prior} ")]
        joint, independent = (np.mean([row[k] for row in rows]) for k in ("joint", "independent"))
        print(
            f"{prior}: {joint:.1f} s, {independent:.1f} s without, {joint / independent:.2f} times"
        )


if __name__ == "__main__":
    main()
