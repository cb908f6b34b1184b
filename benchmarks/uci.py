"""UCI regression over the standard random splits: test RMSE, test log-likelihood and nodes kept, for the three priors.

    python benchmarks/uci.py --data DIR --jobs 2 --json uci.json

DIR holds one folder per data set in the usual layout (data.txt, index_features.txt, index_target.txt,
index_train_<i>.txt, index_test_<i>.txt). One hidden layer of 50 units, SiLU, Gaussian likelihood with inferred noise,
standardised predictors and targets. Figures are those of the whole posterior (100 draws, gates drawn too) and of the
network pruned by the median probability model. Finished fits are kept in the JSON file: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import math
import os
import time
import warnings
from pathlib import Path

DATASETS = ("concrete", "energy", "kin8nm", "power-plant", "yacht")
PRIORS = ("ss-ig", "ss-gl", "ss-ghs")
# Test RMSE and log-likelihood of Monte-Carlo dropout with 50 hidden units, as its authors have run it again.
PUBLISHED = {
    "concrete": (4.83, -2.94),
    "energy": (0.539, -1.21),
    "kin8nm": (0.0789, 1.136),
    "power-plant": (4.01, -2.81),
    "yacht": (0.666, -1.25),
}


def training_options(seed: int, free: bool) -> dict:
    """The package's defaults; without removals, so that all splits of a data set share one compiled step."""
    gates = {"gate_hold": (0.0, 0.0)} if free else {}
    return {"compile": True, "remove_below": None, "seed": seed, **gates}


def parts(folder: str, split: int, validate: bool) -> tuple:
    """Training and test rows of a split, or nine tenths of the training rows and the tenth that is left."""
    from dataclasses import replace

    import torch

    from pyro_ssbnn.data import read_uci_split

    train, test = read_uci_split(Path(folder), split)
    if not validate:
        return train, test
    order = torch.randperm(len(train.x), generator=torch.Generator().manual_seed(1000 + split))
    held = len(order) // 10
    return tuple(
        replace(train, x=train.x[rows], y=train.y[rows]) for rows in (order[held:], order[:held])
    )


def run_one(
    folder: str, prior: str, split: int, inclusion: float, draws: int, validate: bool, free: bool
) -> dict:
    """Fit one split; figures are on the target's own scale."""
    import torch

    import pyro_ssbnn as ss
    from pyro_ssbnn.analysis import log_predictive_density, rmse
    from pyro_ssbnn.data import Preprocessing

    torch.set_num_threads(1)
    start = time.perf_counter()
    train, test = parts(folder, split, validate)
    prepared = Preprocessing.fit(train)
    train, test = (prepared.apply(part) for part in (train, test))
    x, y, x_test, y_test = (v.float() for v in (train.x, train.y, test.x, test.y))
    scale = prepared.target.scale
    priors = {"ss-ig": ss.SSIG, "ss-gl": ss.SSGL, "ss-ghs": ss.SSGHS}
    model = ss.MLP(
        x.shape[1],
        [50],
        prior=priors[prior](inclusion=inclusion),
        likelihood=ss.GaussianLikelihood(),
    )
    options = ss.TrainingOptions(**training_options(split, free))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = ss.fit(model, x, y, options, progress=False)
    posterior = ss.draw_posterior(model, fitted.guide, draws, x=x_test, y=y_test)
    kept = int((fitted.guide.inclusion()["hidden1"] > 0.5).sum())
    pruned_rmse = math.nan
    if kept:
        with torch.no_grad():
            f = ss.prune(model, fitted.guide, num_draws=draws).network(x_test)
        pruned_rmse = scale * float(rmse(f.squeeze(-1).mean(0), y_test))
    return {
        "rmse": scale * float(rmse(posterior.mean.mean(0), y_test)),
        "log_likelihood": float(log_predictive_density(posterior.log_likelihood)) - math.log(scale),
        "pruned_rmse": pruned_rmse,
        "nodes": kept,
        "elbo": float(fitted.history.elbo[-1]),
        "bound": fitted.history.bounds[-1][1:],
        "seconds": time.perf_counter() - start,
    }


def table(results: dict, datasets: list[str], priors: list[str]) -> str:
    """Markdown table of means and standard errors over the splits."""
    rows = [
        "| data set | prior | splits | RMSE | log-likelihood | RMSE, pruned | nodes kept | dropout |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in datasets:
        for prior in priors:
            fits = [r for key, r in results.items() if key.startswith(f"{name}/{prior}/")]
            if not fits:
                continue
            cells = [_mean(fits, k) for k in ("rmse", "log_likelihood", "pruned_rmse")]
            nodes = sum(r["nodes"] for r in fits) / len(fits)
            published = " / ".join(f"{v:.4g}" for v in PUBLISHED.get(name, ()))
            rows.append(
                f"| {name} | {prior} | {len(fits)} | {cells[0]} | {cells[1]} | {cells[2]} | {nodes:.1f} | {published} |"
            )
    return "\n".join(rows)


def _mean(fits: list[dict], key: str) -> str:
    values = [r[key] for r in fits]
    mean = sum(values) / len(values)
    spread = (sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1)) ** 0.5
    digits = 4 if abs(mean) < 0.2 else 2
    return f"{mean:.{digits}f} ± {spread / len(values) ** 0.5:.{digits}f}"


def main() -> None:
    """Run the missing fits and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets' folders")
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS), choices=DATASETS)
    parser.add_argument("--priors", nargs="+", default=list(PRIORS), choices=PRIORS)
    parser.add_argument("--splits", type=int, default=20, help="the first so many splits")
    parser.add_argument("--inclusion", type=float, default=0.5, help="prior inclusion probability")
    parser.add_argument("--draws", type=int, default=100, help="posterior draws at test")
    parser.add_argument(
        "--validate",
        action="store_true",
        help="fit nine tenths of the training rows and score the tenth left: to choose settings",
    )
    parser.add_argument("--free", action="store_true", help="gates free from the start")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="processes, one thread each"
    )
    parser.add_argument("--json", type=Path, help="keep all figures here, and go on from them")
    arguments = parser.parse_args()
    work = {
        f"{name}/{prior}/{split}": (str(arguments.data / name), prior, split)
        for name in arguments.datasets
        for prior in arguments.priors
        for split in range(arguments.splits)
    }
    from resume import run_missing

    chosen = (arguments.inclusion, arguments.draws, arguments.validate, arguments.free)

    def run(key: str) -> dict:
        return run_one(*work[key], *chosen)

    results = run_missing(work, run, arguments.json, jobs=arguments.jobs)
    print(table(results, arguments.datasets, arguments.priors))


if __name__ == "__main__":
    main()
