"""Do the diagnostics flag broken fits, and leave good ones alone?

    python benchmarks/diagnostics.py --json benchmarks/results/diagnostics.json

Five good fits, of different data, likelihoods and priors, with the default options, and seven broken ones, each made
with one deliberate fault. Every seed brings data of its own; fits are diagnosed with the default settings and two
restarts beside them. A broken fit counts as caught when the check that is meant for its fault warns; a good one is
quiet when no check warns. How good a fit is in truth is measured apart, by the excess: what predicting 2,000 fresh rows
costs beyond the distribution they came from. Rows that the JSON file already holds are not fitted again.
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
from torch.distributions import Categorical, Distribution, Normal, Poisson

import pyro_ssbnn as ss
from pyro_ssbnn.analysis import diagnose
from pyro_ssbnn.files.atomic import write_text
from pyro_ssbnn.likelihoods import Likelihood
from pyro_ssbnn.priors import Prior

WIDTH = 16
RESTARTS = 3
FRESH = 2000


def linear(x: Tensor) -> Distribution:
    """Three of five predictors have strong linear effects."""
    return Normal(2 * x[:, 0] - 1.5 * x[:, 1] + x[:, 2], 0.5)


def faint(x: Tensor) -> Distribution:
    """The same effects in eight times the noise: three tenths of the variance are signal."""
    return Normal(linear(x).mean, 4.0)


def sparse(x: Tensor) -> Distribution:
    """Three of ten predictors have an effect, two of them a nonlinear one."""
    f = 2 * torch.tanh(2 * x[:, 0]) + 1.5 * x[:, 1] + 1.5 * torch.sin(1.5 * x[:, 2])
    return Normal(f, 0.3)


def classes(x: Tensor) -> Distribution:
    """Three overlapping classes."""
    return Categorical(logits=torch.stack([2 * x[:, 0], 2 * x[:, 1], -2 * x[:, 0] - x[:, 1]], 1))


def counts(x: Tensor) -> Distribution:
    """Counts with a log-linear rate."""
    return Poisson((0.5 + 0.7 * x[:, 0] - 0.5 * x[:, 1]).exp())


def friedman(x: Tensor) -> Distribution:
    """Friedman's function of four predictors, and two idle ones."""
    u = torch.special.ndtr(x)
    f = 10 * torch.sin(math.pi * u[:, 0] * u[:, 1]) + 20 * (u[:, 2] - 0.5) ** 2 + 10 * u[:, 3]
    return Normal(f, 1.5)


def twins(x: Tensor) -> Distribution:
    """One of each pair of twin predictors is in the signal, four waves."""
    return Normal(torch.sin(2 * x[:, ::2]).sum(1), 0.3)


@dataclass(frozen=True)
class Case:
    """A kind of fit.

    :param truth: distribution of y given x.
    :param shape: rows and predictors.
    :param prior: of the hidden nodes.
    :param likelihood: of the targets.
    :param input_inclusion: prior inclusion of predictors; None for no gates.
    :param options: changes to the default options.
    :param epochs: share of the default number of epochs.
    :param stop: share of the epochs after which the run is interrupted.
    :param twins: whether every second predictor is all but a copy of the one before it.
    :param caught_by: checks of which one must warn; empty for a good fit.
    """

    truth: Callable[[Tensor], Distribution]
    shape: tuple[int, int]
    prior: Prior
    likelihood: Likelihood = ss.GaussianLikelihood()  # noqa: RUF009
    input_inclusion: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    epochs: float = 1.0
    stop: float = 1.0
    twins: bool = False
    caught_by: tuple[str, ...] = ()

    def rows(self, number: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Distribution]:
        """Predictors, targets in their own units, and the distribution that they came from."""
        x = torch.randn(number, self.shape[1], generator=generator)
        if self.twins:
            for copy in range(1, self.shape[1], 2):
                x[:, copy] = x[:, copy - 1] + 0.01 * torch.randn(number, generator=generator)
        truth = self.truth(x)
        with torch.random.fork_rng():
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            return x, truth.sample(), truth


