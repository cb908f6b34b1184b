r"""Reported against exact inclusion probabilities, on problems drawn from the prior.

    python benchmarks/calibration.py --json calibration.json     # everything; problems in the file are not run again
    python benchmarks/calibration.py --quick                     # four problems at each correlation, a minute or two

A linear network of p gated predictors (p is drawn from 8 to 12), n = 64 rows, known noise 1: gates open with
probability 0.3, weights and bias are Normal(0, 0.5^2), any two predictors correlate at 0, 0.6 or 0.95. All of it is
drawn from the prior, so that a predictor of exact inclusion q is real with probability q, and the exact answer is a sum
over 2^p sets (:func:`pyro_ssbnn.exact.linear_evidence`). Networks are fitted by package defaults.

Reported for each correlation: mean absolute difference from the exact inclusion, mean difference (positive: too high),
the largest, and that of the sum over a problem's predictors; predictors above 0.9 whose exact inclusion is below 0.7;
the slope of reported against exact log Bayes factors up to 25; the share of false ones among those that a Bayesian
false discovery rate of 0.1 keeps; and, in bins of reported inclusion, how many predictors are real.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import pyro_ssbnn as ss
from pyro_ssbnn.errors import CollapseWarning
from pyro_ssbnn.exact import linear_evidence
from pyro_ssbnn.files.atomic import write_text

CORRELATIONS = (0.0, 0.6, 0.95)
ROWS, INCLUSION, SLAB, NOISE = 64, 0.3, 0.5, 1.0
FDR = 0.1
BINS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0)


def draw_problem(correlation: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Predictors ``[n, p]``, targets ``[n]`` and true gates ``[p]`` of one problem, float64."""
    generator = torch.Generator().manual_seed(seed)
    p = 8 + int(torch.randint(5, (), generator=generator))
    options = {"generator": generator, "dtype": torch.float64}
    common, own = torch.randn(ROWS, 1, **options), torch.randn(ROWS, p, **options)
    x = correlation**0.5 * common + (1 - correlation) ** 0.5 * own
    gates = (torch.rand(p, **options) < INCLUSION).double()
    weights = SLAB * torch.randn(p + 1, **options)
    noise = NOISE * torch.randn(ROWS, **options)
    return x, x @ (gates * weights[:p]) + weights[p] + noise, gates


def make_network(p: int) -> ss.MLP:
    """The linear network whose prior the problems are drawn from."""
    return ss.MLP(
        p,
        [],
        prior=ss.Gaussian(),
        output_prior=ss.Gaussian(scale=SLAB),
        likelihood=ss.GaussianLikelihood(scale=NOISE),
        input_inclusion=INCLUSION,
    )


def run_one(correlation: float, seed: int, options: ss.TrainingOptions) -> dict:
    """Fit one problem, and put its exact answer beside."""
    x, y, gates = draw_problem(correlation, seed)
    evidence = linear_evidence(x, y, noise_scale=NOISE, inclusion=INCLUSION, slab_scale=SLAB)
    table, mass = evidence.structures.table.bool(), evidence.probability.log().unsqueeze(-1)
    never = mass.new_full((), -np.inf)
    odds = [torch.where(rows, mass, never).logsumexp(0) for rows in (table, ~table)]
    prior_logit = np.log(INCLUSION / (1 - INCLUSION))
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)  # no predictor may be the right answer
        fit = ss.fit(make_network(x.shape[1]), x, y, options, progress=False)
    seconds = time.process_time() - start
    summary = ss.inclusion_summary(fit.guide)
    kept = ss.select_fdr(fit.guide.inclusion(), level=FDR).mask("input")
    return {
        "real": gates.tolist(),
        "exact": evidence.inclusion()["input"].tolist(),
        "exact_log_bayes_factor": (odds[0] - odds[1] - prior_logit).tolist(),
        "reported": summary["inclusion"].tolist(),
        "log_bayes_factor": summary["log_bayes_factor"].tolist(),
        "kept": kept.tolist(),
        "seconds": round(seconds, 2),
    }


