"""Plot of ``benchmarks/selection.py``: real predictors found and false ones selected, data set by data set.

python benchmarks/selection_plots.py benchmarks/results/selection.json --out docs
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from pyro_ssbnn.analysis.plots.style import COLOURS, MARKERS

__all__ = ["draw_selection"]

_REAL = 5


def draw_selection(results: Mapping[str, Mapping]) -> plt.Figure:
    """Real predictors found, and false ones, a row a method and rule, a mark a data set, a colour a sample size.

    :param results: records of ``benchmarks/selection.py``.
    """
    rules = list(
        dict.fromkeys((r["method"], rule) for r in results.values() for rule in r["rules"])
    )
    sizes = sorted({r["n"] for r in results.values()}, reverse=True)
    figure, (found, false) = plt.subplots(
        1, 2, figsize=(9, 0.55 * len(rules) + 1.6), layout="constrained", sharey=True
    )
    generator = np.random.default_rng(0)
    for at, (n, colour, marker) in enumerate(zip(sizes, COLOURS, MARKERS, strict=False)):
        shift = 0.2 * (2 * at - len(sizes) + 1)
        for row, (method, rule) in enumerate(rules):
            records = [r for r in results.values() if (r["n"], r["method"]) == (n, method)]
            sets = [r["rules"][rule]["selected"] for r in records]
            hits = np.array([sum(j < _REAL for j in s) for s in sets])
            misses = np.array([sum(j >= _REAL for j in s) for s in sets])
            label = f"n = {n:,}" if row == 0 else None
            style = {"color": colour, "marker": marker, "alpha": 0.6, "s": 22, "linewidth": 0}
            height = row + shift + generator.uniform(-0.1, 0.1, len(sets))
            aside = generator.uniform(-0.06, 0.06, len(sets))  # equal counts stay apart
            found.scatter(hits + aside, height, label=label, **style)
            false.scatter(misses * (1 + aside), height, **style)
    found.set(
        xlabel=f"real predictors found, of {_REAL}",
        xlim=(-0.3, _REAL + 0.3),
        yticks=range(len(rules)),
        yticklabels=[f"{method}: {rule}" for method, rule in rules],
    )
    found.invert_yaxis()
    false.set_xscale("symlog", linthresh=1)
    false.set(xlabel="false ones selected (logarithmic above 1)", xlim=(-0.15, None))
    for ax in (found, false):
        ax.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=len(sizes), frameon=False)
    return figure


def main() -> None:
    """Read the file and write ``selection.png``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="JSON file of selection.py")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    figure = draw_selection(json.loads(arguments.file.read_text()))
    figure.savefig(arguments.out / "selection.png", dpi=120)


if __name__ == "__main__":
    main()
