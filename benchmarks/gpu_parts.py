"""The parts of ``benchmarks/gpu.py``: each tells its figures one by one, as soon as it has them."""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from math import prod
from pathlib import Path
from statistics import mean, stdev

import torch
from gpu_sizes import CARD, REHEARSAL, Sizes
from gpu_steps import Setting, bounds_of, rates_of, synchronize, time_step
from reproduce_tasks import TASKS, Images, network_of, read_images, resnet
from torch import Tensor

import pyro_ssbnn as ss
from pyro_ssbnn.analysis import classification_scores

__all__ = ["run"]

ROOT = Path(__file__).resolve().parents[1]
Tell = Callable[..., None]


def run(part: str, arguments: argparse.Namespace, tell: Tell) -> None:
    """Run a part.

    :param tell: takes one figure and what it is of, as keywords.
    """
    warnings.simplefilter("ignore")  # short runs are meant
    device = torch.device(arguments.device)
    name, *rest = part.split()
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no CUDA here; --device cpu rehearses.")
    rehearses = device.type == "cpu"
    if rehearses:
        torch.set_num_threads(1)  # two wait for each other where other work has the cores
    PART[name](arguments, device, REHEARSAL if rehearses else CARD, tell, *rest)


def environment(
    arguments: argparse.Namespace, device: torch.device, sizes: Sizes, tell: Tell
) -> None:
    """Versions, the card, and what it does at most."""
    import pyro

    found = {"torch": torch.__version__, "pyro": pyro.__version__, "cuda": torch.version.cuda}
    tell(python=platform.python_version(), **found, cores=os.cpu_count())
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        tell(
            card=card.name, memory_GiB=card.total_memory / 2**30,
            capability=f"{card.major}.{card.minor}", multiprocessors=card.multi_processor_count,
        )  # fmt: skip
    for precision in sizes.precisions:
        rates = rates_of(device, sizes.copied, sizes.side, precision)
        tell(
            products=precision, TFLOPs=rates["operations a second"] / 1e12,
            copy_GBs=rates["bytes a second"] / 1e9,
        )  # fmt: skip


def tests(arguments: argparse.Namespace, device: torch.device, sizes: Sizes, tell: Tell) -> None:
    """The tests that need a GPU; without one each says why it was skipped."""
    # Another torch than that of the constraints has deprecations of its own, which are not at issue here.
    quiet = [
        word
        for kind in ("Deprecation", "Future", "User")
        for word in ("-W", f"ignore::{kind}Warning")
    ]
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu", "-vv", "-rs", "--tb=short"]
    command += ["-p", "no:cacheprovider", *quiet]
    child = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    counts: dict[str, int] = {}
    reasons = set()
    assert child.stdout is not None
    for line in child.stdout:
        outcome = next((w for w in ("PASSED", "FAILED", "ERROR", "SKIPPED") if f" {w}" in line), "")
        if outcome and "::" in line.split()[0]:
            counts[outcome.lower()] = counts.get(outcome.lower(), 0) + 1
            if outcome in ("FAILED", "ERROR"):
                tell(test=line.split()[0].split("::", 1)[1], outcome=outcome.lower())
        else:
            print(line, end="", flush=True)
        if line.startswith("SKIPPED"):
            reasons.add(line.split(": ", 1)[-1].strip())
    for reason in reasons:
        tell(skipped=reason)
    tell(**counts)
    if child.wait():
        raise SystemExit(child.returncode)


def steps(
    arguments: argparse.Namespace, device: torch.device, sizes: Sizes, tell: Tell, part: str
) -> None:
    """Times of all contenders, at several sizes of a minibatch."""
    name = sizes.networks[part]
    for batch in sizes.batches:
        setting = Setting(name, batch, device)
        for contender in sizes.contenders[part]:
            compiles = contender.startswith("compiled")
            if compiles and name != "mlp" and batch > sizes.compiled:
                continue  # minutes of compilation
            try:
                tell(**time_step(contender, setting, sizes.seconds))
            except Exception as error:  # one contender; the others go on
                tell(network=name, batch=batch, step=contender, failed=_first_line(error))
            if device.type == "cuda":
                torch.cuda.empty_cache()


