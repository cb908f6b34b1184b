"""MNIST with the perceptron 784-400-400-10: accuracy against nodes left, for the three priors.

    python benchmarks/mnist_mlp.py --data DIR --prior ss-ghs --seeds 0 1 2 --json mnist.json

DIR holds the four IDX files, gzipped or not. Prior inclusion is the theory's layer-wise value, pixels are scaled by
255/126, as in the published runs; all else is the package's default, with a compiled step. Test figures: the pruned
network's (median probability model) with the posterior mean and with 10 draws, and the whole posterior's with 10 draws.
Finished runs are kept in the JSON file: a stopped set of runs goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

import pyro_ssbnn as ss
from pyro_ssbnn.analysis import expected_calibration_error
from pyro_ssbnn.atomic import write_text
from pyro_ssbnn.data import Dataset, read_idx_images

PRIORS = {"ss-ig": ss.SSIG, "ss-gl": ss.SSGL, "ss-ghs": ss.SSGHS}
DRAWS = 10


def evaluate(probabilities: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Accuracy, negative log-likelihood and expected calibration error of class probabilities ``[N, K]``."""
    likelihood = probabilities.gather(1, labels.unsqueeze(1)).clamp_min(1e-12)
    return {
        "accuracy": float((probabilities.argmax(1) == labels).double().mean()),
        "nll": float(-likelihood.log().mean()),
        "ece": float(expected_calibration_error(probabilities, labels)),
    }


def run(train: Dataset, test: Dataset, prior: str, options: ss.TrainingOptions) -> dict:
    """Fit, prune, evaluate."""
    scale = 255 / 126
    likelihood = ss.CategoricalLikelihood(10)
    model = ss.MLP(
        784,
        [400, 400],
        prior=PRIORS[prior](inclusion=ss.TheoryInclusion(len(train))),
        likelihood=likelihood,
    )
    start = time.perf_counter()
    fitted = ss.fit(model, scale * train.x, train.y, options, progress=True)
    seconds = time.perf_counter() - start
    x = scale * test.x
    with torch.no_grad():
        mean = ss.prune(model, fitted.guide)
        draws = ss.prune(model, fitted.guide, num_draws=DRAWS)
        posterior = ss.draw_posterior(model, fitted.guide, DRAWS, x=x)
        figures = {
            "pruned_mean": evaluate(likelihood.mean(mean.network(x)), test.y),
            "pruned_draws": evaluate(likelihood.mean(draws.network(x)).mean(0), test.y),
            "posterior": evaluate(posterior.mean.mean(0), test.y),
        }
    total = mean.report.loc["total"]
    history = fitted.history
    epoch_seconds = [b - a for a, b in zip([0.0, *history.seconds], history.seconds, strict=False)]
    return {
        **figures,
        "epoch_seconds": [round(s, 3) for s in epoch_seconds],
        "active": {name: count.tolist() for name, count in history.active().items()},
        "removed": len(history.removed),
        "nodes": mean.selection.counts,
        "weights_kept": float(total["weights_kept"] / total["weights"]),
        "elbo_per_image": float(fitted.history.elbo[-1]) / len(train),
        "seconds": seconds,
        "options": options.to_config(),
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    """Run the missing (prior, seed) pairs and print one line each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the IDX files")
    parser.add_argument("--prior", nargs="+", default=["ss-ghs"], choices=PRIORS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=240)
    parser.add_argument("--threads", type=int, help="torch threads, by default all cores")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="keep all figures here, and go on from them")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    train, test = (read_idx_images(arguments.data, split) for split in ("train", "test"))
    results = {}
    if arguments.json and arguments.json.exists():
        results = json.loads(arguments.json.read_text())
    for prior in arguments.prior:
        for seed in arguments.seeds:
            key = f"{prior}/{seed}"
            if key in results:
                continue
            options = ss.TrainingOptions(
                epochs=arguments.epochs, compile=True, device=arguments.device, seed=seed
            )
            results[key] = run(train, test, prior, options)
            if arguments.json:
                write_text(arguments.json, json.dumps(results, indent=1, sort_keys=True) + "\n")
    print("| prior | seed | accuracy, pruned | nodes | weights kept | ELBO per image | minutes |")
    print("|---|---|---|---|---|---|---|")
    for key, r in sorted(results.items()):
        prior, seed = key.split("/")
        nodes = "-".join(str(v) for v in r["nodes"].values())
        print(
            f"| {prior} | {seed} | {100 * r['pruned_draws']['accuracy']:.2f} % | {nodes} |"
            f" {100 * r['weights_kept']:.1f} % | {r['elbo_per_image']:.3f} | {r['seconds'] / 60:.1f} |"
        )


if __name__ == "__main__":
    main()
