"""How long the forward pass takes by batch size, network beside network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from pyro_ssbnn.analysis.plots.style import COLOURS, MARKERS, MUTED, single_axes
from pyro_ssbnn.errors import DataError

__all__ = ["plot_latency"]

_COLUMNS = (
    *("network", "batch_size", "median_ms", "q10_ms", "q90_ms", "reference", "speedup"),
    *("threads", "device", "dtype"),
)
_LINES = ("-", "--", ":", "-.")
_FIRST_LINE, _LINE = 18, 12  # points below the axis, and between lines there


def plot_latency(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Draw the median time of a forward pass against its rows, both logarithmic; bars are the 10 to 90 % quantiles.

    References are grey; what is compared with one is coloured, in the same kind of line, and says in its colour, below
    the batch sizes, how many times as fast it is.

    :param table: of :func:`~pyro_ssbnn.analysis.measure_latency` or :func:`~pyro_ssbnn.analysis.pruning_latency`.
    :raises DataError: when columns are missing, or there is no row.
    """
    missing = [name for name in _COLUMNS if name not in table]
    if missing or table.empty:
        what = f"lacks the columns {', '.join(missing)}" if missing else "has no rows"
        raise DataError(f"plot_latency: the table {what}. Give it as measure_latency() made it.")
    ax = single_axes(ax, (7.2, 4.8))
    styles = zip(cycle(_LINES), cycle(MARKERS), cycle(COLOURS), strict=False)
    families = dict(zip(table["reference"].unique(), styles, strict=False))
    compared = 0
    for name, rows in table.groupby("network", sort=False):
        reference = rows["reference"].iloc[0]
        line, marker, colour = families[reference]
        own = name == reference
        _draw_network(ax, rows, str(name), (line, marker, MUTED if own else colour))
        if not own:
            _write_speedups(ax, rows, colour, compared)
            compared += 1
    _scale(ax, sorted(table["batch_size"].unique()))
    told = "rows in a batch" + ("; below, how many times as fast" if compared else "")
    ax.set_xlabel(told, labelpad=4 + _LINE * compared)
    ax.set_title(f"latency of the forward pass ({_conditions(table)})")
    ax.legend(loc="upper left", fontsize="small", frameon=False)
    return ax


def _draw_network(ax: Axes, rows: pd.DataFrame, label: str, style: tuple[str, str, str]) -> None:
    line, marker, colour = style
    middle = rows["median_ms"]
    ax.errorbar(
        rows["batch_size"],
        middle,
        yerr=[middle - rows["q10_ms"], rows["q90_ms"] - middle],
        label=label,
        linestyle=line,
        marker=marker,
        color=colour,
        markersize=5,
        capsize=3,
    )


def _write_speedups(ax: Axes, rows: pd.DataFrame, colour: str, line: int) -> None:
    """How many times as fast as its reference it is, below the batch sizes, a line for each network."""
    for size, speedup in zip(rows["batch_size"], rows["speedup"], strict=True):
        ax.annotate(
            f"{speedup:.1f}×" if speedup < 9.95 else f"{speedup:.0f}×",
            (size, 0),
            xycoords=("data", "axes fraction"),
            xytext=(0, -_FIRST_LINE - _LINE * line),
            textcoords="offset points",
            ha="center",
            va="top",
            color=colour,
            fontsize="small",
        )


def _scale(ax: Axes, sizes: Sequence[int]) -> None:
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.xaxis.set_major_locator(FixedLocator([float(size) for size in sizes]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda time, _: f"{time:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    low, high = ax.get_ylim()
    ratio = high / low
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if ratio < 100 else (1,)))
    ax.set_ylim(low / ratio**0.03, high * ratio**0.32)  # the legend is above
    low, high = ax.get_xlim()
    ax.set_xlim(low / 1.4, high * 1.4)
    ax.grid(axis="y", color="#E4E4E4", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_ylabel("milliseconds a batch: median, 10 to 90 %")


def _conditions(table: pd.DataFrame) -> str:
    """Device, precision and CPU threads, in words."""
    devices, types = (", ".join(map(str, table[k].unique())) for k in ("device", "dtype"))
    threads = int(table["threads"].iloc[0])
    return f"{devices}, {types}, {threads} CPU thread{'' if threads == 1 else 's'}"
