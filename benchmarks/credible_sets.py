r"""Credible sets among many correlated predictors: how often they hold a real effect, beside SuSiE's.

    python benchmarks/credible_sets.py --json benchmarks/results/credible_sets.json      # 50 data sets, a few minutes

200 predictors in twenty blocks of ten, correlation 0.9 within a block and 0 between blocks, n = 300, noise 1. Five
predictors act, chosen anew in each data set, with effects drawn from Normal(0, 0.5^2). The linear network has a prior
inclusion of 5/200 and slabs of 0.5 (y standardised); it is settled from random starting values, without training. SuSiE
is the iterative Bayesian stepwise selection of Wang, Sarkar, Carbonetto and Stephens (2020), ten single effects of the
same prior variance, its noise variance estimated, its sets those of 95 % with a purity of at least 0.5.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from torch import Tensor

import pyro_ssbnn as ss
from pyro_ssbnn.files.atomic import write_text

ROWS, BLOCKS, SIZE, REAL = 300, 20, 10, 5
CORRELATION, SLAB, LEVEL = 0.9, 0.5, 0.95
EFFECTS, SWEEPS, PURITY = 10, 100, 0.5  # of SuSiE


def draw_data(seed: int) -> tuple[Tensor, Tensor, set[int]]:
    """Predictors ``[n, p]``, standardised targets ``[n]``, and the predictors that act."""
    options = {"generator": torch.Generator().manual_seed(seed), "dtype": torch.float64}
    common = torch.randn(ROWS, BLOCKS, **options).repeat_interleave(SIZE, 1)
    own = torch.randn(ROWS, BLOCKS * SIZE, **options)
    x = CORRELATION**0.5 * common + (1 - CORRELATION) ** 0.5 * own
    real = torch.randperm(x.shape[1], generator=options["generator"])[:REAL]
    y = x[:, real] @ (SLAB * torch.randn(REAL, **options)) + torch.randn(ROWS, **options)
    return x, (y - y.mean()) / y.std(), set(real.tolist())


def settled_sets(x: Tensor, y: Tensor, seed: int) -> list[set[int]]:
    """Credible sets of the joint laws of blocks."""
    net = ss.MLP(
        x.shape[1],
        [],
        prior=ss.Gaussian(),
        output_prior=ss.Gaussian(scale=SLAB),
        likelihood=ss.GaussianLikelihood(),
        input_inclusion=REAL / x.shape[1],
    )
    torch.manual_seed(seed)
    guide = ss.BlockGuide(net).double()
    ss.settle(net, guide, x, y)
    return [set(one.members) for one in ss.credible_sets(guide, LEVEL)]


def susie_sets(x: Tensor, y: Tensor) -> list[set[int]]:
    """Credible sets of SuSiE: each effect in turn is a single-effect regression on what the others leave."""
    x = x - x.mean(0)
    squares, p = x.square().sum(0), x.shape[1]
    alpha = x.new_full((EFFECTS, p), 1 / p)
    mean = torch.zeros_like(alpha)
    second, noise = torch.zeros_like(alpha), float(y.var())
    for _ in range(SWEEPS):
        before = alpha.clone()
        for effect in range(EFFECTS):
            others = (alpha * mean).sum(0) - alpha[effect] * mean[effect]
            dots = x.T @ (y - x @ others)
            variance = 1 / (squares / noise + 1 / SLAB**2)
            mean[effect] = variance * dots / noise
            log_factor = 0.5 * (variance / SLAB**2).log() + mean[effect].square() / (2 * variance)
            alpha[effect] = log_factor.softmax(0)
            second[effect] = mean[effect].square() + variance
        fitted = x @ (alpha * mean).T
        left = (y - fitted.sum(1)).square().sum()
        spread = (alpha * second * squares).sum() - fitted.square().sum()
        noise = float((left + spread) / len(y))
        if float((alpha - before).abs().max()) < 1e-5:
            break
    correlation = torch.corrcoef(x.T).abs()
    found: list[set[int]] = []
    for effect in alpha:
        order = effect.argsort(descending=True)
        count = int((effect[order].cumsum(0) < LEVEL).sum()) + 1
        members = order[:count]
        pure = float(correlation[members][:, members].min()) >= PURITY
        if pure and set(members.tolist()) not in found:
            found.append(set(members.tolist()))
    return found


def run_one(seed: int) -> dict:
    """Both on one data set."""
    x, y, real = draw_data(seed)
    record: dict = {}
    for name, sets_of in (
        ("blocks", lambda: settled_sets(x, y, seed)),
        ("susie", lambda: susie_sets(x, y)),
    ):
        start = time.process_time()
        sets = sets_of()
        record[name] = {
            "sets": len(sets),
            "holding": sum(bool(one & real) for one in sets),
            "found": len({j for one in sets for j in one & real}),
            "size": sum(len(one) for one in sets),
            "seconds": round(time.process_time() - start, 2),
        }
    return record


def main() -> None:
    """Run the data sets that the file does not hold yet, then print what it holds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=int, default=50, help="number of data sets")
    parser.add_argument("--json", type=Path, help="all figures; data sets it holds are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    held = arguments.json is not None and arguments.json.exists()
    results = json.loads(arguments.json.read_text()) if held else {}
    for seed in range(arguments.sets):
        if str(seed) not in results:
            results[str(seed)] = run_one(seed)
        if arguments.json:
            write_text(arguments.json, json.dumps(results) + "\n")
    print("        sets  hold a real one  real ones in them  mean size  seconds")
    for name in ("blocks", "susie"):
        total = {k: sum(r[name][k] for r in results.values()) for k in results["0"][name]}
        share = total["holding"] / max(total["sets"], 1)
        error = math.sqrt(LEVEL * (1 - LEVEL) / max(total["sets"], 1))
        print(
            f"{name:<8}{total['sets']:<6}{share:.3f} (± {error:.3f})  {total['found']} of {REAL * len(results):<10}"
            f"  {total['size'] / max(total['sets'], 1):.1f}        {total['seconds'] / len(results):.1f}"
        )


if __name__ == "__main__":
    main()
