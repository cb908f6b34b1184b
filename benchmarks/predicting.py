"""What predictions cost: draws against Pyro's handlers, memory of a residual network, a million rows of a file.

python benchmarks/predicting.py draws     # CPU seconds of 1,000 draws x 500 rows, and one draw at a time
python benchmarks/predicting.py memory    # peak memory of ResNet-20, blocks of images and draws
python benchmarks/predicting.py rows      # CPU seconds and peak memory of `pyro-ssbnn predict` on long files
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch
from pyro import poutine

import pyro_ssbnn as ss
from pyro_ssbnn.posterior.draws import ExactDraws, site_values


def draws() -> None:
    """20-[64, 32], SS-GHS with input gates, float32, one thread."""
    torch.set_num_threads(1)
    net = ss.MLP(
        20,
        [64, 32],
        prior=ss.SSGHS(inclusion=0.1),
        likelihood=ss.GaussianLikelihood(),
        input_inclusion=0.1,
    )
    guide = ss.StructuredGuide(net)
    x, y = torch.randn(500, 20), torch.randn(500)

    def one_at_a_time() -> None:
        with torch.no_grad(), ExactDraws():
            for _ in range(1000):
                values = site_values(poutine.trace(guide).get_trace())
                f = poutine.condition(net.network, data=values)(x)
                net.likelihood.distribution(f, values).log_prob(y)

    together = cpu(lambda: ss.predict(net, guide, x, y, num_draws=1000))
    intervals = cpu(lambda: ss.predict(net, guide, x, y, num_draws=1000, quantiles=(0.05, 0.95)))
    alone = cpu(one_at_a_time)
    print(
        f"predict {together:.3f} s, with an interval {intervals:.3f} s; one draw at a time {alone:.2f} s"
    )
    print(f"ratio {alone / together:.1f}")


def memory() -> None:
    """Peak memory above that of a first prediction, in processes of their own."""
    for rows, number in ((64, 20), (256, 20), (64, 80)):
        subprocess.run([sys.executable, __file__, "memory", str(rows), str(number)], check=True)


def _memory_of(rows: int, number: int) -> None:
    torch.set_num_threads(1)
    net = ss.ResNet(prior=ss.SSIG(inclusion=0.1), likelihood=ss.CategoricalLikelihood(10))
    guide = ss.StructuredGuide(net)
    x = torch.randn(rows, 3 * 32 * 32)
    ss.predict(net, guide, x[:2], num_draws=1)
    before = peak(resource.RUSAGE_SELF)
    ss.predict(net, guide, x, torch.arange(rows) % 10, num_draws=number)
    print(f"{rows} images, {number} draws: {peak(resource.RUSAGE_SELF) - before:.0f} MB")


def rows() -> None:
    """A pruned 20-[32] network, files of 20 columns."""
    generator, names = np.random.default_rng(0), [f"x{i + 1}" for i in range(20)]
    command = str(Path(sys.executable).with_name("pyro-ssbnn"))
    with tempfile.TemporaryDirectory() as folder:
        data, run = Path(folder) / "data.csv", str(Path(folder) / "run")
        x = generator.normal(size=(2000, 20))
        y = 3 + 2 * x[:, 0] + np.sin(2 * x[:, 1]) * x[:, 2] + 0.3 * generator.normal(size=2000)
        pd.DataFrame(x, columns=names).assign(y=y).to_csv(data, index=False)
        options = ["--hidden", "32", "--input-gates", "--epochs", "150", "--out", run]
        subprocess.run(
            [command, "fit", data, "--target", "y", *options], check=True, capture_output=True
        )
        for number in (10, 10**5, 10**6):
            x = generator.normal(size=(number, 20)).round(6)
            pd.DataFrame(x, columns=names).to_csv(data, index=False)
            print(f"{number:,} rows: ", end="", flush=True)
            out = ["--network", "pruned", "--out", str(Path(folder) / "out.csv")]
            subprocess.run(
                [sys.executable, __file__, "run", command, "predict", run, str(data), *out],
                check=True,
            )


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime
    print(f"{seconds:.2f} CPU s, peak {peak(resource.RUSAGE_CHILDREN):.0f} MB")


def cpu(call: Callable[[], object], repeats: int = 5) -> float:
    """Median CPU seconds, after a first call."""
    call()
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return median(taken)


def peak(who: int) -> float:
    """Peak resident memory, MB."""
    return resource.getrusage(who).ru_maxrss / 1024


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["memory", rows_, number_]:
            _memory_of(int(rows_), int(number_))
        case ["run", *command_]:
            _run(command_)
        case ["draws" | "memory" | "rows" as what]:
            {"draws": draws, "memory": memory, "rows": rows}[what]()
        case _:
            print(__doc__)
