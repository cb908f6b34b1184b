r"""Reported against exact inclusion probabilities, on problems drawn from the prior.

    python benchmarks/calibration.py --json benchmarks/results/calibration.json --plots docs
    python benchmarks/calibration.py --quick                     # four problems at each correlation, a minute

Problems in the file are not run again. All are drawn anew by their seeds, 0, 1, ...; none is chosen.

``exact``: a linear network of p gated predictors (p is drawn from 8 to 12), n = 64 rows, known noise 1: gates open with
probability 0.3, weights and bias are Normal(0, 0.5^2), any two predictors correlate at 0, 0.6 or 0.95. All of it is
drawn from the prior, so that a predictor of exact inclusion q is real with probability q, and the exact answer is a sum
over 2^p sets (:func:`pyro_ssbnn.exact.linear_evidence`). ``large``: the same of 15 to 18 predictors of inclusion 0.15,
more than one block holds all sets of. ``blocks``: 50 predictors in five blocks of ten that correlate so, n = 150, five
expected to act, and an unknown noise variance drawn from its prior, InverseGamma(5, 4). ``wide``: the same of 500
predictors in fifty blocks, n = 300. ``ss-gl`` and ``ss-ghs``: as ``blocks``, with a slab scale that is drawn from its
prior and unknown. All are settled from random starting values (:func:`pyro_ssbnn.settle`), which is what ends a default
fit of such a network; ``--fits`` counts the problems of ``exact`` that are fitted by package defaults as well.

Reported for each correlation: mean absolute difference from the exact inclusion, mean difference (positive: too high),
the largest, and that of the sum over a problem's predictors; predictors above 0.9 whose exact inclusion is below 0.7;
the slope of reported against exact log Bayes factors up to 25; the share of false ones among those that a Bayesian
false discovery rate of 0.1 keeps; and, in bins of reported inclusion, how many predictors are real.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from calibration_problems import (
    FEW,
    INCLUSION,
    LARGE,
    NOISE,
    SLAB,
    all_sets,
    draw_blocks,
    draw_problem,
    make_network,
)
from torch import Tensor

import pyro_ssbnn as ss
from pyro_ssbnn.errors import CollapseWarning
from pyro_ssbnn.exact import linear_evidence
from pyro_ssbnn.files.atomic import write_text
from pyro_ssbnn.parallel import run_jobs

CASES = ("exact", "large", "blocks", "wide", "ss-gl", "ss-ghs")
CORRELATIONS = (0.0, 0.6, 0.95)
FDR = 0.1
FEWEST = 10  # predictors of a bin that is drawn
BINS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0)


def settled(net: ss.MLP, x: Tensor, y: Tensor, seed: int) -> ss.BlockGuide:
    """The guide that a fit of a linear network ends with, from random starting values."""
    torch.manual_seed(seed)
    guide = ss.BlockGuide(net).double()
    ss.settle(net, guide, x, y)
    return guide


def reported(guide: ss.BlockGuide, gates: Tensor, began: float) -> dict:
    """What is reported of a problem."""
    seconds = time.process_time() - began
    summary = ss.inclusion_summary(guide)
    kept = ss.select_fdr(guide.inclusion(), level=FDR).mask("input")
    return {
        "real": gates.tolist(),
        "reported": summary["inclusion"].tolist(),
        "log_bayes_factor": summary["log_bayes_factor"].tolist(),
        "kept": kept.tolist(),
        "seconds": round(seconds, 3),
    }


def answers(sets: Tensor, probability: Tensor, inclusion: float) -> dict[str, list[float]]:
    """Exact inclusions and log Bayes factors, of the posterior of all sets ``[S, p]``."""
    table, mass = sets.bool(), probability.log().unsqueeze(-1)
    never = mass.new_full((), -np.inf)
    odds = [torch.where(rows, mass, never).logsumexp(0) for rows in (table, ~table)]
    factors = odds[0] - odds[1] - np.log(inclusion / (1 - inclusion))
    exact = odds[0].exp() / (odds[0].exp() + odds[1].exp())
    return {"exact": exact.tolist(), "exact_log_bayes_factor": factors.tolist()}


def run_exact(correlation: float, seed: int, by_default: bool) -> dict:
    """Settle one problem, and put its exact answer beside; on request the default fit's, too."""
    x, y, gates = draw_problem(correlation, seed)
    evidence = linear_evidence(x, y, noise_scale=NOISE, inclusion=INCLUSION, slab_scale=SLAB)
    net = make_network(x.shape[1])
    began = time.process_time()
    record = reported(settled(net, x, y, seed), gates, began)
    record |= answers(evidence.structures.table, evidence.probability, INCLUSION)
    if by_default:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CollapseWarning)  # no predictor may be the right answer
            fit = ss.fit(net, x, y, progress=False)
        record["by_default"] = fit.guide.inclusion()["input"].tolist()
    return record


