r"""Theory beside practice: how fast the posterior gathers around a sparse network as n grows.

    python benchmarks/contraction.py --json benchmarks/results/contraction.json --plots docs

A known teacher, four tanh nodes that read three of ten standard normal predictors, gives y = f0(x) + noise of known
standard deviation. Students of 16 nodes with gated predictors are fitted under the three priors. On fresh predictors,
with f drawn from the posterior,

.. math:: d^2 = E_q\,E_x (f(x) - f_0(x))^2,\qquad
          H^2 = E_q\,E_x\big[1 - e^{-(f(x) - f_0(x))^2/(8\sigma^2)}\big],

the second being the squared Hellinger distance between the two densities of y. They are expectations over the
posterior, not distances of its mean; the error of the posterior mean stands beside them. The theory's rate
(:mod:`pyro_ssbnn.theory`) has unknown constants: only its slope can be compared. Finished fits are kept in the JSON
file: a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from resume import run_missing
from scipy import stats
from torch import Tensor

import pyro_ssbnn as ss
from pyro_ssbnn.errors import CollapseWarning
from pyro_ssbnn.theory import contraction_rate, effective_sparsity, sparsity_ratios

PRIORS = {"ss-ig": ss.SSIG, "ss-gl": ss.SSGL, "ss-ghs": ss.SSGHS}
ROWS = (100, 300, 1_000, 3_000, 10_000, 30_000)
PREDICTORS, REAL, TEACHER, STUDENT = 10, 3, 4, 16
WIDTHS = [PREDICTORS, STUDENT, 1]
NOISE = 0.5
STEPS = 10_000
DRAWS, FRESH = 200, 2_000
FRESH_SEED = 1_000_000  # far from any seed of training data
MEASURES = ("distance", "hellinger", "rmse")


class Teacher(NamedTuple):
    """A sparse network f0.

    :param hidden: weights ``[nodes, predictors]``.
    :param bias: ``[nodes]``.
    :param output: ``[nodes]``.
    """

    hidden: Tensor
    bias: Tensor
    output: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """f0 at x, ``[N, predictors]``: ``[N]``."""
        return torch.tanh(x @ self.hidden.T + self.bias) @ self.output


def teacher() -> Teacher:
    """The one teacher of all runs: of variance 1 at standard normal predictors, but for Monte-Carlo error."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.zeros(TEACHER, PREDICTORS)
    hidden[:, :REAL] = 1.5 * torch.randn(TEACHER, REAL, generator=generator)
    bias = torch.randn(TEACHER, generator=generator)
    network = Teacher(hidden, bias, torch.tensor([1.0, -1.0, 1.0, -1.0]))
    x = torch.randn(100_000, PREDICTORS, generator=generator)
    return network._replace(output=network.output / network(x).std())


