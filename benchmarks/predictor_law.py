"""The joint law of a network's predictors beside the exact sampler, on predictors that correlate at 0.95.

    python benchmarks/predictor_law.py --json benchmarks/results/predictor_law.json        (two minutes a problem)

4-[2] networks of tanh nodes under SS-IG, 60 rows, y = tanh(1.5 x1) + noise of standard deviation 0.7, default fits. The
exact sampler (``certify``) runs for 90 seconds on what it takes for undecided, all four predictors and the nodes; for
each predictor the inclusion by the guide, by the law and by the sampler, with its Monte-Carlo error.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from calibration import rounded

import pyro_ssbnn as ss
from pyro_ssbnn.files.atomic import write_text
from pyro_ssbnn.isolation import isolated

ROWS, PREDICTORS, CORRELATION, NOISE, BUDGET = 60, 4, 0.95, 0.7, 90


def run(seed: int) -> dict:
    """One problem."""
    with isolated(seed, torch.zeros(())):
        common, own = torch.randn(ROWS, 1), torch.randn(ROWS, PREDICTORS)
        x = (CORRELATION**0.5 * common + (1 - CORRELATION) ** 0.5 * own).double()
        y = torch.tanh(1.5 * x[:, 0]) + NOISE * torch.randn(ROWS).double()
    net = ss.MLP(
        PREDICTORS,
        [2],
        prior=ss.SSIG(inclusion=0.5),
        likelihood=ss.GaussianLikelihood(concentration=3.0, rate=0.5),
        input_inclusion=0.3,
        activation="tanh",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = ss.fit(net, x, y, ss.TrainingOptions(dtype="float64", seed=seed), progress=False)
    law = ss.predictor_law(fit, x, y).summary()
    certificate = ss.certify(fit, x, y, budget=BUDGET, correlated=0.5)
    table = certificate.table.reindex(law.index)
    return {
        "finding": certificate.finding,
        "r_hat": certificate.r_hat,
        "nodes": int((fit.guide.inclusion()["hidden1"] > 0.5).sum()),
        "guide": law["fitted"].tolist(),
        "law": law["inclusion"].tolist(),
        "exact": table["exact"].tolist(),
        "error": table["error"].tolist(),
    }


def report(results: dict[str, dict]) -> None:
    """Print each problem, and the mean absolute errors."""
    kept = {seed: r for seed, r in results.items() if np.isfinite(r["exact"]).all()}
    for seed, r in results.items():
        print(f"{seed}: {r['nodes']} nodes, R-hat {r['r_hat']:.3f}; {r['finding'][:90]}")
        for name in ("guide", "law", "exact", "error"):
            print(f"  {name:>6}", " ".join(f"{v:6.3f}" for v in r[name]))
    exact = np.array([r["exact"] for r in kept.values()])
    for name in ("guide", "law"):
        apart = np.abs(np.array([r[name] for r in kept.values()]) - exact)
        print(f"{name}: mean absolute error {apart.mean():.3f}, worst {apart.max():.3f}")


def main() -> None:
    """Run the problems that the file does not hold yet, then print what it holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=6)
    parser.add_argument("--json", type=Path, help="all figures; problems it holds are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    held = arguments.json is not None and arguments.json.exists()
    results = json.loads(arguments.json.read_text()) if held else {}
    for seed in range(arguments.problems):
        if str(seed) not in results:
            results[str(seed)] = run(seed)
            if arguments.json:
                write_text(arguments.json, json.dumps(rounded(results)) + "\n")
    report(results)


if __name__ == "__main__":
    main()