FRIEDMAN = {"truth": friedman, "shape": (400, 6)}
SS_GL = ss.SSGL(inclusion=0.2)
CASES = {
    "linear, SS-GHS, input gates": Case(
        linear, (300, 5), ss.SSGHS(inclusion=0.2), input_inclusion=0.2
    ),
    "sparse nonlinear, SS-IG, input gates": Case(
        sparse, (400, 10), ss.SSIG(inclusion=0.2), input_inclusion=0.2
    ),
    "three classes, SS-IG": Case(
        classes, (300, 4), ss.SSIG(inclusion=0.2), ss.CategoricalLikelihood(3)
    ),
    "counts, SS-IG": Case(counts, (400, 5), ss.SSIG(inclusion=0.2), ss.PoissonLikelihood()),
    "linear, SS-GL": Case(linear, (300, 5), SS_GL),
    "Friedman, SS-GL": Case(**FRIEDMAN, prior=SS_GL),
    "interrupted after a tenth": Case(**FRIEDMAN, prior=SS_GL, stop=0.1, caught_by=("schedule",)),
    "a tenth of the epochs": Case(
        **FRIEDMAN, prior=SS_GL, epochs=0.1, caught_by=("convergence", "schedule")
    ),
    "collapsed": Case(faint, (300, 5), ss.SSGL(inclusion=1e-30), caught_by=("signal",)),
    "noise scale 0.05": Case(
        **FRIEDMAN,
        prior=SS_GL,
        likelihood=ss.GaussianLikelihood(scale=0.05),
        caught_by=("calibration",),
    ),
    "noise scale 3": Case(
        **FRIEDMAN,
        prior=SS_GL,
        likelihood=ss.GaussianLikelihood(scale=3.0),
        caught_by=("calibration",),
    ),
    "gate rate 5, no warm-up": Case(
        **FRIEDMAN,
        prior=SS_GL,
        options={"gate_rate": 5.0, "kl_warmup": 0.0},
        caught_by=("gate rate",),
    ),
    "twin predictors": Case(
        twins,
        (300, 8),
        ss.SSGHS(inclusion=0.2),
        input_inclusion=0.005,
        options={"gate_rate": 0.05},
        twins=True,
        caught_by=("predictors",),
    ),
}


@dataclass(frozen=True)
class Made:
    """A fit, the rows it was fitted to, and how far it is from the truth.

    :param excess: what predicting 2,000 fresh rows costs beyond the true distribution, nats per observation.
    """

    result: ss.Fit
    x: Tensor
    y: Tensor
    excess: float


class _InterruptedError(Exception):
    """Raised in the callback."""


def made(case: Case, seed: int) -> Made:
    """A fit on data of this seed."""
    generator = torch.Generator().manual_seed(1000 + seed)
    x, y, _ = case.rows(case.shape[0], generator)
    fresh, target, truth = case.rows(FRESH, generator)
    loc, scale = torch.tensor(0.0), torch.tensor(1.0)
    if isinstance(case.likelihood, ss.GaussianLikelihood):
        loc, scale = y.mean(), y.std()
        y, target = (y - loc) / scale, (target - loc) / scale
    model = ss.MLP(
        case.shape[1],
        [WIDTH],
        prior=case.prior,
        likelihood=case.likelihood,
        input_inclusion=case.input_inclusion,
    )
    epochs = round(case.epochs * ss.TrainingOptions().num_epochs(len(x)))
    # one compiled step serves all fits of a shape, as long as no node leaves
    # and gates by gradient, whose faults the planted ones are
    speed = {"compile": True, "remove_below": None, "gate_hold": (0.0, 0.0)}
    options = ss.TrainingOptions(epochs=epochs, seed=seed, **speed, **case.options)
    kept: list[ss.Fit] = []

    def stop(epoch: int, result: ss.Fit) -> None:
        if case.stop < 1 and epoch >= case.stop * epochs:
            kept.append(result)
            raise _InterruptedError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = ss.fit(model, x, y, options, progress=False, callback=stop)
        except _InterruptedError:
            result = kept[0]
    predicted = ss.predict(model, result.guide, fresh, target, num_draws=400)
    own = target * scale + loc if scale != 1 else target
    best = truth.log_prob(own).mean() + scale.log()
    return Made(result, x, y, float(best - predicted.log_density.mean()))


def judged(name: str, seed: int, restarts: int) -> dict[str, Any]:
    """Fit, diagnose, and say what was found."""
    case, start = CASES[name], time.perf_counter()
    fit = made(case, seed)
    fitted = time.perf_counter()
    # an interrupted run is not made again: its restarts would run to the end
    report = diagnose(fit.result, fit.x, fit.y, restarts=1 if case.stop < 1 else restarts)
    warned = [check.name for check in report.warnings]
    return {
        "case": name,
        "seed": seed,
        "excess": fit.excess,
        "warned": warned,
        "right": bool(set(warned) & set(case.caught_by)) if case.caught_by else not warned,
        "seconds_fit": fitted - start,
        "seconds_diagnose": time.perf_counter() - fitted,
        "notes": [check.name for check in report if check.verdict == "note"],
        "findings": {check.name: check.finding for check in report},
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
            rows.append(judged(name, seed, restarts))
            last = rows[-1]
            print(name, seed, last["right"], f"{last['excess']:.3f}", last["warned"], flush=True)
            if arguments.json:
                write_text(arguments.json, json.dumps(rows, indent=1) + "\n")
    print(
        "\n| fit | seeds | right | excess, nats per row | checks that warned |\n|---|---|---|---|---|"
    )
    for name in CASES:
        mine = [r for r in rows if r["case"] == name]
        if mine:
            warned = sorted({w for r in mine for w in r["warned"]})
            told = ", ".join(f"{w} ({sum(w in r['warned'] for r in mine)})" for w in warned)
            excess = ", ".join(f"{r['excess']:.2f}" for r in mine)
            right = sum(r["right"] for r in mine)
            print(f"| {name} | {len(mine)} | {right} | {excess} | {told or '-'} |")


if __name__ == "__main__":
    main()
