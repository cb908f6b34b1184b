r"""Predictor selection at p >> n: spike-and-slab networks, the lasso and random forests on the same simulated data.

    python benchmarks/selection.py --json benchmarks/results/selection.json --plots docs

2,000 predictors, of which five matter; e_j, c and noise are standard normal, so that any two predictors correlate at
1/2:

.. math:: x_j = (e_j + c)/\sqrt2,\qquad y = \frac{5 x_2}{1 + x_1^2} + 5\sin(x_3 x_4) + 2 x_5 + \mathrm{noise}

The sine is even in x, hence uncorrelated with every predictor: no linear method can see x3 and x4. Over data sets i
with selected S_i and the true S,

.. math:: FSR = \frac{\sum_i |S_i \setminus S|}{\sum_i |S_i|},\qquad NSR = \frac{\sum_i |S \setminus S_i|}{\sum_i |S|}

A network starts from its deterministic counterpart, fitted under a group lasso on each predictor's outgoing weights
(``fit_deterministic(..., predictor_penalty=...)``), and its gates follow the gradient from the first step; which
predictors stay is then the posterior's affair. "defaults" is the same network under SS-IG as ``fit`` trains it by
itself: predictors screened, gates held, then moved by the evidence. Nothing is
chosen by the truth: several starts compete by their ELBO, and options were tuned on data sets of other seeds (1,000 and
above) than those reported (0 to 9). Finished fits are kept in the JSON file: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from resume import run_missing
from selection_data import REAL, Data, data_set, rmse, rule_record
from selection_rivals import fit_forest, fit_lasso
from torch import Tensor

import pyro_ssbnn as ss
from pyro_ssbnn.errors import CollapseWarning

PRIORS = {"ss-ig": ss.SSIG, "ss-gl": ss.SSGL, "ss-ghs": ss.SSGHS}
METHODS = (*PRIORS, "defaults", "lasso", "forest")
LEVEL = 0.1
"""Of the Bayesian false discovery rate."""


class Settings(NamedTuple):
    """How networks are fitted to data sets of one size.

    :param hidden: widths of the hidden layers.
    :param penalties: group-lasso factors of the deterministic starts, one fit each; the highest ELBO wins.
    :param start: :class:`~pyro_ssbnn.TrainingOptions` of the deterministic network.
    :param options: those of the variational fit.
    :param trees: of a random forest.
    """

    hidden: list[int]
    penalties: tuple[float, ...]
    start: dict
    options: dict
    trees: int


SETTINGS = {
    10_000: Settings(
        hidden=[32, 16],
        penalties=(0.04,),
        start={"epochs": 20, "mean_rate": 0.045},
        options={
            "epochs": 256,
            "gate_hold": (0.0, 0.0),
            "gate_rate": 0.03,
            "kl_warmup": 0.12,
            "scale_rate": 0.03,
        },
        trees=30,
    ),
    500: Settings(
        hidden=[8],
        penalties=(0.08,),
        start={"epochs": 200, "batch_size": 125, "mean_rate": 0.045},
        options={
            "epochs": 800,
            "batch_size": 125,
            "num_particles": 1,
            "gate_hold": (0.0, 0.0),
            "gate_rate": 0.015,
            "kl_warmup": 0.2,
            "remove_after": 10,
        },
        trees=100,
    ),
}


def fit_network(data: Data, prior: str, settings: Settings) -> dict:
    """What the median probability model and the Bayesian false discovery rate keep, and the whole posterior's error.

    :param prior: a key of PRIORS, or "defaults".
    """
    location, scale = data.y.mean(), data.y.std()
    target = (data.y - location) / scale
    if prior == "defaults":
        model = _network(data.x.shape[1], "ss-ig", settings)
        fits = [ss.fit(model, data.x, target, progress=False)]
    else:
        fits = [
            _fit_from(penalty, seed, data.x, target, prior, settings)
            for seed, penalty in enumerate(settings.penalties)
        ]
    bounds = [float(fit.history.elbo[-10:].mean()) for fit in fits]
    best = fits[int(np.argmax(bounds))]
    inclusion = best.guide.inclusion()
    predictors = {"input": inclusion.pop("input").cpu()}
    within = ss.select_fdr(predictors, level=LEVEL)
    prediction = ss.predict(best.model, best.guide, data.x_test, num_draws=100)
    error = rmse(prediction.mean * scale + location, data.y_test)
    return {
        "rules": {
            "inclusion above 1/2": rule_record(ss.select(predictors).kept["input"], error),
            f"Bayesian FDR {LEVEL:.0%}": rule_record(within.kept["input"], error),
        },
        "expected_false": ss.expected_false_selections(predictors, within)["input"],
        "elbo": bounds,
        "nodes": {name: int((p > 0.5).sum()) for name, p in inclusion.items()},
    }


def _network(p: int, prior: str, settings: Settings) -> ss.MLP:
    return ss.MLP(
        p,
        settings.hidden,
        prior=PRIORS[prior](inclusion=0.5),
        likelihood=ss.GaussianLikelihood(),
        input_inclusion=1 / p,
    )


def _fit_from(
    penalty: float, seed: int, x: Tensor, y: Tensor, prior: str, settings: Settings
) -> ss.Fit:
    model = _network(x.shape[1], prior, settings)
    start = ss.TrainingOptions(seed=seed, **settings.start)
    weights = ss.fit_deterministic(
        model, x, y, start, weight_decay=0.0, predictor_penalty=penalty, progress=False
    )
    guide = ss.StructuredGuide(model)
    guide.start_from(weights)
    options = ss.TrainingOptions(seed=seed, **settings.options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        return ss.fit(model, x, y, options, guide=guide, progress=False)


def run_one(n: int, seed: int, method: str, predictors: int = 2_000) -> dict:
    """One method on one data set."""
    data, settings = data_set(n, seed, predictors), SETTINGS[n]
    start = time.perf_counter()
    if method == "lasso":
        record = fit_lasso(data)
    elif method == "forest":
        record = fit_forest(data, settings.trees)
    else:
        record = fit_network(data, method, settings)
    return {
        "n": n,
        "seed": seed,
        "method": method,
        **record,
        "seconds": time.perf_counter() - start,
    }


class Score(NamedTuple):
    """How a rule did over several data sets.

    :param data_sets: their number.
    :param exact: of these, those without a false and without a missed predictor.
    :param false_rate: FSR; 0 where nothing was selected.
    :param missed_rate: NSR.
    :param rmse: mean test error.
    :param rmse_error: its standard error over the data sets, NaN for one.
    :param seconds: mean time of a data set.
    """

    data_sets: int
    exact: int
    false_rate: float
    missed_rate: float
    rmse: float
    rmse_error: float
    seconds: float


def score(records: Iterable[Mapping], rule: str) -> Score:
    """Score one rule of one method at one n."""
    records = list(records)
    sets = [set(r["rules"][rule]["selected"]) for r in records]
    errors = np.array([r["rules"][rule]["rmse"] for r in records])
    selected = sum(len(s) for s in sets)
    spread = errors.std(ddof=1) / len(errors) ** 0.5 if len(errors) > 1 else float("nan")
    return Score(
        data_sets=len(sets),
        exact=sum(s == REAL for s in sets),
        false_rate=sum(len(s - REAL) for s in sets) / selected if selected else 0.0,
        missed_rate=sum(len(REAL - s) for s in sets) / (len(REAL) * len(sets)),
        rmse=float(errors.mean()),
        rmse_error=float(spread),
        seconds=float(np.mean([r["seconds"] for r in records])),
    )


def table(results: Mapping[str, Mapping]) -> str:
    """Markdown table, a row for each n, method and rule."""
    rows = [
        "| n | method | rule | data sets | exact | FSR | NSR | test RMSE | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for n in sorted({r["n"] for r in results.values()}, reverse=True):
        for method in METHODS:
            records = [r for r in results.values() if (r["n"], r["method"]) == (n, method)]
            for rule in records[0]["rules"] if records else ():
                s = score(records, rule)
                rows.append(
                    f"| {n:,} | {method} | {rule} | {s.data_sets} | {s.exact} | {s.false_rate:.1%} |"
                    f" {s.missed_rate:.1%} | {s.rmse:.2f} ± {s.rmse_error:.2f} | {s.seconds:.0f} |"
                )
    return "\n".join(rows)


def main() -> None:
    """Run the missing fits, print the table, draw the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--quick", action="store_true", help="one small data set: a minute")
    parser.add_argument("--json", type=Path, help="keep all figures here, and go on from them")
    parser.add_argument("--plots", type=Path, help="folder for selection.png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    predictors, rows, seeds = 2_000, arguments.rows, arguments.seeds
    if arguments.quick:
        predictors, rows, seeds = 50, [500], [0]
    fits = itertools.product(rows, arguments.methods, seeds)
    wanted = {f"{n}/{method}/{seed}": (n, seed, method) for n, method, seed in fits}
    results = run_missing(
        wanted, lambda key: run_one(*wanted[key], predictors), arguments.json, shown="rules"
    )
    print(table(results))
    if arguments.plots:
        from selection_plots import draw_selection

        arguments.plots.mkdir(parents=True, exist_ok=True)
        draw_selection(results).savefig(arguments.plots / "selection.png", dpi=120)


if __name__ == "__main__":
    main()
