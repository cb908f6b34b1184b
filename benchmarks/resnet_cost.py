"""What a training step of the Bayesian ResNet costs, over the deterministic one of the same shape.

    python benchmarks/resnet_cost.py --threads 1 --rounds 9

Ours: the step of ``fit`` with draws of the weights (one a step) and its optimizer. Deterministic: the plain torch
network with SGD, momentum 0.9. Both take turns in one process, on a batch of random images; the ratio is the median
over the rounds of one time over the other.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from deterministic import DeterministicResNet
from torch import Tensor
from torch.nn.functional import cross_entropy

import pyro_ssbnn as ss
from pyro_ssbnn.inference.optimizer import optimizer_of
from pyro_ssbnn.inference.step import EagerStep

CLASSES, NUM_DATA = 10, 50_000
PRIORS: dict[str, Callable[..., ss.SSIG | ss.SSGL | ss.SSGHS]] = {
    "ss-ig": ss.SSIG,
    "ss-gl": ss.SSGL,
    "ss-ghs": ss.SSGHS,
}
Step = Callable[[Tensor, Tensor], object]


def deterministic_step(depth: int) -> Step:
    """A step of the plain network."""
    net = DeterministicResNet(depth=depth)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)

    def run(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        cross_entropy(net(x.unflatten(-1, (3, 32, 32))), y).backward()
        optimizer.step()

    return run


def our_step(depth: int, prior: str) -> Step:
    """The step of ``fit`` with weight draws."""
    chosen = PRIORS[prior](inclusion=1e-4)
    model = ss.ResNet(depth=depth, prior=chosen, likelihood=ss.CategoricalLikelihood(CLASSES))
    guide = ss.StructuredGuide(model)
    options = ss.TrainingOptions()
    optimizer = optimizer_of(guide, options, NUM_DATA, torch.device("cpu"))
    step = EagerStep(model, guide, ss.AnalyticELBO(), NUM_DATA)
    weight = torch.ones(())

    def run(x: Tensor, y: Tensor) -> None:
        step(x, y, weight)
        optimizer.step()

    return run


def main() -> None:
    """Time both, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prior", choices=PRIORS, default="ss-ghs")
    parser.add_argument("--profile", action="store_true", help="print our step's operations")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    x, y = torch.randn(chosen.batch, 3 * 32 * 32), torch.randint(CLASSES, (chosen.batch,))
    steps = {
        "deterministic": deterministic_step(chosen.depth),
        "ours": our_step(chosen.depth, chosen.prior),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(chosen.rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step(x, y)
            if number:  # the first round warms up
                times[name].append(time.perf_counter() - start)
    ratios = [a / b for a, b in zip(times["ours"], times["deterministic"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    for name, seconds in times.items():
        print(f"{name:14} {1e3 * statistics.median(seconds):8.1f} ms")
    print(f"ratio          {middle:8.3f} (quartiles {low:.3f} to {high:.3f})")
    if chosen.profile:
        for name, step in steps.items():
            with torch.profiler.profile() as profile:
                step(x, y)
            print(name)
            print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=18))


if __name__ == "__main__":
    main()
