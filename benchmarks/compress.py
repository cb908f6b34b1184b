"""Networks trained in plain torch, made smaller: ``ss.compress`` beside torch-pruning, from the same weights.

    python benchmarks/compress.py --task mnist --data data/mnist --seeds 0 1 2
    python benchmarks/compress.py --task cifar10 --data data/cifar10/cifar-10-batches-bin

LeNet-5 on MNIST to a quarter of its multiply-adds, a residual network on CIFAR-10 to half of its own. Both methods
start from the weights of the dense network and spend the same CPU seconds: ``ss.compress`` its own, and torch-pruning
(``pip install --no-deps torch-pruning``; group magnitudes, cut at once) as many, all but the cut on fine-tuning.
5,000 training images are held out, and settings were chosen by them; test images are in the table only. A row that is
in the file is not made again, and dense networks are kept in ``--weights``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from compress_networks import Images, accuracy, cut_by_magnitude, multiply_adds, resnet, train
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import pyro_ssbnn as ss
from pyro_ssbnn.compression.known import known_module
from pyro_ssbnn.data import read_cifar, read_idx_images
from pyro_ssbnn.files.atomic import write_text

RESULTS = Path(__file__).parent / "results" / "compress.json"
HELD_OUT = 5000
METHODS = ["dense", "ours", "torch-pruning"]


@dataclass(frozen=True)
class Task:
    """A data set with its network.

    :param shape: of an image.
    :param share: of the multiply-adds that may be left.
    :param epochs: of the dense network.
    :param rate: its largest rate.
    :param tuned: epochs of ``ss.compress`` after the cut.
    :param tuning_rate: the largest rate after the cut, of both methods.
    :param everywhere: whether the rival compares channels of all layers.
    """

    shape: tuple[int, int, int]
    share: float
    epochs: int
    rate: float
    tuned: int
    tuning_rate: float
    everywhere: bool
    augmented: bool = False

    def network(self) -> nn.Module:
        """A new network."""
        if self.shape[0] == 1:
            return known_module("lenet", self.shape, 10)
        return resnet(blocks=1, width=12)

    @property
    def augment(self) -> ss.ImageAugmentation | None:
        """Crops and flips."""
        return ss.ImageAugmentation(self.shape) if self.augmented else None


TASKS = {
    "mnist": Task((1, 28, 28), 0.25, 4, 0.05, 3, 0.02, True),
    "cifar10": Task((3, 32, 32), 0.5, 8, 0.1, 5, 0.05, True, augmented=True),
}


def read(name: str, folder: Path) -> dict[str, Images]:
    """Standardised images: for training, held out, for the test."""
    reader = read_idx_images if name == "mnist" else read_cifar
    shape, parts = TASKS[name].shape, {}
    for split in ("train", "test"):
        data = reader(folder, split)
        parts[split] = Images(data.x.float().reshape(-1, *shape), data.y)
    train_part = parts["train"]
    dims = (0, 2, 3)
    mean, sd = train_part.x.mean(dims, keepdim=True), train_part.x.std(dims, keepdim=True)
    parts = {k: Images((v.x - mean) / sd, v.y) for k, v in parts.items()}
    return {
        "train": parts["train"][:-HELD_OUT],
        "validation": parts["train"][-HELD_OUT:],
        "test": parts["test"],
    }


def dense_network(task: Task, images: Images, seed: int, path: Path) -> tuple[nn.Module, float]:
    """The dense network, trained or read, and the CPU seconds of its training."""
    torch.manual_seed(seed)
    module, start = task.network(), time.process_time()
    if path.exists():
        module.load_state_dict(load_file(path))
        with safe_open(path, "pt") as file:
            return module.eval(), float(file.metadata()["seconds"])
    train(module, images, rate=task.rate, seed=seed, epochs=task.epochs, augment=task.augment)
    seconds = time.process_time() - start
    module.to(memory_format=torch.contiguous_format)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(module.state_dict(), path, metadata={"seconds": f"{seconds:.1f}"})
    return module, seconds


def ours(
    task: Task, dense: nn.Module, images: dict[str, Images], seed: int, **changed: Any
) -> nn.Module:
    """What ``ss.compress`` makes of it."""
    options = {"epochs": task.tuned, "batch_size": 128, "num_particles": 1}
    options |= {"optimizer": "sgd", "mean_rate": task.tuning_rate}
    own = {k: changed.pop(k) for k in list(changed) if k in ss.TrainingOptions.__annotations__}
    result = ss.compress(
        dense,
        images["train"].x,
        images["train"].y,
        likelihood=ss.CategoricalLikelihood(10),
        options=ss.TrainingOptions(**{**options, "seed": seed, **own}),
        multiply_adds=task.share,
        augment=task.augment,
        progress=False,
        **changed,
    )
    print(result.layers[["nodes", "nodes_kept"]].to_string(), flush=True)
    return result.module


def theirs(
    task: Task, dense: nn.Module, images: dict[str, Images], seed: int, seconds: float
) -> nn.Module:
    """What torch-pruning and fine-tuning make of it in so many CPU seconds."""
    start, module = time.process_time(), deepcopy(dense)
    x = images["train"].x
    cut_by_magnitude(module, x, task.share * multiply_adds(dense, x), task.everywhere)
    left = seconds - (time.process_time() - start)
    arguments = {"rate": task.tuning_rate, "augment": task.augment}
    return train(module, images["train"], seed=seed, seconds=left, **arguments)


def measured(
    module: nn.Module, dense: nn.Module, images: dict[str, Images], seconds: float
) -> dict[str, Any]:
    """What a network came to."""
    x = images["test"].x
    return {
        "test": accuracy(module, images["test"]),
        "validation": accuracy(module, images["validation"]),
        "multiply_adds": multiply_adds(module, x),
        "share": round(multiply_adds(module, x) / multiply_adds(dense, x), 4),
        "weights": sum(p.numel() for p in module.parameters()),
        "cpu_seconds": round(seconds, 1),
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    changed = "an argument of ss.compress, an option of its fit, or what the task says"
    parser.add_argument("--set", nargs=2, action="append", default=[], help=changed)
    parser.add_argument("--quick", action="store_true", help="2,000 images, an epoch each")
    parser.add_argument("--weights", type=Path, default=Path("runs/compress"))
    parser.add_argument("--json", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    task, images = TASKS[chosen.task], read(chosen.task, chosen.data)
    if chosen.quick:
        task = replace(task, epochs=1, tuned=1)
        images = {part: rows[:2000] for part, rows in images.items()}
    changed = {name: json.loads(value) for name, value in chosen.set}
    of_task = {k: changed.pop(k) for k in list(changed) if k in Task.__annotations__}
    task = replace(task, **of_task)
    rows = json.loads(chosen.json.read_text()) if chosen.json.exists() else []
    for seed, method in itertools.product(chosen.seeds, chosen.methods):
        made = {(row["task"], row["seed"], row["method"]): row for row in rows}
        if (chosen.task, seed, method) in made:
            continue
        name = f"{chosen.task}{'_quick' if chosen.quick else ''}_{seed}.safetensors"
        dense, seconds = dense_network(task, images["train"], seed, chosen.weights / name)
        budget = made.get((chosen.task, seed, "ours"), {}).get("cpu_seconds", 0.0)
        if method == "torch-pruning" and not budget:
            raise SystemExit("torch-pruning takes the CPU seconds of ours: make that row first.")
        start, module = time.process_time(), dense
        if method == "ours":
            module = ours(task, dense, images, seed, **changed)
        elif method == "torch-pruning":
            module = theirs(task, dense, images, seed, budget)
        seconds = seconds if method == "dense" else time.process_time() - start
        row = {"task": chosen.task, "seed": seed, "method": method}
        row |= measured(module, dense, images, seconds)
        rows.append(row | ({"changed": dict(chosen.set)} if chosen.set else {}))
        print(json.dumps(rows[-1]), flush=True)
        write_text(chosen.json, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
