"""What a training step and a whole run cost: ratios, side by side in one process.

    python benchmarks/speed.py --quick
    python benchmarks/speed.py --data DIR --json speed.json --plots docs

Steps of the perceptron 784-H-H-10 with SS-GHS: ours (eager and compiled, with local reparameterisation and with weight
draws), stock Pyro (SVI, TraceMeanField_ELBO, pyro.optim.Adam, on the same model and guide), a hand-written PyTorch step
of the same objective (handwritten.py), and the deterministic network with fused Adam. All take turns, round by round;
a ratio is the median over the rounds of one time over another, with its quartiles. Peak memory comes from one process a
contender. With --data (a folder of MNIST's IDX files) two whole runs follow, with local reparameterisation and with
weight draws: seconds, accuracy and nodes left, the last epochs beside the deterministic network's, latency after
pruning, and 1,200 epochs of 59 hand-written steps, which is what the published runs took.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyro
import torch
from deterministic import adam_step
from handwritten import HandWritten, HandWrittenStep
from torch import Tensor, nn

import pyro_ssbnn as ss
from pyro_ssbnn.files.atomic import write_text
from pyro_ssbnn.inference.optimizer import optimizer_of
from pyro_ssbnn.inference.step import CompiledStep, EagerStep

INPUTS, CLASSES, NUM_DATA, INCLUSION = 784, 10, 60_000, 2e-3
SCALE = 255 / 126  # of the pixels, as in the published runs
Step = Callable[[Tensor, Tensor], object]


def network(width: int) -> ss.MLP:
    """The model all Bayesian contenders share."""
    prior = ss.SSGHS(inclusion=INCLUSION)
    return ss.MLP(INPUTS, [width, width], prior=prior, likelihood=ss.CategoricalLikelihood(CLASSES))


def our_step(width: int, *, local: bool, compiled: bool) -> Step:
    """The step of ``fit``, with its optimizer."""
    model = network(width)
    guide = ss.StructuredGuide(model)
    optimizer = optimizer_of(guide, ss.TrainingOptions(), NUM_DATA, torch.device("cpu"))
    kind = CompiledStep if compiled else EagerStep
    step = kind(model, guide, ss.AnalyticELBO(local_reparameterization=local), NUM_DATA)
    weight = torch.ones(())

    def run(x: Tensor, y: Tensor) -> None:
        step(x, y, weight)
        optimizer.step()

    return run


def stock_step(width: int) -> Step:
    """What a Pyro user writes."""
    pyro.clear_param_store()
    model = network(width)
    guide = ss.StructuredGuide(model)
    elbo = pyro.infer.TraceMeanField_ELBO()
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), elbo)
    return lambda x, y: svi.step(x, y, num_data=NUM_DATA)


def hand_step(width: int) -> Step:
    """What a PyTorch user writes."""
    return HandWrittenStep(HandWritten([INPUTS, width, width, CLASSES], [INCLUSION] * 2, NUM_DATA))


def dense_step(width: int) -> Step:
    """The deterministic network with fused Adam: the floor."""
    layers = [nn.Linear(INPUTS, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()]
    return adam_step(nn.Sequential(*layers, nn.Linear(width, CLASSES)))


CONTENDERS: dict[str, Callable[[int], Step]] = {
    "dense": dense_step,
    "hand-written": hand_step,
    "stock Pyro": stock_step,
    "ours, weight draws": lambda w: our_step(w, local=False, compiled=False),
    "ours, local": lambda w: our_step(w, local=True, compiled=False),
    "ours, weight draws, compiled": lambda w: our_step(w, local=False, compiled=True),
    "ours, local, compiled": lambda w: our_step(w, local=True, compiled=True),
}
OURS = [name for name in CONTENDERS if name.startswith("ours")]
REFERENCES = ["stock Pyro", "hand-written", "dense"]


def time_steps(width: int, batch: int, rounds: int, names: list[str]) -> dict[str, list[float]]:
    """Milliseconds of every contender's step, round by round, in turns."""
    x, y = torch.randn(batch, INPUTS), torch.randint(CLASSES, (batch,))
    steps = {name: CONTENDERS[name](width) for name in names}
    for step in steps.values():
        for _ in range(5):
            step(x, y)
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, step in steps.items():
            step(x, y)  # untimed: the caches still hold the one before
            start = time.perf_counter()
            step(x, y)
            times[name].append(1e3 * (time.perf_counter() - start))
    return times


