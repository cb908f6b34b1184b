"""Plot of ``benchmarks/contraction.py``: distance to the truth, error of the mean, and size, against n.

python benchmarks/contraction_plots.py benchmarks/results/contraction.json --out docs
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from contraction import PREDICTORS, PRIORS, REAL, STUDENT, TEACHER, theory_curve
from matplotlib.axes import Axes

from pyro_ssbnn.analysis.plots.style import COLOURS, MARKERS, MUTED

__all__ = ["draw_contraction"]


def draw_contraction(results: Mapping[str, Mapping]) -> plt.Figure:
    """Four panels over n: the posterior's distance to the truth, the error of its mean, nodes, predictors.

    A mark is a fit, a line the mean over the seeds. The theory's scale and the parametric rate pass through the mean
    distance (error) of all priors at the middle n: their levels mean nothing.

    :param results: records of ``benchmarks/contraction.py``.
    """
    figure, panels = plt.subplots(1, 4, figsize=(15, 3.9), layout="constrained")
    distance, error, nodes, predictors = panels
    rows = sorted({r["n"] for r in results.values()})
    for prior, colour, marker in zip(PRIORS, COLOURS, MARKERS, strict=False):
        fits = [r for r in results.values() if r["prior"] == prior]
        style = {"color": colour, "marker": marker}
        for ax, key in ((distance, "distance"), (error, "rmse"), (nodes, "nodes")):
            _marks_and_mean(ax, fits, key, prior.upper(), style)
        _marks_and_mean(predictors, fits, "predictors_found", prior.upper(), style)
        _marks_and_mean(predictors, fits, "predictors_false", None, {**style, "linestyle": ":"})
    for ax, key in ((distance, "distance"), (error, "rmse")):
        anchor = rows[len(rows) // 2]
        level = float(
            np.exp(np.mean([np.log(r[key]) for r in results.values() if r["n"] == anchor]))
        )
        theory = theory_curve(rows, TEACHER, anchor, level)
        parametric = level * np.sqrt(anchor / np.array(rows))
        ax.plot(rows, theory, color="black", linestyle="--", linewidth=1, label="theory's scale")
        ax.plot(rows, parametric, color=MUTED, linestyle="-.", linewidth=1.2, label="$n^{-1/2}$")
        ax.set_yscale("log")
    distance.set(title="posterior's distance to the truth", ylabel="root of expected squared L2")
    error.set(title="error of the posterior mean", ylabel="RMSE to the noiseless truth")
    nodes.axhline(TEACHER, color="black", linewidth=1, linestyle="--", label="teacher")
    nodes.set(
        title=f"active nodes of {STUDENT}", ylabel="posterior expected number", ylim=(0, None)
    )
    predictors.set(
        title="predictors: found (line), false (dots)",
        ylabel="selected (inclusion above 1/2)",
        ylim=(-0.3, PREDICTORS - REAL + 0.3),
    )
    predictors.axhline(REAL, color="black", linewidth=1, linestyle="--", label="real ones")
    for ax in panels:
        ax.set_xscale("log")
        ax.set_xlabel("observations n")
        ax.grid(alpha=0.3, which="both")
        ax.legend(frameon=False, fontsize="small")
    return figure


def _marks_and_mean(
    ax: Axes, fits: list[Mapping], key: str, label: str | None, style: dict
) -> None:
    rows = sorted({r["n"] for r in fits})
    values = [[r[key] for r in fits if r["n"] == n] for n in rows]
    marks = {k: v for k, v in style.items() if k != "linestyle"}
    for n, each in zip(rows, values, strict=True):
        ax.scatter([n] * len(each), each, s=14, alpha=0.5, linewidth=0, **marks)
    line = {k: v for k, v in style.items() if k != "marker"}
    ax.plot(rows, [np.mean(each) for each in values], label=label, linewidth=1.4, **line)


def main() -> None:
    """Read the file and write ``contraction.png``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="JSON file of contraction.py")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    figure = draw_contraction(json.loads(arguments.file.read_text()))
    figure.savefig(arguments.out / "contraction.png", dpi=120)


if __name__ == "__main__":
    main()
