"""The two plots of ``benchmarks/speed.py``: cost against width, and cost and bound against training progress."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

__all__ = ["draw"]


def draw(results: dict, folder: Path) -> None:
    """Write ``performance_width.png`` and, where there are runs, ``performance_training.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    figure = draw_width(results["steps"])
    figure.savefig(folder / "performance_width.png", dpi=150)
    if results["runs"]:
        draw_training(results["runs"]).savefig(folder / "performance_training.png", dpi=150)


def draw_width(steps: list[dict]) -> plt.Figure:
    """Milliseconds of a step at batch 128 against the width of the hidden layers."""
    small = sorted((s for s in steps if s["batch"] == 128), key=lambda s: s["width"])
    names = [n for n in small[0]["median_ms"] if all(n in s["median_ms"] for s in small)]
    figure, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    widths = [s["width"] for s in small]
    for name in names:
        values = [s["median_ms"][name] for s in small]
        style = {"dense": ":", "hand-written": "-.", "stock Pyro": "--"}.get(name, "-")
        ax.plot(widths, values, style, marker="o", markersize=3, label=name)
    ax.set(xscale="log", yscale="log", xlabel="width H of 784-H-H-10", ylabel="ms a step")
    ax.set_xticks(widths, [str(w) for w in widths])
    ax.minorticks_off()
    ax.set_title("Cost of a training step, batch 128, SS-GHS", loc="left")
    ax.legend(frameon=False)
    return figure


def draw_training(runs: dict) -> plt.Figure:
    """Cost of each epoch beside the deterministic network's, nodes left, and the bound against time."""
    figure, panels = plt.subplots(3, 1, figsize=(6.4, 8.0), layout="constrained")
    for colour, (name, run) in zip(("C0", "C1"), runs.items(), strict=False):
        clock = np.asarray(run["clock"])
        epochs = np.arange(1, len(clock) + 1)
        panels[0].plot(epochs, np.diff(clock, prepend=0.0), color=colour, label=name)
        active = sum(np.asarray(v) for v in run["active"].values())
        panels[1].plot(epochs, active, color=colour, label=name)
        panels[2].plot(clock, run["elbo"], color=colour, label=name)
    dense = next(iter(runs.values()))["dense_epoch_seconds"]
    for style, (batch, seconds) in zip((":", "--"), dense.items(), strict=False):
        label = f"deterministic network, batch {batch}"
        panels[0].axhline(seconds, color="0.4", linestyle=style, label=label)
    panels[0].set(yscale="log", xlabel="epoch", ylabel="seconds an epoch")
    panels[1].set(yscale="log", xlabel="epoch", ylabel="active nodes (of 800)")
    ticks = [25, 50, 100, 200, 400, 800]
    panels[1].set_yticks(ticks, [str(tick) for tick in ticks])
    panels[1].minorticks_off()
    panels[2].set(xlabel="seconds", ylabel="ELBO per image, nats", ylim=(-0.6, -0.2))
    titles = (
        "Cost of an epoch (peaks: compilation, other work)",
        "Nodes with inclusion above 1/2",
        "The bound against time",
    )
    for panel, title in zip(panels, titles, strict=True):
        panel.set_title(title, loc="left")
        panel.legend(frameon=False)
    return figure