def ratio(ours: list[float], other: list[float]) -> list[float]:
    """Median and quartiles of the ratio, round by round."""
    low, median, high = statistics.quantiles([a / b for a, b in zip(ours, other, strict=True)], n=4)
    return [median, low, high]


def compare(width: int, batch: int, rounds: int, names: list[str]) -> dict:
    """Median times and all ratios of our steps to the references."""
    times = time_steps(width, batch, rounds, names)
    return {
        "width": width,
        "batch": batch,
        "rounds": rounds,
        "median_ms": {name: statistics.median(t) for name, t in times.items()},
        "ratios": {
            f"{ours} / {other}": ratio(times[ours], times[other])
            for ours in names
            if ours in OURS
            for other in REFERENCES
            if other in names
        },
    }


def peak_memory(name: str, width: int, batch: int) -> float:
    """Megabytes that a few steps add to a process of their own."""
    command = [sys.executable, __file__, "--memory-of", name, str(width), str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def print_memory_of(name: str, width: int, batch: int) -> None:
    """The child process of :func:`peak_memory` (Linux: the high-water mark is reset before the steps)."""
    x, y = torch.randn(batch, INPUTS), torch.randint(CLASSES, (batch,))
    dense_step(8)(x, y)  # what torch itself loads at the first step
    Path("/proc/self/clear_refs").write_text("5")
    before = status_mb("VmRSS")
    step = CONTENDERS[name](width)
    for _ in range(3):
        step(x, y)
    print(status_mb("VmHWM") - before)


def status_mb(key: str) -> float:
    """An entry of this process's memory status, in megabytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def whole_run(folder: Path, seed: int, options: dict, hand_ms: float, rounds: int) -> dict:
    """One run of ``fit`` on MNIST, beside what it is compared with."""
    from reproduce import PRIORS

    from pyro_ssbnn.analysis import classification_scores, pruning_latency
    from pyro_ssbnn.data import read_idx_images

    train, test = (read_idx_images(folder, split) for split in ("train", "test"))
    likelihood = ss.CategoricalLikelihood(CLASSES)
    prior = PRIORS["ss-ghs"](inclusion=ss.TheoryInclusion(len(train)))
    model = ss.MLP(INPUTS, [400, 400], prior=prior, likelihood=likelihood)
    chosen = ss.TrainingOptions(epochs=200, compile=True, seed=seed, **options)
    x, x_test = SCALE * train.x, SCALE * test.x
    start = time.perf_counter()
    fitted = ss.fit(model, x, train.y, chosen)
    seconds = time.perf_counter() - start
    history = fitted.history
    last = [b - a for a, b in zip(history.seconds[-21:-1], history.seconds[-20:], strict=True)]
    dense = dense_epochs(x, train.y, rounds)
    with torch.no_grad():
        pruned = ss.prune(model, fitted.guide, num_draws=10)
        figures = classification_scores(likelihood.mean(pruned.network(x_test), {}).mean(0), test.y)
    latency = pruning_latency(model, fitted.guide)
    return {
        "options": chosen.to_config(),
        "seconds": seconds,
        **figures,
        "nodes": pruned.selection.counts,
        "elbo_per_image": float(history.elbo[-1]) / len(train),
        "elbo": (history.elbo / len(train)).tolist(),
        "clock": history.seconds,
        "active": {name: count.tolist() for name, count in history.active().items()},
        "run / 1200 epochs of the hand-written step": seconds / (1200 * 59 * hand_ms / 1e3),
        "dense_epoch_seconds": {batch: statistics.median(t) for batch, t in dense.items()},
        "last epochs / dense epoch": {
            f"batch {batch}": ratio(last, (epochs * 20)[:20]) for batch, epochs in dense.items()
        },
        "latency": latency.to_dict("records"),
    }


def dense_epochs(x: Tensor, y: Tensor, rounds: int) -> dict[int, list[float]]:
    """Seconds of epochs of the deterministic network, with our batch size and with the published one."""
    epochs: dict[int, list[float]] = {}
    for batch in (256, 1024):
        step = dense_step(400)
        seconds = []
        for _ in range(rounds):
            start = time.perf_counter()
            order = torch.randperm(len(x))
            for rows in order[: len(x) // batch * batch].split(batch):
                step(x.index_select(0, rows), y.index_select(0, rows))
            seconds.append(time.perf_counter() - start)
        epochs[batch] = seconds[1:]
    return epochs


def print_steps(result: dict) -> None:
    """One table a (width, batch)."""
    print(
        f"\n784-{result['width']}-{result['width']}-10, batch {result['batch']}: median ms a step"
    )
    print("   " + ", ".join(f"{name} {ms:.1f}" for name, ms in result["median_ms"].items()))
    for name, (median, low, high) in result["ratios"].items():
        print(f"   {name:55s} {median:5.2f}  [{low:.2f}, {high:.2f}]")


def print_run(name: str, run: dict) -> None:
    """What a whole run reached, and its ratios."""
    nodes = "-".join(str(n) for n in run["nodes"].values())
    print(
        f"\nMNIST, {name}: {100 * run['accuracy']:.2f} %, {nodes} nodes, ELBO {run['elbo_per_image']:.3f} per image,"
        f" {run['seconds']:.0f} s = {run['run / 1200 epochs of the hand-written step']:.3f} of 1,200 epochs of the"
        " hand-written step"
    )
    for batch, (median, low, high) in run["last epochs / dense epoch"].items():
        print(f"   last epochs / dense epoch, {batch}: {median:.2f}  [{low:.2f}, {high:.2f}]")
    for row in run["latency"]:
        print(
            f"   {row['network']:18s} {row['batch_size']:5d} rows: 1/{row['speedup']:.1f} of its dense network's time"
        )


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds, width 400, no memory, no runs"
    )
    parser.add_argument("--data", type=Path, help="folder of MNIST's IDX files, for the whole runs")
    parser.add_argument("--seed", type=int, default=0, help="of the whole runs")
    parser.add_argument("--threads", type=int, help="torch threads, by default all cores")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--plots", type=Path, help="folder for the two plots (needs --data)")
    parser.add_argument("--memory-of", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    pyro.enable_validation(False)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        name, width, batch = arguments.memory_of
        return print_memory_of(name, int(width), int(batch))
    results: dict = {
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "steps": [],
        "memory_mb": {},
        "runs": {},
    }
    print(results["machine"])
    names = [n for n in CONTENDERS if not (arguments.quick and n == "ours, local, compiled")]
    widths = [] if arguments.quick else [100, 200, 800, 1600, 3200]
    plan = [(400, 128, 60, names), (400, 1024, 30, names)]
    if arguments.quick:
        plan = [(400, 128, 20, names), (400, 1024, 10, names)]
    plan += [
        (w, 128, 20 if w < 1000 else 7, [n for n in names if "weight" not in n]) for w in widths
    ]
    for width, batch, rounds, contenders in plan:
        results["steps"].append(compare(width, batch, rounds, contenders))
        print_steps(results["steps"][-1])
    memory = ["dense", "hand-written", "stock Pyro", "ours, weight draws", "ours, local"]
    for batch in () if arguments.quick else (128, 1024):
        results["memory_mb"][batch] = {n: peak_memory(n, 400, batch) for n in memory}
        shown = ", ".join(f"{n} {mb:.0f}" for n, mb in results["memory_mb"][batch].items())
        print(f"\npeak memory that the steps add, MB, width 400, batch {batch}: {shown}")
    if arguments.data:
        hand_ms = results["steps"][1]["median_ms"]["hand-written"]
        kinds = {"local reparameterisation": True, "weight draws": False}
        for name, local in kinds.items():
            options = {"local_reparameterization": local}
            results["runs"][name] = whole_run(arguments.data, arguments.seed, options, hand_ms, 6)
            print_run(name, results["runs"][name])
    if arguments.json:
        write_text(arguments.json, json.dumps(results, indent=1) + "\n")
    if arguments.plots:
        from speed_plots import draw

        draw(results, arguments.plots)
    return None


if __name__ == "__main__":
    main()
