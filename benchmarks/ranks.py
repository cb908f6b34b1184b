"""What a run on several processes of one machine costs beside one on a process alone, and where it would stop scaling.

    python benchmarks/ranks.py --json benchmarks/results/ranks.json

Each process has one CPU thread. Times are medians over epochs of a few steps: by the clock, and of the processor, which
other work on the machine changes little. The data are noise: no step depends on what they say.
"""

import argparse
import itertools
import json
import multiprocessing
import tempfile
import time
import warnings
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist

import pyro_ssbnn as ss
from pyro_ssbnn.inference.ranks import Together

PRIOR = ss.SSGHS(inclusion=0.1)
CLASSES = ss.CategoricalLikelihood(10)
NETWORKS = {  # name: network, columns, rows of a minibatch, steps of an epoch
    "784-400-400-10": (
        lambda: ss.MLP(784, [400, 400], prior=PRIOR, likelihood=CLASSES),
        784,
        1024,
        5,
    ),
    "LeNet": (lambda: ss.LeNet((1, 28, 28), prior=PRIOR, likelihood=CLASSES), 784, 256, 2),
    "ResNet-20": (lambda: ss.ResNet((3, 32, 32), 20, prior=PRIOR, likelihood=CLASSES), 3072, 64, 1),
}


def on_ranks(size, function, *arguments):
    """What a function returns on rank 0 of so many processes; of one alone without a process group."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        where = f"{folder}/store"
        given = (queue, where, size, function, arguments)
        processes = [context.Process(target=_ranked, args=(rank, *given)) for rank in range(size)]
        for process in processes:
            process.start()
        found = queue.get()
        for process in processes:
            process.join()
    return found


def _ranked(rank, queue, where, size, function, arguments):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if size > 1:
        store = dist.FileStore(where, size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    found = function(size > 1, *arguments)
    if rank == 0:
        queue.put(found)


def step_times(distributed, name, epochs, delay=0.0, parts=1):
    """Milliseconds of a step by the clock and of the processor, and megabytes that are reduced in it.

    :param delay: seconds by which each reduction is late.
    :param parts: of so many of a minibatch, how long one takes alone.
    """
    make, columns, rows, steps = NETWORKS[name]
    rows //= parts
    sent = [0.0]
    reduce = Together._reduce

    def delayed(self, value):
        sent[0] = max(sent[0], value.numel() * value.element_size() / 1e6)
        time.sleep(delay)
        reduce(self, value)

    Together._reduce = delayed
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows * steps, columns, generator=generator)
    y = torch.randint(10, (len(x),), generator=generator)
    marks = []

    def mark(epoch, result):
        marks.append((time.perf_counter(), time.process_time()))

    options = ss.TrainingOptions(
        epochs=epochs,
        batch_size=rows,
        num_particles=1,
        gate_rate=0.02,
        remove_below=None,
        compile=False,
        device="cpu",
    )
    ss.fit(make(), x, y, options, progress=False, callback=mark, distributed=distributed)
    pairs = list(itertools.pairwise(marks))
    clock, processor = (1e3 * median(b[i] - a[i] for a, b in pairs) / steps for i in (0, 1))
    return {"ms": clock, "cpu_ms": processor, "mb": sent[0]}


def bound(distributed, seed):
    """Bound, with its error, of a linear regression fitted with free draws; its optimum is one point."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 4, generator=generator)
    y = x @ torch.tensor([1.0, -1.0, 0.5, 0.0]) + 0.5 * torch.randn(200, generator=generator)
    net = ss.MLP(4, [], prior=ss.Gaussian(), likelihood=ss.GaussianLikelihood(scale=0.5))
    options = ss.TrainingOptions(
        epochs=400, batch_size=200, mean_rate=0.04, compile="trace", seed=seed
    )
    result = ss.fit(net, x, y, options, progress=False, distributed=distributed)
    found = ss.evaluate_bound(result.model, result.guide, x, y, num_draws=4096)
    return found.elbo, found.error


def main():
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--sizes", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument(
        "--delays", nargs="*", type=float, default=[5, 20, 100], help="milliseconds"
    )
    parser.add_argument("--seeds", type=int, default=3, help="fits whose bounds are compared")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = {"cores": multiprocessing.cpu_count(), "torch": torch.__version__, "steps": {}}
    for name in given.networks:
        rows = {size: on_ranks(size, step_times, name, given.epochs) for size in given.sizes}
        rows["half"] = on_ranks(1, step_times, name, given.epochs, 0.0, 2)
        found["steps"][name] = rows
        for size, row in rows.items():
            print(name, size, row, flush=True)
            if size in given.sizes and 1 in given.sizes:
                share = {key: rows[1][key] / (size * row[key]) for key in ("ms", "cpu_ms")}
                print("    efficiency", share, flush=True)
    if "784-400-400-10" in given.networks:
        found["delays"] = {}
        for delay in given.delays:
            row = on_ranks(2, step_times, "784-400-400-10", given.epochs, delay / 1e3)
            found["delays"][delay] = row
            print("delay of each reduction", delay, "ms:", row, flush=True)
    found["bounds"] = {
        size: [on_ranks(size, bound, seed) for seed in range(given.seeds)] for size in given.sizes
    }
    print("bounds", found["bounds"])
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
