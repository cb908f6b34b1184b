"""Tables and plots of ``benchmarks/trust.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from trust_problems import GUIDES, KINDS

from pyro_ssbnn.analysis.plots.style import COLOURS, MARKERS

MIXED = 1.05  # R-hat above which an exact answer is called not converged


def comparison(record: dict, guide: str) -> dict[str, float]:
    """Distances of one guide's answer from the exact one of a data set."""
    exact, other = record["exact"], record[guide]
    sizes = [
        0.5 * np.abs(np.subtract(p, other["sizes"][name])).sum()
        for name, p in exact["sizes"].items()
    ]
    deviation = np.asarray(exact["predictive_sd"])
    variance = (np.asarray(other["predictive_sd"]) / deviation) ** 2
    shift = (np.asarray(other["mean"]) - np.asarray(exact["mean"])) / deviation
    ratio = np.asarray(other["epistemic_sd"]) / np.asarray(exact["epistemic_sd"])
    return {
        "size": float(max(sizes)),
        "inclusion": float(np.abs(np.subtract(exact["inclusion"], other["inclusion"])).mean()),
        "mean": float(np.sqrt((shift**2).mean())),
        "variance": float(variance.mean()),
        "epistemic": float(np.median(ratio)),
        "coverage": other["coverage"],
    }


def pieces(results: dict) -> dict[str, list[dict]]:
    """The comparisons among the results, by case and prior."""
    return {name: r for name, r in results.items() if name.partition(" ")[0] in KINDS}


def worst_r_hat(records: list[dict]) -> tuple[float, str]:
    """Largest R-hat of a piece, and of what."""
    return max((v, k) for record in records for k, v in record["exact"]["r_hat"].items() if v == v)


def print_report(results: dict) -> None:
    """Print all tables as markdown."""
    found = pieces(results)
    if found:
        _print_comparisons(found)
        _print_inclusion(found)
        _print_coverage(found)
    if "closed-form" in results:
        print(
            "\n| case | largest difference | total variation | models above 0.001 | their mass | largest z"
            " | z above 2 | R-hat |"
            "\n|---|---|---|---|---|---|---|---|"
        )
        for case, row in results["closed-form"].items():
            print(
                f"| {case} | {row['largest difference']:.4f} | {row['total variation']:.4f} | {row['models']} |"
                f" {row['mass']:.4f} | {row['largest z']:.2f} | {row['above 2']} | {row['r_hat']:.3f} |"
            )
    if "cost" in results:
        print(
            "\n| ms a step | "
            + " | ".join(next(iter(results["cost"].values())))
            + " |\n|---|---|---|---|"
        )
        for case, row in results["cost"].items():
            print(f"| {case} | " + " | ".join(f"{value:.2f}" for value in row.values()) + " |")


