"""The published method beside the package's defaults on MNIST, and each of its differences alone on the digits.

    python benchmarks/published.py mnist --data data/mnist --prior ss-ghs --epochs 300 --json FILE
    python benchmarks/published.py differences --prior ss-gl --json FILE

``mnist`` fits the preset for so many of its 1,200 epochs. ``differences`` fits 64-[64, 32]-10 on 1,437 embedded digits:
the defaults, the defaults with one thing as published, and the preset, each for as many steps. Accuracy is that of the
pruned network with 10 draws, of ``--hold-out`` training images or of the test images.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import torch

import pyro_ssbnn as ss
from pyro_ssbnn.data import digits as embedded_digits
from pyro_ssbnn.data import read_idx_images, split

SCALE = 255 / 126
DRAWS = 10
PRIORS = {"ss-ig": ss.SSIG, "ss-gl": ss.SSGL, "ss-ghs": ss.SSGHS}
# What a default becomes when it is as published, for as many steps.
OPTIONS = {
    "one rate of 1e-3": {"rate": 1e-3, "decay_after": 1.0},
    "no warm-up of the KL": {"kl_warmup": 0.0},
    "draws of the weights": {"local_reparameterization": False},
    "steps of 1,024 rows": {"batch_size": 1024},
    "no removal in training": {"remove_below": None},
}


def measured(result: ss.Fit, images: dict[str, torch.Tensor], seconds: float) -> dict[str, object]:
    """What a fit came to."""
    inclusion = result.guide.inclusion()
    nodes = {name: int((q > 0.5).sum()) for name, q in inclusion.items()}
    found = {
        "seconds": round(seconds),
        "nodes": nodes,
        "elbo": result.history.elbo[-1] / result.num_data,
    }
    if all(nodes.values()):
        torch.manual_seed(0)
        pruned = ss.prune(result.model, result.guide, num_draws=DRAWS).network
        probabilities = pruned(images["x_test"]).softmax(-1).mean(0)
        found["accuracy"] = float((probabilities.argmax(-1) == images["y_test"]).float().mean())
    return found


def fitted(model, images, options, guide=None) -> dict[str, object]:
    """Fit, and measure."""
    start = time.process_time()
    result = ss.fit(model, images["x"], images["y"], options, guide=guide, progress=False)
    return measured(result, images, time.process_time() - start)


def mnist(folder: Path, hold_out: int) -> dict[str, torch.Tensor]:
    """Images times 255/126."""
    train = read_idx_images(folder, "train")
    if hold_out:
        test, train = (
            train.subset(torch.arange(len(train))[-hold_out:]),
            train.subset(torch.arange(len(train))[:-hold_out]),
        )
    else:
        test = read_idx_images(folder, "test")
    return {"x": SCALE * train.x, "y": train.y, "x_test": SCALE * test.x, "y_test": test.y}


def digits() -> dict[str, torch.Tensor]:
    """Training images and a fifth held out."""
    train, test = split(embedded_digits(), 0.2, seed=0)
    mean, sd = train.x.mean(), train.x.std()
    return {
        "x": (train.x.float() - mean) / sd,
        "y": train.y,
        "x_test": (test.x.float() - mean) / sd,
        "y_test": test.y,
    }


def differences(name: str, seed: int, steps: int) -> dict[str, object]:
    """Each difference alone."""
    images = digits()
    rows = len(images["x"])
    likelihood = ss.CategoricalLikelihood(10)

    def network(scope: str) -> ss.MLP:
        prior = PRIORS[name](inclusion=0.1, scope=scope)
        return ss.MLP(64, [64, 32], prior=prior, likelihood=likelihood)

    def options(**changed: object) -> ss.TrainingOptions:
        chosen = ss.TrainingOptions(
            gate_hold=(0.0, 0.0), gate_method="gradient", seed=seed, **changed
        )
        return replace(chosen, epochs=round(steps / chosen.epoch_steps(rows)))

    found = {"defaults": fitted(network("hidden"), images, options())}
    for what, changed in OPTIONS.items():
        found[what] = fitted(network("hidden"), images, options(**changed))
    found["one prior for all layers"] = fitted(network("network"), images, options())
    torch.manual_seed(seed)
    model = network("hidden")
    guide = ss.StructuredGuide(model, independent_scales=True)
    found["independent scales"] = fitted(model, images, options(), guide)
    torch.manual_seed(seed)
    found["starting values"] = fitted(model, images, options(), ss.PublishedGuide(model))
    recipe = ss.published.mlp(name, 64, [64, 32], num_data=rows, seed=seed)
    model = network("network")
    torch.manual_seed(seed)
    same = replace(recipe.options, epochs=round(steps / recipe.options.epoch_steps(rows)))
    found["all of it"] = fitted(model, images, same, ss.PublishedGuide(model))
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("task", choices=["mnist", "differences"])
    parser.add_argument("--prior", choices=PRIORS, default="ss-ghs")
    parser.add_argument("--data", type=Path, default=Path("data/mnist"))
    parser.add_argument("--epochs", type=int, default=1200, help="of mnist")
    parser.add_argument("--steps", type=int, default=10_000, help="of each of the differences")
    parser.add_argument("--hold-out", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.task == "mnist":
        images = mnist(chosen.data, chosen.hold_out)
        recipe = ss.published.mlp(chosen.prior, num_data=len(images["x"]), seed=chosen.seed)
        options = replace(recipe.options, epochs=chosen.epochs)
        found = fitted(recipe.model, images, options, recipe.guide)
    else:
        found = differences(chosen.prior, chosen.seed, chosen.steps)
    print(json.dumps(found, indent=1))
    if chosen.json:
        record = {
            "task": chosen.task,
            "prior": chosen.prior,
            "epochs": chosen.epochs,
            "steps": chosen.steps,
            "seed": chosen.seed,
        }
        chosen.json.write_text(json.dumps({**record, "found": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