def roofline(arguments: argparse.Namespace, device: torch.device, sizes: Sizes, tell: Tell) -> None:
    """What operations and bytes allow, beside what the quickest step takes."""
    rates = rates_of(device, sizes.copied, sizes.side)
    for name, batch, contender in sizes.roofline:
        setting = Setting(name, batch, device)
        bounds = bounds_of(setting)
        timed = time_step(contender, setting, sizes.seconds)
        of_operations = 1e3 * bounds["operations"] / rates["operations a second"]
        of_bytes = 1e3 * bounds["bytes"] / rates["bytes a second"]
        tell(
            network=name, batch=batch, step=timed["step"], GFLOP=bounds["operations"] / 1e9,
            MB=bounds["bytes"] / 1e6, operations_ms=of_operations, bytes_ms=of_bytes, ms=timed["ms"],
            share=max(of_operations, of_bytes) / timed["ms"],
        )  # fmt: skip


def fits(arguments: argparse.Namespace, device: torch.device, sizes: Sizes, tell: Tell) -> None:
    """Fits on the CPU and on the device, several seeds each: bounds and inclusion have the same distribution."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(200, 10, generator=generator)
    y = torch.sin(2 * x[:, 0]) + x[:, 3] * x[:, 7] + 0.1 * torch.randn(200, generator=generator)
    y = (y - y.mean()) / y.std()
    where: dict[str, list[tuple[float, float, float]]] = {"cpu": [], "device": []}
    torch.set_num_threads(1)
    seeds, epochs = sizes.fits
    for seed in range(seeds):
        for place, of_place in (("cpu", "cpu"), ("device", str(device))):
            # Where both are the CPU other seeds stand in for the device.
            shift = 100 if of_place == "cpu" and place == "device" else 0
            options = ss.TrainingOptions(
                epochs=epochs, batch_size=50, seed=seed + shift, device=of_place, compile="trace"
            )
            model = ss.MLP(
                10, [16], prior=ss.SSGHS(inclusion=0.3), likelihood=ss.GaussianLikelihood(),
                input_inclusion=0.3,
            )  # fmt: skip
            fitted = ss.fit(model, x, y, options, progress=False)
            bound = ss.evaluate_bound(fitted.model, fitted.guide, x, y)
            inclusion = fitted.guide.inclusion()
            nodes = float(inclusion["hidden1"].sum())
            where[place].append((bound.elbo, nodes, float(inclusion["input"].sum())))
        tell(seed=seed, **{f"{place} bound": found[-1][0] for place, found in where.items()})
    for number, quantity in enumerate(("bound", "open nodes", "open predictors")):
        columns = [[row[number] for row in found] for found in where.values()]
        error = (sum(stdev(c) ** 2 / len(c) for c in columns)) ** 0.5
        distance = (mean(columns[1]) - mean(columns[0])) / max(error, 1e-9)
        tell(
            quantity=quantity, cpu=mean(columns[0]), device=mean(columns[1]),
            standard_errors=distance, agree=abs(distance) < 4,
        )  # fmt: skip


def mnist(arguments: argparse.Namespace, device: torch.device, sizes: Sizes, tell: Tell) -> None:
    """The whole run of the results' MNIST row: 784-400-400-10, SS-GHS, 240 epochs."""
    task, (rows, epochs) = TASKS["mlp-mnist"], sizes.mnist
    images, given = _images("mlp-mnist", arguments.mnist, rows)
    model = network_of(task, "ss-ghs", len(images["x"]))
    chosen = {**task.training_options("ss-ghs"), "compile": "auto", "device": str(device)}
    chosen["epochs"] = epochs or chosen["epochs"]
    start = time.perf_counter()

    def follow(record: int, fitted: ss.Fit) -> None:
        if record % 40 == 0 or record == 1:
            elbo = float(fitted.history.elbo[-1]) / len(images["x"])
            tell(images=given, epochs=record, seconds=time.perf_counter() - start, elbo=elbo)

    options = ss.TrainingOptions(**chosen)
    fitted = ss.fit(model, images["x"], images["y"], options, progress=False, callback=follow)
    seconds = time.perf_counter() - start
    with torch.no_grad():
        pruned = ss.prune(fitted.model, fitted.guide, num_draws=10)
        outputs = pruned.network.to(device)(images["x_test"].to(device))
        scores = classification_scores(
            model.likelihood.mean(outputs, {}).mean(0).cpu(), images["y_test"]
        )
    tell(
        images=given, epochs=chosen["epochs"], seconds=seconds, accuracy=scores["accuracy"],
        nodes="-".join(map(str, pruned.selection.counts.values())),
        elbo=float(fitted.history.elbo[-1]) / len(images["x"]),
    )  # fmt: skip


