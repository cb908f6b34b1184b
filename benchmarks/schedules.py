"""The bound that the default schedule reaches, beside the published one's, on the embedded digits.

    python benchmarks/schedules.py --json schedules.json

64-64-32-10, SS-GHS, minibatches of the same size for both. Published: one rate of 1e-3 for every parameter, gates from
inclusion 0.99, no warm-up, no decay, weight draws, 70,800 steps (1,200 epochs of 59). Default: the package's, 10,000
steps.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

import pyro_ssbnn as ss
from pyro_ssbnn.data import Preprocessing, digits, split
from pyro_ssbnn.files.atomic import write_text

PUBLISHED = {
    "mean_rate": 1e-3 * 64**0.5,  # 1e-3 in the first layers, whose fan-in is 64
    "scale_rate": 1e-3,
    "gate_rate": 1e-3,
    "initial_inclusion": 0.99,
    "kl_warmup": 0.0,
    "decay_after": 1.0,
    "local_reparameterization": False,
    "num_particles": 1,
    "remove_below": None,
}


def run(options: dict, steps: int | None, seed: int) -> dict:
    """One fit: bound, nodes, test accuracy of the pruned network, epochs until half the nodes were closed."""
    train, test = split(digits(), 0.2, seed=0)
    prepared = Preprocessing.fit(train)
    train, test = prepared.apply(train), prepared.apply(test)
    likelihood = ss.CategoricalLikelihood(10)
    model = ss.MLP(64, [64, 32], prior=ss.SSGHS(inclusion=0.1), likelihood=likelihood)
    if steps is not None:
        rows = ss.TrainingOptions().batch_rows(len(train))
        options = {**options, "epochs": -(-steps // (len(train) // rows))}
    chosen = ss.TrainingOptions(compile=True, seed=seed, **options)
    fitted = ss.fit(model, train.x, train.y, chosen)
    history = fitted.history
    pruned = ss.prune(model, fitted.guide)
    with torch.no_grad():
        accuracy = (pruned.network(test.x).argmax(-1) == test.y).double().mean()
    active = sum(history.active().values())
    return {
        "elbo_per_row": float(history.elbo[-20:].mean()) / len(train),
        "nodes": pruned.selection.counts,
        "accuracy": float(accuracy),
        "epochs": len(history),
        "epochs_to_half": int((active <= active[0] / 2).argmax()) + 1,
        "seconds": history.seconds[-1],
    }


def main() -> None:
    """Run both schedules and print a line for each fit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write all figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for name, options, steps in (("default", {}, None), ("published", PUBLISHED, 70_800)):
        for seed in range(arguments.seeds):
            results[f"{name}/{seed}"] = run(options, steps, seed)
            print(name, seed, results[f"{name}/{seed}"], flush=True)
    if arguments.json:
        write_text(arguments.json, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