def _print_comparisons(found: dict[str, list[dict]]) -> None:
    print(
        "| case, prior | guide | inclusion | number active (TV) | mean | variance | epistemic sd | coverage | exact:"
        " coverage | error of inclusion | R-hat |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    for name, records in found.items():
        rhat, what = worst_r_hat(records)
        mixed = f"{rhat:.3f}" + ("" if rhat < MIXED else f" ({what}): **not converged**")
        error = max(max(r["exact"]["inclusion_error"]) for r in records)
        covered = np.mean([r["exact"]["coverage"] for r in records])
        for guide in GUIDES:
            rows = [comparison(record, guide) for record in records]
            row = {key: np.mean([r[key] for r in rows]) for key in rows[0]}
            print(
                f"| {name} | {guide} | {row['inclusion']:.3f} | {row['size']:.3f} | {row['mean']:.3f} |"
                f" {row['variance']:.3f} | {row['epistemic']:.2f} | {100 * row['coverage']:.1f} % |"
                f" {100 * covered:.1f} % | {error:.3f} | {mixed} |"
            )


def inclusion_pairs(found: dict[str, list[dict]], guide: str) -> dict[str, np.ndarray]:
    """Exact and variational inclusion, ``[2, pairs]``, by kind of predictor; networks are kinds of their own."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for name, records in found.items():
        case = name.partition(" ")[0]
        for record in records:
            both = zip(record["exact"]["inclusion"], record[guide]["inclusion"], strict=True)
            for kind, pair in zip(KINDS[case], both, strict=True):
                label = f"{kind} (network)" if case == "network" else kind
                pairs.setdefault(label, []).append(pair)
    return {kind: np.asarray(values).T for kind, values in pairs.items()}


def _print_inclusion(found: dict[str, list[dict]]) -> None:
    print(
        "\n| predictors | pairs | guide | mean abs. difference | mean difference | largest | beyond 0.5 on the wrong"
        " side |\n|---|---|---|---|---|---|---|"
    )
    for guide in GUIDES:
        for kind, (exact, other) in inclusion_pairs(found, guide).items():
            gap = other - exact
            wrong = int(((exact > 0.5) != (other > 0.5)).sum())
            print(
                f"| {kind} | {len(gap)} | {guide} | {np.abs(gap).mean():.3f} | {gap.mean():+.3f} |"
                f" {np.abs(gap).max():.3f} | {wrong} |"
            )


def _print_coverage(found: dict[str, list[dict]]) -> None:
    print(
        "\n| coverage of 95 % intervals | mean | standard error over data sets | lowest, highest piece |"
        "\n|---|---|---|---|"
    )
    for answer in ("exact", *GUIDES):
        # Priors share data sets: average over them first.
        by_set: dict[tuple[str, int], list[float]] = {}
        by_piece = []
        for name, records in found.items():
            by_piece.append(np.mean([r[answer]["coverage"] for r in records]))
            for index, record in enumerate(records):
                key = (name.partition(" ")[0], index)
                by_set.setdefault(key, []).append(record[answer]["coverage"])
        values = np.array([np.mean(v) for v in by_set.values()])
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        print(
            f"| {answer} | {100 * values.mean():.1f} % | {100 * error:.1f} % |"
            f" {100 * min(by_piece):.1f} %, {100 * max(by_piece):.1f} % |"
        )


def save_plots(results: dict, folder: Path) -> None:
    """Write ``trust_inclusion.png`` and ``trust_predictive.png``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    found = pieces(results)
    titles = {
        "default": "default guide",
        "cooled": "default guide, cooled gates",
        "matched": "default guide, coupled's budget",
        "coupled": "coupled guide",
    }
    figure, axes = plt.subplots(
        1, len(GUIDES), figsize=(13, 4.2), layout="constrained", sharex=True, sharey=True
    )
    for axis, guide in zip(axes, GUIDES, strict=True):
        axis.plot([0, 1], [0, 1], color="0.6", lw=1, zorder=0)
        axis.fill_between([0, 1], [-0.05, 0.95], [0.05, 1.05], color="0.92", zorder=-1)
        for index, (kind, (exact, other)) in enumerate(inclusion_pairs(found, guide).items()):
            axis.plot(
                exact,
                other,
                MARKERS[index],
                color=COLOURS[index],
                ms=5,
                alpha=0.75,
                mec="none",
                label=kind,
            )
        axis.set(
            title=titles[guide], xlabel="exact inclusion", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03)
        )
        axis.set_aspect("equal")
    axes[0].set_ylabel("variational inclusion")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(folder / "trust_inclusion.png", dpi=130)
    figure, axes = plt.subplots(
        1, len(GUIDES), figsize=(13, 4.2), layout="constrained", sharex=True, sharey=True
    )
    cases = list(dict.fromkeys(name.partition(" ")[0] for name in found))
    for axis, guide in zip(axes, GUIDES, strict=True):
        axis.plot([0, 2], [0, 2], color="0.6", lw=1, zorder=0)
        for name, records in found.items():
            index = cases.index(name.partition(" ")[0])
            for record in records:
                pair = (record["exact"]["epistemic_sd"][:40], record[guide]["epistemic_sd"][:40])
                first = name == next(n for n in found if n.startswith(cases[index]))
                label = cases[index] if first and record is records[0] else None
                axis.plot(
                    *pair, ".", color=COLOURS[index], ms=3, alpha=0.5, mec="none", label=label
                )
        axis.set(title=titles[guide], xlabel="exact sd of the mean", xlim=(0, 1), ylim=(0, 1))
        axis.set_aspect("equal")
    axes[0].set_ylabel("variational sd of the mean")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, markerscale=3
    )
    figure.savefig(folder / "trust_predictive.png", dpi=130)
    plt.close("all")