def cifar(arguments: argparse.Namespace, device: torch.device, sizes: Sizes, tell: Tell) -> None:
    """An epoch of the residual networks on CIFAR-10, and what 300 epochs and 100 of fine-tuning would take."""
    rows, epochs = sizes.cifar
    images, given = _images("resnet20-cifar10", arguments.cifar, rows)
    for precision, depth in sizes.residual:
        task = resnet(depth)
        chosen = {**task.training_options("ss-ghs"), "epochs": epochs}
        options = ss.TrainingOptions(
            **chosen, device=str(device), precision=precision, kl_warmup=0.0
        )
        model = network_of(task, "ss-ghs", len(images["x"]))
        ends: list[float] = [time.perf_counter()]
        try:
            ss.fit(
                model, images["x"], images["y"], options, augment=task.augment, progress=False,
                callback=lambda record, fitted, ends=ends: ends.append(time.perf_counter()),
            )  # fmt: skip
        except Exception as error:  # one precision; the others go on
            tell(
                images=given,
                network=f"ResNet-{depth}",
                precision=precision,
                failed=_first_line(error),
            )
            continue
        epoch = (ends[-1] - ends[-2]) * (50_000 / len(images["x"]))
        tell(
            images=given, network=f"ResNet-{depth}", precision=precision,
            first_epoch_s=ends[1] - ends[0], epoch_of_50000_s=epoch, run_of_400_epochs_h=epoch * 400 / 3600,
        )  # fmt: skip


def memory(arguments: argparse.Namespace, device: torch.device, sizes: Sizes, tell: Tell) -> None:
    """Most memory that tensors take on the device while a step is built and run; of a CPU, what the process takes."""
    for name, batch in sizes.remembered:
        for contender in sizes.remembering:
            before = _memory_taken(device)
            try:
                time_step(contender, Setting(name, batch, device), 0.1)
            except Exception as error:
                tell(network=name, batch=batch, step=contender, failed=_first_line(error))
                continue
            synchronize(device)
            most = _most_memory(device) - before
            tell(network=name, batch=batch, step=contender, MB=most / 2**20)


def _memory_taken(device: torch.device) -> int:
    """Bytes that are taken now, from which the most is counted anew; on a CPU the most so far."""
    if device.type != "cuda":
        return _most_memory(device)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _most_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _images(task: str, folder: Path | None, rows: int) -> tuple[Images, str]:
    """So many images of a task and what they are: random ones around ten prototypes where there is no folder."""
    if folder is not None:
        images, _ = read_images(TASKS[task], folder)
        return {
            name: values[: rows // 5 if "test" in name else rows] for name, values in images.items()
        }, folder.name
    generator = torch.Generator().manual_seed(0)
    size = prod(TASKS[task].image_shape)
    prototypes = torch.randn(10, size, generator=generator)

    def drawn(count: int) -> tuple[Tensor, Tensor]:
        y = torch.randint(10, (count,), generator=generator)
        return prototypes[y] + 2 * torch.randn(count, size, generator=generator), y

    (x, y), (x_test, y_test) = drawn(rows), drawn(rows // 5)
    return {"x": x, "y": y, "x_test": x_test, "y_test": y_test}, "random"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


PART: dict[str, Callable[..., None]] = {
    "environment": environment,
    "tests": tests,
    "steps": steps,
    "mnist": mnist,
    "cifar": cifar,
    "fits": fits,
    "roofline": roofline,
    "memory": memory,
}
