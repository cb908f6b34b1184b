"""Reported inclusion against the truth, in networks with a hidden layer, on problems drawn from their own prior.

    python benchmarks/calibration_networks.py --json benchmarks/results/calibration_networks.json
    python benchmarks/calibration_networks.py --quick                    # two problems of each, three minutes
    python benchmarks/calibration_networks.py --wide --problems 6 --json FILE

Simulation-based calibration of default fits: gates, weights, scales and noise of 6-[5] networks are drawn from their
prior, targets from these, at 150 rows of predictors that correlate at 0, 0.6 or 0.95, and the same model is fitted at
the package's defaults. No exact answer is needed: of the predictors reported at q a share of q is real where inclusion
is calibrated, whatever the network. A predictor is in with probability 0.4, a node with 0.5; the noise variance is
InverseGamma(3, 0.5). With ``--wide`` there are 50 predictors, in with probability 0.1, and 300 rows.

Inclusion is reported twice: by the guide, a predictor or node that was removed in training by its last inclusion, as
the summary shows it; and by the joint law of the predictors around the fit (``predictor_law``). For each prior and
correlation: active nodes, mean reported and true; the share of false predictors among those that a Bayesian false
discovery rate of 0.1 keeps; and, in bins of reported inclusion, how many predictors are real. Fits that leave no node
open are counted apart: no predictor acts in them, and the joint law has the prior inclusion of each.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from calibration import reliability, rounded, standardised
from pyro import poutine

import pyro_ssbnn as ss
from pyro_ssbnn.files.atomic import write_text
from pyro_ssbnn.isolation import isolated
from pyro_ssbnn.parallel import run_jobs

PRIORS = {"ss-ig": ss.SSIG, "ss-gl": ss.SSGL, "ss-ghs": ss.SSGHS}
CORRELATIONS = (0.0, 0.6, 0.95)
NODES = 5
SMALL, WIDE = (6, 0.4, 150), (50, 0.1, 300)  # predictors, their prior inclusion, rows
FDR = 0.1
LAWS = (("the guide", "kept", "reported"), ("joint law", "kept_joint", "joint"))


def make_network(prior: str, predictors: int, inclusion: float) -> ss.MLP:
    """The network whose prior the problems are drawn from, and that is fitted."""
    return ss.MLP(
        predictors,
        [NODES],
        prior=PRIORS[prior](inclusion=0.5),
        likelihood=ss.GaussianLikelihood(concentration=3.0, rate=0.5),
        input_inclusion=inclusion,
    )


def run(prior: str, correlation: float, size: tuple[int, float, int], seed: int) -> dict:
    """One problem: the gates it was drawn with, and what a default fit reports of them."""
    predictors, inclusion, rows = size
    net = make_network(prior, predictors, inclusion)
    with isolated(seed, torch.zeros(())):
        common, own = torch.randn(rows, 1), torch.randn(rows, predictors)
        x = correlation**0.5 * common + (1 - correlation) ** 0.5 * own
        trace = poutine.trace(net).get_trace(x)
        truth = {name: trace.nodes[f"{name}.gate"]["value"] for name in ("input", "hidden1")}
        y = trace.nodes["obs"]["value"]
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = ss.fit(net, x, y, ss.TrainingOptions(seed=seed), progress=False)
    fitted = time.process_time()
    joint = ss.predictor_law(fit, x, y).inclusion()
    weighed = time.process_time() - fitted
    reported = fit.guide.inclusion()
    summary = ss.inclusion_summary(fit.guide, history=fit.history)
    last = summary["inclusion"]
    if "removed_inclusion" in summary:
        last = last.where(last > 0, summary["removed_inclusion"])
    last = {name: rows.to_numpy() for name, rows in last.groupby(summary["group"])}
    return {
        "real": truth["input"].tolist(),
        "reported": last["input"].tolist(),
        "kept": ss.select_fdr(reported, level=FDR).mask("input").tolist(),
        "joint": joint["input"].tolist(),
        "kept_joint": ss.select_fdr(joint, level=FDR).mask("input").tolist(),
        "nodes": float(truth["hidden1"].sum()),
        "nodes_reported": float(reported["hidden1"].sum()),
        "nodes_last": float(last["hidden1"].sum()),
        "seconds": round(fitted - began, 1),
        "seconds_joint": round(weighed, 2),
    }


def report(results: dict[str, dict[str, dict]]) -> None:
    """Print all figures, and the reliability tables of each prior."""
    for prior in PRIORS:
        cases = {k: list(v.values()) for k, v in results.items() if k.startswith(f"{prior} ")}
        for case, records in cases.items():
            acting = [r for r in records if not _is_collapsed(r)]
            names = ("nodes", "nodes_reported", "nodes_last", "seconds", "seconds_joint")
            means = [np.mean([r[k] for r in records]) for k in names]
            print(
                f"{case}: {len(records)} problems, {means[3]:.0f} and {means[4]:.2f} CPU s each; active nodes"
                f" {means[0]:.2f}, reported {means[1]:.2f}, with last ones {means[2]:.2f}"
            )
            for name, kept, reported in LAWS:
                mask, real, q = (
                    np.concatenate([r[k] for r in acting]) for k in (kept, "real", reported)
                )
                false, brier = int(mask[real == 0].sum()), np.mean((q - real) ** 2)
                print(f"  {name}: kept {int(mask.sum())}, false {false}; Brier score {brier:.3f}")
        every = [r for records in cases.values() for r in records]
        together = [r for r in every if not _is_collapsed(r)]
        apart = np.concatenate([[], *(r["real"] for r in every if _is_collapsed(r))])
        print(
            f"  {len(every) - len(together)} of {len(every)} fits without an open node: {int(apart.sum())} of"
            f" {len(apart)} predictors are real"
        )
        for name, _, reported in LAWS:
            print(f"  {name}: reported  real   (of)   z")
            for row in reliability([{**r, "reported": r[reported]} for r in together]):
                mean, share, count, all_ = row
                print(f"  {mean:>8.3f}  {share:.3f}  {count}/{all_}  {standardised(row):+.1f}")


def _is_collapsed(record: dict) -> bool:
    """Whether the fit left no node open."""
    prior = SMALL[1] if len(record["joint"]) == SMALL[0] else WIDE[1]
    return bool(np.allclose(record["joint"], prior))


def main() -> None:
    """Run the problems that the file does not hold yet, then print what it holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=30, help="of each prior and correlation")
    parser.add_argument("--quick", action="store_true", help="two of each")
    parser.add_argument("--wide", action="store_true", help="50 predictors, 300 rows")
    parser.add_argument("--json", type=Path, help="all figures; problems it holds are kept")
    parser.add_argument("--jobs", type=int, help="problems at a time, each in a process of its own")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    held = arguments.json is not None and arguments.json.exists()
    results = json.loads(arguments.json.read_text()) if held else {}
    size = WIDE if arguments.wide else SMALL
    cases = [(f"{prior} {c:g}", prior, c, size) for prior in PRIORS for c in CORRELATIONS]
    for seed in range(2 if arguments.quick else arguments.problems):
        missing = [case for case in cases if str(seed) not in results.setdefault(case[0], {})]
        jobs = {f"{name}, seed {seed}": (*given, seed) for name, *given in missing}
        found = run_jobs(run, jobs, n_jobs=arguments.jobs)
        for (name, *_), record in zip(missing, found, strict=True):
            results[name][str(seed)] = record
        if arguments.json:
            write_text(arguments.json, json.dumps(rounded(results)) + "\n")
    report(results)


if __name__ == "__main__":
    main()