def figures(records: list[dict]) -> dict[str, float]:
    """What is reported of the problems of one correlation."""
    each = {
        key: np.concatenate([r[key] for r in records]) for key in records[0] if key != "seconds"
    }
    difference = each["reported"] - each["exact"]
    sums = [sum(r["reported"]) - sum(r["exact"]) for r in records]
    exact, factor = each["exact_log_bayes_factor"], each["log_bayes_factor"]
    judged = np.isfinite(factor) & (exact < 25)
    kept, real = each["kept"].astype(bool), each["real"].astype(bool)
    return {
        "predictors": len(difference),
        "error": float(np.abs(difference).mean()),
        "bias": float(difference.mean()),
        "worst": float(np.abs(difference).max()),
        "sum": float(np.abs(sums).max()),
        "confident_wrong": int(((each["reported"] > 0.9) & (each["exact"] < 0.7)).sum()),
        "slope": float(np.polyfit(exact[judged], factor[judged], 1)[0]),
        "kept": int(kept.sum()),
        "false": int((kept & ~real).sum()),
        "seconds": float(np.mean([r["seconds"] for r in records])),
    }


def reliability(records: list[dict]) -> list[tuple[float, float, int, int]]:
    """Mean reported inclusion, share of real ones, their number and that of all, bin by bin."""
    reported = np.concatenate([r["reported"] for r in records])
    real = np.concatenate([r["real"] for r in records])
    place = np.clip(np.searchsorted(BINS, reported, side="right") - 1, 0, len(BINS) - 2)
    rows = []
    for index in range(len(BINS) - 1):
        members = place == index
        if members.any():
            count, all_ = int(real[members].sum()), int(members.sum())
            rows.append((float(reported[members].mean()), count / all_, count, all_))
    return rows


def print_report(results: dict[str, dict[str, dict]]) -> None:
    """Print all figures, one correlation a row, and the reliability table."""
    print(
        "correlation  predictors  error  bias    worst  sum    >.9 and <.7  slope  kept  false  s"
    )
    for correlation, problems in results.items():
        f = figures(list(problems.values()))
        print(
            f"{correlation:>11}  {f['predictors']:>10}  {f['error']:.3f}  {f['bias']:+.3f}  {f['worst']:.3f}"
            f"  {f['sum']:.3f}  {f['confident_wrong']:>11}  {f['slope']:>5.2f}  {f['kept']:>4}  {f['false']:>5}"
            f"  {f['seconds']:.1f}"
        )
    print("reported  real   (of)   z")
    for mean, share, count, all_ in reliability([r for p in results.values() for r in p.values()]):
        error = max(np.sqrt(mean * (1 - mean) / all_), 1e-9)
        print(f"{mean:>8.3f}  {share:.3f}  {count}/{all_}  {(share - mean) / error:+.1f}")


def main() -> None:
    """Run the problems that the file does not hold yet, then print what it holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=200, help="problems of each correlation")
    parser.add_argument("--first", type=int, default=0, help="seed of the first problem")
    parser.add_argument("--quick", action="store_true", help="four problems of each correlation")
    parser.add_argument("--compile", default="auto", help="how steps are run; see TrainingOptions")
    parser.add_argument("--json", type=Path, help="all figures; problems it holds are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    held = arguments.json is not None and arguments.json.exists()
    results = json.loads(arguments.json.read_text()) if held else {}
    options = ss.TrainingOptions(compile=arguments.compile)
    for seed in range(
        arguments.first, arguments.first + (4 if arguments.quick else arguments.problems)
    ):
        for correlation in CORRELATIONS:
            problems = results.setdefault(str(correlation), {})
            if str(seed) not in problems:
                problems[str(seed)] = run_one(correlation, seed, options)
        if arguments.json:
            write_text(arguments.json, json.dumps(results) + "\n")
    print_report(results)


if __name__ == "__main__":
    main()
