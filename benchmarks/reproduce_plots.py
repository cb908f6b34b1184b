"""Plots of ``benchmarks/reproduce.py``: of one fit, and accuracy against nodes over the JSON files of many.

python benchmarks/reproduce_plots.py benchmarks/results/*-mnist_*.json --out docs
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt

import pyro_ssbnn as ss
from pyro_ssbnn.analysis.plots import plot_elbo, plot_inclusion, plot_inclusion_history
from pyro_ssbnn.analysis.plots.style import COLOURS, MARKERS

__all__ = ["draw_accuracy", "draw_fit"]

# Nodes left and test accuracy at the end of the authors' logs; they report shares of weights, not nodes, for ResNets.
PUBLISHED = {
    ("mlp-mnist", "ss-ghs"): (25 + 15, 97.30),
    ("mlp-mnist", "ss-ig"): (68 + 40, 96.86),
    ("lenet-mnist", "ss-gl"): (9 + 11 + 13 + 16, 98.84),
    ("lenet-mnist", "ss-ghs"): (14 + 7 + 13 + 15, 98.98),
    ("lenet-mnist", "ss-ig"): (17 + 5 + 17 + 20, 98.67),
}


def draw_fit(result: ss.Fit, folder: Path, name: str) -> None:
    """Inclusion of every filter and node, and the course of bound and inclusion, as ``{plot}_{name}.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = {
        "inclusion": lambda: plot_inclusion(result.guide)[0],
        "training": lambda: plot_elbo(result.history)[0],
        "nodes": lambda: plot_inclusion_history(result.history)[0],
    }
    for kind, plot in plots.items():
        figure = plot().figure
        figure.savefig(folder / f"{kind}_{name}.png", dpi=120)
        plt.close(figure)


def draw_accuracy(records: list[dict]) -> plt.Figure:
    """Test accuracy of the pruned networks (10 draws) against nodes kept, a panel a task; hollow: published."""
    tasks = sorted({r["task"] for r in records})
    priors = sorted({r["prior"] for r in records})
    figure, panels = plt.subplots(
        1, len(tasks), figsize=(4.6 * len(tasks), 3.8), layout="constrained", squeeze=False
    )
    for ax, task in zip(panels[0], tasks, strict=True):
        for prior, colour, marker in zip(priors, COLOURS, MARKERS, strict=False):
            runs = [r for r in records if (r["task"], r["prior"]) == (task, prior)]
            nodes = [sum(v for k, v in r["nodes_kept"].items() if k != "output") for r in runs]
            accuracy = [100 * r["pruned_draws"]["accuracy"] for r in runs]
            style = {"color": colour, "marker": marker, "zorder": 3}
            if runs:
                ax.scatter(nodes, accuracy, label=prior.upper(), **style)
            if (task, prior) in PUBLISHED:
                label = f"{prior.upper()}, published"
                ax.scatter(*PUBLISHED[task, prior], label=label, facecolors="none", **style)
        ax.set(title=task, xlabel="filters and nodes kept", ylabel="test accuracy, %")
        ax.grid(alpha=0.3)
        ax.legend(frameon=False)
    return figure


def main() -> None:
    """Read the files and write ``accuracy_nodes.png``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="+", help="JSON files of reproduce.py")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    arguments = parser.parse_args()
    records = [json.loads(file.read_text()) for file in arguments.files]
    arguments.out.mkdir(parents=True, exist_ok=True)
    tested = [r for r in records if not r["collapsed"] and not r.get("hold_out")]
    figure = draw_accuracy(tested)
    figure.savefig(arguments.out / "accuracy_nodes.png", dpi=120)


if __name__ == "__main__":
    main()
