"""Small tables, beside what people would use instead: error, log density, predictors found, CPU seconds.

    python benchmarks/tables.py --json benchmarks/results/tables.json        (five data sets of each problem; hours)
    python benchmarks/tables.py --quick                                      (one of each of three)
    python benchmarks/tables.py --problems xor sines --methods ours bart --seeds 0 1

    python benchmarks/tables.py --problems diabetes breast-cancer concrete --data data/uci     (real ones)

Every method runs at its defaults, on one thread, in a process of its own; the first of ours fills torch's compiler
cache unless it is filled. ``ours`` is one hidden layer of 32 nodes, without linear terms; ``estimator`` the package's
scikit-learn estimators, with both. BART is bartz (``pip install bartz==0.13.0``), LassoNet lassonet 0.0.21; what is
not installed is left out, and said so. Finished fits are kept in the JSON file: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np

METHODS = ("ours", "estimator", "bart", "boosting", "forest", "lasso", "gp", "ensemble", "lassonet")
OPTIONAL = {"bart": "bartz", "lassonet": "lassonet"}
"""Methods that need a package of their own."""
QUICK = ("friedman-50-200", "product", "xor")


def run(key: str, data: Path | None) -> dict:
    """One fit in a process of its own, so that its CPU seconds are all that it uses."""
    environment = {
        **os.environ,
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    }
    command = [sys.executable, __file__, "--one", key, *(["--data", str(data)] if data else [])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{key}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def one(key: str, data: Path | None) -> dict:
    """The record of one fit: imports are not counted, compilation is."""
    problem, seed, method = key.split("/")
    import tables_networks
    import tables_peers
    import tables_problems
    import tables_real
    import torch

    methods = {
        "ours": tables_peers.ours,
        "estimator": tables_peers.estimator,
        "bart": tables_peers.bart,
        "boosting": tables_peers.boosting,
        "forest": tables_peers.forest,
        "lasso": tables_peers.lasso,
        "gp": tables_peers.gaussian_process,
        "ensemble": tables_networks.ensemble,
        "lassonet": tables_networks.lassonet,
    }
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if problem in tables_problems.PROBLEMS:
        table = tables_problems.draw(problem, int(seed))
    else:
        table = tables_real.draw(problem, int(seed), data)
    start = time.process_time()
    answer = methods[method](table, int(seed))
    record = {"cpu": time.process_time() - start}
    wrong = table.y_test != (answer.mean > 0.5)
    error = wrong.mean() if table.kind == "binary" else _rms(answer.mean - table.y_test)
    record["error"] = float(error)
    if answer.log_density is not None:
        record["log_density"] = float(answer.log_density.mean())
    if answer.interval is not None:
        low, high = answer.interval
        record["coverage"] = float(np.mean((low <= table.y_test) & (table.y_test <= high)))
    if answer.selected is not None and table.real is not None:
        record["found"] = len(answer.selected & table.real)
        record["false"] = len(answer.selected - table.real)
    return record


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def report(results: dict[str, dict]) -> str:
    """Means over the data sets that all methods have, a table each of error, log density, selection and CPU seconds."""
    runs = [key.split("/") for key in results]
    problems, methods = (list(dict.fromkeys(part)) for part in list(zip(*runs, strict=True))[::2])
    seeds = {
        p: [
            s
            for s in sorted({s for q, s, _ in runs if q == p})
            if _complete(results, p, s, methods)
        ]
        for p in problems
    }

    def mean(problem: str, method: str, name: str, digits: int) -> str:
        records = [results[f"{problem}/{seed}/{method}"] for seed in seeds[problem]]
        known = records and name in records[0]
        return f"{np.mean([r[name] for r in records]):.{digits}f}" if known else ""

    def selection(problem: str, method: str) -> str:
        counts = [mean(problem, method, name, 1) for name in ("found", "false")]
        return " / ".join(counts) if all(counts) else ""

    cells = {
        "error": lambda p, m: mean(p, m, "error", 3),
        "log density": lambda p, m: mean(p, m, "log_density", 3),
        "predictors found / false": selection,
        "share of targets inside 90 % intervals": lambda p, m: mean(p, m, "coverage", 3),
        "CPU seconds": lambda p, m: mean(p, m, "cpu", 1),
    }
    lines = []
    for title, cell in cells.items():
        if not any(cell(problem, method) for problem in problems for method in methods):
            continue
        lines += [f"| {title} | data sets | {' | '.join(methods)} |"]
        lines += ["|---" * (len(methods) + 2) + "|"]
        for problem in problems:
            row = [problem, str(len(seeds[problem])), *(cell(problem, m) for m in methods)]
            lines.append(f"| {' | '.join(row)} |")
        lines.append("")
    return "\n".join(lines)


def _complete(results: dict[str, dict], problem: str, seed: str, methods: list[str]) -> bool:
    return all(f"{problem}/{seed}/{method}" in results for method in methods)


def main() -> None:
    """Run what is asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument(
        "--quick", action="store_true", help="one data set of each of three problems"
    )
    parser.add_argument("--problems", nargs="+", help="by default all simulated ones")
    parser.add_argument("--data", type=Path, help="folder of the UCI sets' folders")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--json", type=Path, help="file of finished fits")
    parser.add_argument(
        "--jobs", type=int, help="fits at a time; CPU seconds are then those of busier cores"
    )
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, options.data)))
        return
    from resume import run_missing
    from tables_problems import PROBLEMS

    problems = options.problems or (QUICK if options.quick else PROBLEMS)
    seeds = [0] if options.quick else options.seeds
    methods = list(options.methods)
    for method in [m for m in methods if m in OPTIONAL]:
        if importlib.util.find_spec(OPTIONAL[method]) is None:
            print(f"{OPTIONAL[method]} is not installed: no {method}")
            methods.remove(method)
    keys = [f"{p}/{s}/{m}" for p in problems for s in seeds for m in methods]
    results = run_missing(keys, partial(run, data=options.data), options.json, jobs=options.jobs)
    print(report({key: results[key] for key in keys}))


if __name__ == "__main__":
    main()
