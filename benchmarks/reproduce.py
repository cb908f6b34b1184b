"""One row of the results on images: train, prune, measure.

    python benchmarks/reproduce.py --task lenet-mnist --prior ss-ghs --seed 0 --data DIR --json FILE

DIR holds MNIST's four IDX files, or CIFAR-10's binary batches, gzipped or not.
The recipe of each task is in reproduce_tasks.py.
Figures on the test half: the pruned network's (median probability model) with posterior mean weights and with 10 draws,
and the whole posterior's with 10 draws of gates too: accuracy, negative log-likelihood, calibration error (10 bins),
Brier score, and how well predictive entropy tells foreign images from the test images (AUROC). Beside them nodes kept
in each layer, weights and multiply-adds before and after, latency before and after, bound and time.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyro
import torch
from pyro import poutine
from reproduce_tasks import PRIORS, TASKS, Images, Task, foreign_images, network_of, read_images
from torch import Tensor

import pyro_ssbnn as ss
from pyro_ssbnn.analysis import classification_scores, ood_auroc, pruning_latency
from pyro_ssbnn.files.atomic import write_text
from pyro_ssbnn.posterior.draws import site_values, trace_draws

DRAWS = 10
BATCH_SIZES = (1, 32, 256, 1024)


def fitted(
    task: Task, prior: str, data: Images, arguments: argparse.Namespace
) -> tuple[ss.Fit, ss.Fit | None]:
    """Train as the task says, from a deterministic network where it says so; the fit, and the fine-tuned one."""
    shortened = {} if arguments.epochs is None else {"epochs": arguments.epochs}
    chosen = {
        **task.training_options(prior),
        **shortened,
        "seed": arguments.seed,
        "device": arguments.device,
    }
    options = ss.TrainingOptions(**chosen)
    model = network_of(task, prior, len(data["x"]))
    guide = None
    common = {"augment": task.augment}
    if task.warm_start:
        warm = ss.TrainingOptions(**{**chosen, "epochs": task.warm_start})
        guide = ss.StructuredGuide(model, initial_inclusion=options.start_inclusion)
        guide.start_from(ss.fit_deterministic(model, data["x"], data["y"], warm, **common))
    result = ss.fit(model, data["x"], data["y"], options, guide=guide, **common)
    if task.fine_tuning is None or result.collapsed:
        return result, None
    tuning = {**chosen, **task.fine_tuning}
    tuning["epochs"] = min(tuning["epochs"], arguments.epochs or tuning["epochs"])
    return result, ss.fine_tune(
        result, data["x"], data["y"], ss.TrainingOptions(**tuning), **common
    )


def course(result: ss.Fit, rows: int) -> dict[str, Any]:
    """Options of a training run, and what it gave epoch by epoch, per image."""
    history = result.history
    return {
        "options": result.options.to_config(),
        "active": {name: count.tolist() for name, count in history.active().items()},
        "epoch_elbo": (history.elbo / rows).tolist(),
        "epoch_log_likelihood": [value / rows for value in history.log_likelihood],
        "epoch_clock": history.seconds,
    }


def scores(found: ss.PredictiveSummary, labels: Tensor) -> dict[str, float]:
    """Scores of a prediction, and its mean uncertainty."""
    uncertainty = {"entropy": found.entropy, "epistemic": found.epistemic}
    means = {name: float(values.mean()) for name, values in uncertainty.items()}
    return {**classification_scores(found.mean, labels), **means}


def pruned_minus_masked(result: ss.Fit, x: Tensor, draws: int = 2) -> float:
    """Largest absolute difference of outputs between the pruned network and the whole one with its gates set.

    In float64, on images x, with the same draws of weights and scales.
    """
    model, guide = copy.deepcopy(result.model).double(), copy.deepcopy(result.guide).double()
    selection = ss.select(guide.inclusion())
    network = ss.prune(model, guide, selection, num_draws=draws, seed=0).network
    gates = {f"{k}.gate": selection.mask(k).double().expand(draws, -1) for k in selection.kept}
    torch.manual_seed(0)  # the draws of prune
    with torch.no_grad():
        values = site_values(trace_draws(poutine.condition(guide, data=gates), draws))
        with pyro.plate("draws", draws, dim=-2):
            masked = poutine.condition(model.network, data=values)(x.double())
        return float((network(x.double()) - masked).abs().max())


def evaluated(result: ss.Fit, data: Images, foreign: Images) -> dict[str, Any]:
    """Scores of the whole posterior and of the pruned network on the test images."""
    model, guide, x, y = result.model, result.guide, data["x_test"], data["y_test"]
    predictors = {"posterior": lambda z, t=None: ss.predict(model, guide, z, t, num_draws=DRAWS)}
    record: dict[str, Any] = {"collapsed": result.collapsed}
    if not result.collapsed:
        for name, draws in (("pruned_mean", None), ("pruned_draws", DRAWS)):
            pruning = ss.prune(model, guide, num_draws=draws)
            network = pruning.network
            predictors[name] = lambda z, t=None, network=network: ss.predict_compact(
                network, model.likelihood, z, t
            )
        report = pruning.report
        total = report.loc["total"]
        record |= {
            "nodes": report["nodes"].drop("total").to_dict(),
            "nodes_kept": report["nodes_kept"].drop("total").to_dict(),
            "weights": int(total["weights"]),
            "weights_kept": int(total["weights_kept"]),
            "weights_ratio": float(total["weights_kept"] / total["weights"]),
            "multiply_adds": int(total["multiply_adds"]),
            "multiply_adds_kept": int(total["multiply_adds_kept"]),
            "multiply_adds_ratio": float(total["multiply_adds_kept"] / total["multiply_adds"]),
            "pruned_minus_masked": pruned_minus_masked(result, x[:64]),
        }
    for name, predictor in predictors.items():
        found = predictor(x, y)
        entropies = {kind: predictor(images).entropy for kind, images in foreign.items()}
        auroc = {kind: ood_auroc(found.entropy, values) for kind, values in entropies.items()}
        record[name] = {**scores(found, y), "ood_auroc": auroc}
    return record


def machine(device: str) -> dict[str, Any]:
    """Where the figures come from."""
    return {
        "platform": platform.platform(),
        "processor": platform.machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": device,
    }


def run(arguments: argparse.Namespace) -> tuple[ss.Fit, dict[str, Any]]:
    """Train and measure one row."""
    asked = {name: getattr(arguments, name) for name in ("warm_start", "train_rows", "test_rows")}
    task = replace(TASKS[arguments.task], **{k: v for k, v in asked.items() if v is not None})
    data, ready = read_images(task, arguments.data, arguments.hold_out)
    foreign = foreign_images(task.image_shape, data.pop("raw_test"), arguments.other_data)
    start = time.perf_counter()
    first, tuned = fitted(task, arguments.prior, data, arguments)
    seconds = time.perf_counter() - start
    result, rows = tuned or first, len(data["x"])
    history = result.history
    record = {
        "task": arguments.task,
        "prior": arguments.prior,
        "seed": arguments.seed,
        "train_rows": rows,
        "hold_out": arguments.hold_out,
        "test_rows": len(data["x_test"]),
        "warm_start": task.warm_start,
        "seconds": seconds,
        "elbo_per_image": float(history.elbo[-1]) / rows,
        "log_likelihood_per_image": history.log_likelihood[-1] / rows,
        **evaluated(result, data, {name: ready(images) for name, images in foreign.items()}),
        "network": result.model.to_config(),
        "machine": machine(str(next(result.guide.parameters()).device)),
        **course(first, rows),
        "fine_tuning": course(tuned, rows) if tuned else None,
    }
    if arguments.repeats and not result.collapsed:
        table = pruning_latency(
            *(result.model, result.guide),
            num_draws=DRAWS,
            batch_sizes=BATCH_SIZES,
            repeats=arguments.repeats,
        )
        record["latency"] = table.to_dict("records")
    return result, record


def print_row(record: dict[str, Any]) -> None:
    """The row for the table."""
    if record["collapsed"]:
        print(f"collapsed: no node of {', '.join(record['collapsed'])} is active")
        return
    kept = "-".join(str(v) for name, v in record["nodes_kept"].items() if name != "output")
    print(
        "| task | prior | seed | accuracy, pruned | mean | posterior | nodes | weights | MACs | ELBO | min |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    kinds = ("pruned_draws", "pruned_mean", "posterior")
    accuracies = " | ".join(f"{100 * record[kind]['accuracy']:.2f} %" for kind in kinds)
    print(
        f"| {record['task']} | {record['prior']} | {record['seed']} | {accuracies} | {kept}"
        f" | {100 * record['weights_ratio']:.2f} % | {100 * record['multiply_adds_ratio']:.2f} %"
        f" | {record['elbo_per_image']:.3f} | {record['seconds'] / 60:.1f} |"
    )


def main() -> None:
    """Run one row, print it, write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument("--prior", default="ss-ghs", choices=PRIORS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, required=True, help="folder of the task's data set")
    parser.add_argument(
        "--other-data", type=Path, help="the other data set's folder: more foreign images"
    )
    parser.add_argument("--epochs", type=int, help="by default the task's")
    parser.add_argument("--train-rows", type=int, help="by default the task's: all, or a subset")
    parser.add_argument("--test-rows", type=int, help="by default the task's")
    parser.add_argument(
        "--hold-out",
        type=int,
        default=0,
        help="so many training images, the last, instead of the test half: for choosing settings",
    )
    parser.add_argument(
        "--warm-start",
        type=int,
        help="epochs of the deterministic network before, by default the task's",
    )
    parser.add_argument("--repeats", type=int, default=20, help="of the latencies; 0 for none")
    parser.add_argument("--threads", type=int, help="torch threads, by default all cores")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--save", type=Path, help="write the fit here (safetensors)")
    parser.add_argument("--plots", type=Path, help="folder for the plots of inclusion and training")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    result, record = run(arguments)
    print_row(record)
    if arguments.save:
        ss.save_fit(result, arguments.save)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_text(arguments.json, json.dumps(record, indent=1) + "\n")
    if arguments.plots:
        from reproduce_plots import draw_fit

        draw_fit(result, arguments.plots, f"{arguments.task}_{arguments.prior}_{arguments.seed}")


if __name__ == "__main__":
    main()