def run_large(correlation: float, seed: int) -> dict:
    """Settle one problem of more predictors than a block of all sets holds; exact answers by all sets."""
    x, y, gates = draw_problem(correlation, seed, LARGE, FEW)
    net = make_network(x.shape[1], FEW)
    began = time.process_time()
    record = reported(settled(net, x, y, seed), gates, began)
    return record | answers(*all_sets(x, y, FEW), FEW)


def run_drawn(case: str, correlation: float, seed: int) -> dict:
    """Settle one problem drawn from its network's prior, without an exact answer."""
    net, x, y, gates = draw_blocks(case, correlation, seed)
    began = time.process_time()
    return reported(settled(net, x, y, seed), gates, began)


def run(case: str, correlation: float, seed: int, by_default: bool) -> dict:
    """One problem of a case."""
    if case == "exact":
        return run_exact(correlation, seed, by_default)
    return run_large(correlation, seed) if case == "large" else run_drawn(case, correlation, seed)


def figures(records: list[dict]) -> dict[str, float]:
    """What is reported of the problems of one correlation; exact answers where there are any."""
    names = ["real", "reported", "log_bayes_factor", "kept"]
    names += ["exact", "exact_log_bayes_factor"] if "exact" in records[0] else []
    each = {key: np.concatenate([r[key] for r in records]) for key in names}
    kept, real = each["kept"].astype(bool), each["real"].astype(bool)
    found = {
        "problems": len(records),
        "predictors": len(kept),
        "kept": int(kept.sum()),
        "false": int((kept & ~real).sum()),
        "seconds": float(np.mean([r["seconds"] for r in records])),
    }
    if "exact" not in each:
        return found
    difference = each["reported"] - each["exact"]
    sums = [sum(r["reported"]) - sum(r["exact"]) for r in records]
    fits = [np.subtract(r["by_default"], r["exact"]) for r in records if "by_default" in r]
    exact, factor = each["exact_log_bayes_factor"], each["log_bayes_factor"]
    judged = np.isfinite(factor) & (exact < 25)
    return found | {
        "error": float(np.abs(difference).mean()),
        "bias": float(difference.mean()),
        "worst": float(np.abs(difference).max()),
        "sum": float(np.abs(sums).max()),
        "confident_wrong": int(((each["reported"] > 0.9) & (each["exact"] < 0.7)).sum()),
        "slope": float(np.polyfit(exact[judged], factor[judged], 1)[0]),
        "by_default": len(fits),
        "worst_by_default": float(np.abs(np.concatenate(fits)).max()) if fits else math.nan,
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


def standardised(row: tuple[float, float, int, int]) -> float:
    """How many standard errors the share of real ones is above the mean reported inclusion."""
    mean, share, _, all_ = row
    return float((share - mean) / max(np.sqrt(mean * (1 - mean) / all_), 1e-9))


def print_report(results: dict[str, dict[str, dict[str, dict]]]) -> None:
    """Print all figures, and the reliability table of each case."""
    for case, correlations in results.items():
        print(case)
        for correlation, problems in correlations.items():
            found = figures(list(problems.values()))
            parts = [f"{k} {v:.3g}" for k, v in found.items()]
            print(f"  correlation {correlation}: {', '.join(parts)}")
        print("  reported  real   (of)   z")
        for row in reliability([r for p in correlations.values() for r in p.values()]):
            mean, share, count, all_ = row
            print(f"  {mean:>8.3f}  {share:.3f}  {count}/{all_}  {standardised(row):+.1f}")


def draw_plot(results: dict[str, dict[str, dict[str, dict]]], folder: Path) -> None:
    """Share of real predictors against reported inclusion, with two standard errors; bins of ten predictors or more."""
    import matplotlib.pyplot as plt

    _, panels = plt.subplots(1, len(results), figsize=(4.4 * len(results), 4.2), squeeze=False)
    for panel, (case, correlations) in zip(panels[0], results.items(), strict=True):
        panel.plot([0, 1], [0, 1], color="0.6", linewidth=1)
        for marker, (correlation, problems) in zip("osD", correlations.items(), strict=True):
            rows = np.array(reliability(list(problems.values())))
            rows = rows[rows[:, 3] >= FEWEST]
            error = 2 * np.sqrt(rows[:, 0] * (1 - rows[:, 0]) / rows[:, 3])
            label = f"correlation {correlation}"
            panel.errorbar(
                rows[:, 0], rows[:, 1], error, fmt=marker, markersize=4, capsize=2, label=label
            )
        panel.set(title=case, xlabel="reported inclusion", ylabel="share that are real")
        panel.set_ylim(-0.03, 1.03)
        panel.legend(frameon=False)
    plt.tight_layout()
    plt.savefig(folder / "calibration.png", dpi=110)


def main() -> None:
    """Run the problems that the file does not hold yet, then print what it holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=200, help="exact ones, each correlation")
    parser.add_argument("--others", type=int, default=40, help="those of the other cases")
    parser.add_argument("--cases", nargs="*", choices=CASES, default=CASES)
    parser.add_argument("--fits", type=int, default=2, help="of the exact ones, by default as well")
    parser.add_argument("--quick", action="store_true", help="four problems of each")
    parser.add_argument("--json", type=Path, help="all figures; problems it holds are kept")
    parser.add_argument("--plots", type=Path, help="folder for calibration.png")
    parser.add_argument("--jobs", type=int, help="problems at a time, each in a process of its own")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    counts = dict.fromkeys(arguments.cases, 4 if arguments.quick else arguments.others)
    if "exact" in counts and not arguments.quick:
        counts["exact"] = arguments.problems
    known = arguments.json is not None and arguments.json.exists()
    results = json.loads(arguments.json.read_text()) if known else {}
    for case, count in counts.items():
        for seed in range(count):
            held = {c: results.setdefault(case, {}).setdefault(str(c), {}) for c in CORRELATIONS}
            jobs = {}
            for place, correlation in enumerate(CORRELATIONS):
                if str(seed) not in held[correlation]:
                    own = len(CORRELATIONS) * seed + place  # no two share their gates
                    jobs[correlation] = (case, correlation, own, seed < arguments.fits)
            named = {f"{case} {c}, seed {seed}": given for c, given in jobs.items()}
            found = run_jobs(run, named, n_jobs=arguments.jobs)
            for correlation, record in zip(jobs, found, strict=True):
                held[correlation][str(seed)] = record
            if arguments.json:
                write_text(arguments.json, json.dumps(rounded(results)) + "\n")
    print_report(results)
    if arguments.plots:
        draw_plot(results, arguments.plots)


def rounded(value: Any) -> Any:
    """Numbers with six digits, which keep the file small."""
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