def simulate(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Predictors ``[n, 10]``, targets ``[n]`` and f0, ``[n]``."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, PREDICTORS, generator=generator)
    f = teacher()(x)
    return x, f + NOISE * torch.randn(n, generator=generator), f


def distances(f: Tensor, truth: Tensor, noise: float) -> dict[str, float]:
    """Distances of posterior draws of f, ``[S, N]``, from the truth, ``[N]``; none of them squared."""
    squared = (f - truth).double().square()
    hellinger = -torch.expm1(-squared / (8 * noise**2))
    return {
        "distance": float(squared.mean().sqrt()),
        "hellinger": float(hellinger.mean().sqrt()),
        "rmse": float((f.mean(0) - truth).double().square().mean().sqrt()),
    }


def run_one(n: int, prior: str, seed: int, steps: int = STEPS, compile: bool = False) -> dict:
    """Fit one student and measure it; where the step is compiled, fits of one n and prior share it."""
    start = time.perf_counter()
    x, y, _ = simulate(n, seed)
    model = ss.MLP(
        PREDICTORS,
        [STUDENT],
        prior=PRIORS[prior](inclusion=ss.TheoryInclusion(n)),
        likelihood=ss.GaussianLikelihood(scale=NOISE),
        activation="tanh",
        input_inclusion=0.5,
    )
    batch = 256
    epochs = math.ceil(steps / max(1, n // batch))
    options = ss.TrainingOptions(
        epochs=epochs,
        batch_size=batch,
        remove_below=None,
        gate_hold=(0.0, 0.0),
        seed=seed,
        compile=compile,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        fitted = ss.fit(model, x, y, options, progress=False)
    fresh, _, truth = simulate(FRESH, FRESH_SEED)
    draws = ss.draw_posterior(model, fitted.guide, DRAWS, x=fresh, seed=seed)
    if draws.mean is None:
        raise RuntimeError("draw_posterior was given x, and returned no predictions")
    inclusion = fitted.guide.inclusion()
    size = ss.model_size(inclusion)["hidden1"]
    kept = ss.select(inclusion)
    expected = float(size @ torch.arange(len(size)).double())
    return {
        "n": n,
        "prior": prior,
        "seed": seed,
        "steps": steps,
        **distances(draws.mean, truth, NOISE),
        "nodes": expected,
        "nodes_selected": effective_sparsity(model.description, kept)[0],
        "predictors_found": int((kept.kept["input"] < REAL).sum()),
        "predictors_false": int((kept.kept["input"] >= REAL).sum()),
        "elbo": float(fitted.history.elbo[-1]) / n,
        "seconds": time.perf_counter() - start,
    }


class Slope(NamedTuple):
    """Slope of log(measure) on log(n), by least squares over all fits, with its standard error."""

    value: float
    error: float


def slope(records: Iterable[Mapping], measure: str) -> Slope:
    """Fitted exponent: -1/2 is the parametric rate."""
    records = list(records)
    fit = stats.linregress(np.log([r["n"] for r in records]), np.log([r[measure] for r in records]))
    return Slope(float(fit.slope), float(fit.stderr))


def theory_curve(rows: Sequence[int], sparsity: int, anchor: int, level: float) -> np.ndarray:
    """The theory's rate for the student's widths, scaled to a level at one n: its constants are unknown.

    :param rows: n at which it is wanted.
    :param sparsity: nodes that the truth needs.
    :param anchor: n at which the curve takes the value ``level``.
    """
    rate = np.array([contraction_rate(WIDTHS, [sparsity], n) for n in rows])
    return level * rate / contraction_rate(WIDTHS, [sparsity], anchor)


def theory_slope(low: int, high: int, sparsity: int = TEACHER) -> float:
    """Mean slope of the theory's rate between two n, on logarithmic axes."""
    rates = [contraction_rate(WIDTHS, [sparsity], n) for n in (low, high)]
    return math.log(rates[1] / rates[0]) / math.log(high / low)


def size_table(results: Mapping[str, Mapping]) -> str:
    """Markdown table of means over the seeds, a row for each prior and n."""
    rows = [
        "| prior | n | seeds | distance | Hellinger | RMSE of the mean | nodes expected | selected | real predictors |"
        " false | s (k + 1) theta / n |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for prior, n in itertools.product(PRIORS, ROWS):
        fits = [r for r in results.values() if (r["prior"], r["n"]) == (prior, n)]
        if not fits:
            continue
        mean = {k: np.mean([r[k] for r in fits]) for k in fits[0] if k not in ("prior", "steps")}
        ratio = sparsity_ratios(WIDTHS, [round(mean["nodes_selected"])], n)[0]
        rows.append(
            f"| {prior} | {n:,} | {len(fits)} | {mean['distance']:.3f} | {mean['hellinger']:.3f} | {mean['rmse']:.3f} |"
            f" {mean['nodes']:.1f} | {mean['nodes_selected']:.1f} | {mean['predictors_found']:.1f} |"
            f" {mean['predictors_false']:.1f} | {ratio:.3g} |"
        )
    return "\n".join(rows)


def slope_table(results: Mapping[str, Mapping]) -> str:
    """Markdown table of fitted slopes beside the theory's and the parametric one."""
    rows = ["| prior | fits | distance | Hellinger | RMSE of the mean |", "|---|---|---|---|---|"]
    sizes = sorted({r["n"] for r in results.values()})
    for prior in PRIORS:
        fits = [r for r in results.values() if r["prior"] == prior]
        if len({r["n"] for r in fits}) > 1:
            cells = [f"{s.value:.2f} ± {s.error:.2f}" for s in (slope(fits, m) for m in MEASURES)]
            rows.append(f"| {prior} | {len(fits)} | {' | '.join(cells)} |")
    if len(sizes) > 1:
        rows.append(f"| theory's scale | | {theory_slope(sizes[0], sizes[-1]):.2f} | | |")
        rows.append("| parametric | | -0.50 | -0.50 | -0.50 |")
    return "\n".join(rows)


def main() -> None:
    """Run the missing fits, print the tables, draw the plot."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--priors", nargs="+", default=list(PRIORS), choices=PRIORS)
    parser.add_argument("--seeds", type=int, default=3, help="data sets of each n")
    parser.add_argument("--steps", type=int, default=STEPS, help="of a fit")
    parser.add_argument("--quick", action="store_true", help="two n, one seed: a minute")
    parser.add_argument("--json", type=Path, help="keep all figures here, and go on from them")
    parser.add_argument("--plots", type=Path, help="folder for contraction.png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, seeds, steps = arguments.rows, arguments.seeds, arguments.steps
    if arguments.quick:
        rows, seeds, steps = ROWS[:2], 1, min(steps, 1_000)
    fits = itertools.product(arguments.priors, rows, range(seeds))
    wanted = {f"{prior}/{n}/{seed}": (n, prior, seed) for prior, n, seed in fits}
    results = run_missing(
        wanted,
        lambda key: run_one(*wanted[key], steps, compile=not arguments.quick),
        arguments.json,
    )
    print(size_table(results), slope_table(results), sep="\n\n")
    if arguments.plots:
        from contraction_plots import draw_contraction

        arguments.plots.mkdir(parents=True, exist_ok=True)
        draw_contraction(results).savefig(arguments.plots / "contraction.png", dpi=120)


if __name__ == "__main__":
    main()
