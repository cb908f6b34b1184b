"""One fit beside the mixture of four of its like, weighed by stacking, by bounds, equally.

    python benchmarks/several.py --json benchmarks/results/several.json       (13 CPU minutes)
    python benchmarks/several.py --problems xor --seeds 0
    python benchmarks/several.py --restarts 10 --seeds 0 --json FILE          (and how far bounds of ten fits lie apart)

Networks and options are those of benchmarks/tables.py: [32], SS-GHS, predictors' prior inclusion 1/p, all defaults. The
single fit is the first of the four; beside it is the mean of the four as single fits, which is less a matter of luck,
and with --long one fit of four times the steps. Each data set has a process of its own, on one thread. Finished ones
are kept in the JSON file: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from tables_peers import Data
from tables_problems import Table

import pyro_ssbnn as ss

PROBLEMS = ("sines", "xor", "friedman-50-200", "counts")
FITS = 4
"""Fits of a mixture."""
RULES = ("stacking", "bounds", "equal")


def run(key: str, restarts: int = FITS) -> dict:
    """Fits to one data set in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--one", key, "--restarts", str(restarts)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{key}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def one(key: str, restarts: int = FITS) -> dict:
    """Error, log density, predictors and CPU seconds of the single fit and of each mixture."""
    problem, seed, *long = key.split("/")
    import torch
    from tables_peers import network_and_data
    from tables_problems import draw

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    table = draw(problem, int(seed))
    net, train, test, (_, scale) = network_and_data(table)
    if long:
        from pyro_ssbnn.inference.holding import settled_options

        usual = settled_options(ss.TrainingOptions(seed=int(seed)), net.description, len(train.x))
        start = time.process_time()
        options = replace(usual, epochs=FITS * usual.num_epochs(len(train.x)))
        fitted = ss.fit(net, *train, options, progress=False)
        seconds = time.process_time() - start
        return {**_scores(fitted, table, test, scale), "cpu": seconds, "weights": [1.0]}
    fits, seconds = [], []
    for fit_seed in range(int(seed), int(seed) + restarts):
        start = time.process_time()
        fits.append(ss.fit(net, *train, ss.TrainingOptions(seed=fit_seed), progress=False))
        seconds.append(time.process_time() - start)
    each = [_scores(fitted, table, test, scale) for fitted in fits]
    bounds = [ss.evaluate_bound(fitted.model, fitted.guide, *train) for fitted in fits]
    record: dict = {
        "seconds": seconds[:FITS],
        "members": each[:FITS],
        "restarts": [(bound.elbo, bound.error) for bound in bounds],
    }
    record["single"] = {**each[0], "cpu": seconds[0], "weights": [1.0], "scores": []}
    for rule in RULES:
        start = time.process_time()
        mixture = ss.combine_fits(fits[:FITS], *train, weights=rule)
        weighing = time.process_time() - start
        record[rule] = {
            **_scores(mixture, table, test, scale),
            "cpu": sum(seconds[:FITS]) + weighing,
            "weights": mixture.weights,
            "scores": mixture.scores,
        }
    return record


def _scores(answer: ss.Fit | ss.Mixture, table: Table, test: Data, scale: float) -> dict:
    """Error and log density of test rows, predictors found and false ones, of a fit or a mixture."""
    found = ss.predict(answer.model, answer.guide, *test, num_draws=400)
    mean, y = found.mean.numpy(), test.y.numpy()
    binary = table.kind == "binary"
    error = (y != (mean > 0.5)).mean() if binary else scale * np.sqrt(np.mean((mean - y) ** 2))
    inclusion = answer.guide.inclusion()["input"].numpy()
    selected = set(np.flatnonzero(inclusion > 0.5).tolist())
    return {
        "error": float(error),
        "log_density": float(found.log_density.mean() - np.log(scale)),
        "found": len(selected & table.real),
        "false": len(selected - table.real),
    }


def report(results: dict[str, dict]) -> str:
    """One row a data set and answer."""
    lines = [
        "| problem, data set | answer | error | log density | found | false | CPU s | weights |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key, record in results.items():
        if "members" not in record:
            continue
        each = record["members"]
        mean = {name: np.mean([of[name] for of in each]) for name in each[0]}
        rows = {
            "single": record["single"],
            "mean of singles": {**mean, "cpu": np.mean(record["seconds"]), "weights": []},
            "single, four times the steps": results.get(f"{key}/long"),
            **{rule: record[rule] for rule in RULES},
        }
        for name, r in rows.items():
            if r is None:
                continue
            weights = ", ".join(f"{w:.2f}" for w in r["weights"])
            lines.append(
                f"| {key.replace('/', ', ')} | {name} | {r['error']:.3f} | {r['log_density']:.3f} |"
                f" {r['found']:.3g} | {r['false']:.3g} | {r['cpu']:.0f} | {weights} |"
            )
    return "\n".join(lines)


def report_bounds(results: dict[str, dict]) -> str:
    """How far the first fit's bound, and their median, lie below the best, a row a data set."""
    lines = [
        "| problem, data set | fits | best bound | first below it | median below it | standard error |",
        "|---|---|---|---|---|---|",
    ]
    for key, record in results.items():
        if "restarts" not in record:
            continue
        bounds, errors = np.array(record["restarts"]).T
        best = bounds.max()
        lines.append(
            f"| {key.replace('/', ', ')} | {len(bounds)} | {best:.1f} | {best - bounds[0]:.1f} |"
            f" {best - np.median(bounds):.1f} | {np.median(errors):.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what is asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--json", type=Path, help="file of finished data sets")
    parser.add_argument("--long", action="store_true", help="also a fit of four times the steps")
    parser.add_argument(
        "--restarts", type=int, default=FITS, help="fits whose bounds are compared, at least four"
    )
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, options.restarts)))
        return
    from resume import run_missing

    keys = [f"{problem}/{seed}" for problem in options.problems for seed in options.seeds]
    if options.long:
        keys += [f"{key}/long" for key in keys]
    results = run_missing(keys, partial(run, restarts=options.restarts), options.json)
    chosen = {key: results[key] for key in keys}
    print(report(chosen), report_bounds(chosen), sep="\n\n")


if __name__ == "__main__":
    main()
