"""Do the diagnostics flag broken fits, and leave good ones alone?

    python benchmarks/diagnostics.py --json benchmarks/results/diagnostics.json

Five good fits, of different data, likelihoods and priors, with the default options, and seven broken ones, each made
with one deliberate fault. Every seed brings data of its own; fits are diagnosed with the default settings and two
restarts beside them. A broken fit counts as caught when the check that is meant for its fault warns; a good one is
quiet when no check warns. Rows that the JSON file already holds are not fitted again.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import pyro_ssbnn as ss
from pyro_ssbnn.analysis import diagnose
from pyro_ssbnn.atomic import write_text
from pyro_ssbnn.likelihoods import Likelihood
from pyro_ssbnn.priors import Prior

WIDTH = 16
RESTARTS = 3
FRIEDMAN_NOISE = 1.5


def standardised(y: Tensor) -> Tensor:
    """Mean 0, standard deviation 1."""
    return (y - y.mean()) / y.std()


def linear(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """300 rows, five predictors, three of them with strong linear effects."""
    x = torch.randn(300, 5, generator=generator)
    noise = 0.5 * torch.randn(300, generator=generator)
    return x, standardised(2 * x[:, 0] - 1.5 * x[:, 1] + x[:, 2] + noise)


def sparse(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """400 rows, ten predictors, three of them with a nonlinear or linear effect."""
    x = torch.randn(400, 10, generator=generator)
    noise = 0.3 * torch.randn(400, generator=generator)
    return x, standardised(
        2 * torch.tanh(2 * x[:, 0]) + 1.5 * x[:, 1] + 1.5 * torch.sin(1.5 * x[:, 2]) + noise
    )


def classes(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """300 rows of three overlapping classes."""
    x = torch.randn(300, 4, generator=generator)
    f = torch.stack([2 * x[:, 0], 2 * x[:, 1], -2 * x[:, 0] - x[:, 1]], 1)
    return x, torch.multinomial(f.softmax(1), 1, generator=generator).squeeze(1)


def counts(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """400 counts with a log-linear rate."""
    x = torch.randn(400, 5, generator=generator)
    return x, torch.poisson((0.5 + 0.7 * x[:, 0] - 0.5 * x[:, 1]).exp(), generator=generator)


def friedman(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """400 rows of Friedman's function of four predictors, and two idle ones."""
    x = torch.randn(400, 6, generator=generator)
    u = torch.special.ndtr(x)
    signal = 10 * torch.sin(math.pi * u[:, 0] * u[:, 1]) + 20 * (u[:, 2] - 0.5) ** 2 + 10 * u[:, 3]
    return x, standardised(signal + FRIEDMAN_NOISE * torch.randn(400, generator=generator))


def twins(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """300 rows, two pairs of predictors that are all but equal, and one of each pair in the signal."""
    x = torch.randn(300, 6, generator=generator)
    for copy in (1, 3):
        x[:, copy] = x[:, copy - 1] + 0.01 * torch.randn(300, generator=generator)
    noise = 0.3 * torch.randn(300, generator=generator)
    return x, standardised(x[:, 0] + torch.sin(2 * x[:, 2]) + noise)


@dataclass(frozen=True)
class Case:
    """A kind of fit.

    :param data: makes predictors and targets.
    :param prior: of the hidden nodes.
    :param likelihood: of the targets.
    :param input_inclusion: prior inclusion of predictors; None for no gates.
    :param options: changes to the default options.
    :param epochs: share of the default number of epochs.
    :param stop: share of the epochs after which the run is interrupted.
    :param caught_by: checks of which one must warn; empty for a good fit.
    """

    data: Callable[[torch.Generator], tuple[Tensor, Tensor]]
    prior: Prior
    likelihood: Likelihood
    input_inclusion: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    epochs: float = 1.0
    stop: float = 1.0
    caught_by: tuple[str, ...] = ()


GAUSSIAN = ss.GaussianLikelihood()
CASES = {
    "linear, SS-GHS, input gates": Case(linear, ss.SSGHS(inclusion=0.2), GAUSSIAN, 0.2),
    "sparse nonlinear, SS-GHS, input gates": Case(sparse, ss.SSGHS(inclusion=0.2), GAUSSIAN, 0.2),
    "three classes, SS-IG": Case(classes, ss.SSIG(inclusion=0.2), ss.CategoricalLikelihood(3)),
    "counts, SS-IG": Case(counts, ss.SSIG(inclusion=0.2), ss.PoissonLikelihood()),
    "Friedman, SS-GL": Case(friedman, ss.SSGL(inclusion=0.2), GAUSSIAN),
    "interrupted after a tenth": Case(
        friedman, ss.SSGL(inclusion=0.2), GAUSSIAN, stop=0.1, caught_by=("schedule",)
    ),
    "a tenth of the epochs": Case(
        friedman,
        ss.SSGL(inclusion=0.2),
        GAUSSIAN,
        epochs=0.1,
        caught_by=("convergence", "schedule"),
    ),
    "collapsed": Case(
        friedman,
        ss.SSGL(inclusion=1e-4),
        GAUSSIAN,
        options={"gate_rate": 0.2, "kl_warmup": 0.0},
        caught_by=("signal",),
    ),
    "noise scale 0.05": Case(
        friedman,
        ss.SSGL(inclusion=0.2),
        ss.GaussianLikelihood(scale=0.05),
        caught_by=("calibration",),
    ),
    "noise scale 3": Case(
        friedman,
        ss.SSGL(inclusion=0.2),
        ss.GaussianLikelihood(scale=3.0),
        caught_by=("calibration",),
    ),
    "gate rate 1": Case(
        sparse, ss.SSGHS(inclusion=0.2), GAUSSIAN, 0.2, {"gate_rate": 1.0}, caught_by=("gate rate",)
    ),
    "twin predictors": Case(
        twins, ss.SSGHS(inclusion=0.2), GAUSSIAN, 0.2, caught_by=("predictors",)
    ),
}


class _InterruptedError(Exception):
    """Raised in the callback."""


def made(case: Case, seed: int, steps: float = 1.0) -> tuple[ss.Fit, Tensor, Tensor]:
    """A fit and its data.

    :param steps: share of the default length, of all fits alike.
    """
    x, y = case.data(torch.Generator().manual_seed(1000 + seed))
    model = ss.MLP(
        x.shape[1],
        [WIDTH],
        prior=case.prior,
        likelihood=case.likelihood,
        input_inclusion=case.input_inclusion,
    )
    whole = ss.TrainingOptions().num_epochs(len(x))
    epochs = max(1, round(case.epochs * steps * whole))
    # one compiled step serves all fits of a shape, as long as no node leaves
    speed = {"compile": True, "remove_below": None}
    options = ss.TrainingOptions(epochs=epochs, seed=seed, **{**speed, **case.options})
    kept: list[ss.Fit] = []

    def stop(epoch: int, result: ss.Fit) -> None:
        if case.stop < 1 and epoch >= case.stop * epochs:
            kept.append(result)
            raise _InterruptedError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ss.fit(model, x, y, options, progress=False, callback=stop), x, y
        except _InterruptedError:
            return kept[0], x, y


def judged(name: str, seed: int, steps: float, restarts: int) -> dict[str, Any]:
    """Fit, diagnose, and say what was found."""
    case, start = CASES[name], time.perf_counter()
    result, x, y = made(case, seed, steps)
    fitted = time.perf_counter()
    # an interrupted run is not made again: its restarts would run to the end
    report = diagnose(result, x, y, restarts=1 if case.stop < 1 else restarts)
    warned = [check.name for check in report.warnings]
    return {
        "case": name,
        "seed": seed,
        "broken": bool(case.caught_by),
        "warned": warned,
        "right": bool(set(warned) & set(case.caught_by)) if case.caught_by else not warned,
        "seconds_fit": fitted - start,
        "seconds_diagnose": time.perf_counter() - fitted,
        "report": report.to_dict(),
    }


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--case", action="append", choices=list(CASES), help="default: all")
    parser.add_argument("--quick", action="store_true", help="one seed, two restarts")
    parser.add_argument("--json", type=Path, help="write all figures here; found rows are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds, restarts = (1, 2) if arguments.quick else (arguments.seeds, RESTARTS)
    rows: list[dict[str, Any]] = []
    if arguments.json and arguments.json.exists():
        rows = json.loads(arguments.json.read_text())
    for name in arguments.case or CASES:
        for seed in range(seeds):
            if any((r["case"], r["seed"]) == (name, seed) for r in rows):
                continue
            rows.append(judged(name, seed, 1.0, restarts))
            last = rows[-1]
            print(name, seed, "right" if last["right"] else "WRONG", last["warned"], flush=True)
            if arguments.json:
                write_text(arguments.json, json.dumps(rows, indent=1) + "\n")
    print("\n| fit | seeds | right | checks that warned |\n|---|---|---|---|")
    for name in CASES:
        mine = [r for r in rows if r["case"] == name]
        if mine:
            warned = sorted({w for r in mine for w in r["warned"]})
            told = ", ".join(f"{w} ({sum(w in r['warned'] for r in mine)})" for w in warned)
            print(f"| {name} | {len(mine)} | {sum(r['right'] for r in mine)} | {told or '-'} |")


if __name__ == "__main__":
    main()
