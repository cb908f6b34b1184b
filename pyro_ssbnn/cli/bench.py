"""``pyro-ssbnn bench``: how fast a run's networks are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyro_ssbnn.cli import options as o
from pyro_ssbnn.cli.console import messages, print_table, results
from pyro_ssbnn.cli.run_folder import RunFolder
from pyro_ssbnn.cli.typed import check_suffix, numbers

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["bench"]


def bench(
    run: o.Run,
    batch_sizes: Annotated[
        str, typer.Option(metavar="1,32,1024", help="Rows of a forward pass, each a batch size.")
    ] = "1,32,1024",
    draws: Annotated[
        int,
        typer.Option(
            min=1, max=o.MOST_DRAWS, help="Posterior draws of the networks that keep draws."
        ),
    ] = 10,
    threads: Annotated[
        int | None, o.counted(o.MOST_THREADS, "CPU threads. Default: torch's own choice.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where to time: cpu, cuda, ..., or auto (CUDA where there is one).")
    ] = "cpu",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Table to write (.csv), the plot beside it (.png). Default: RUN/latency.csv and"
            " RUN/plots/latency.png.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Time the forward pass: the whole network against the pruned one (RUN's own), posterior mean and draws.

    The networks take turns, after a warm-up; the table has the median of a batch and its 10 and 90 % quantiles.
    """
    sizes = numbers("--batch-sizes", batch_sizes, int, "whole numbers such as 1,32,1024")
    check_suffix(out, ".csv")
    folder = RunFolder(run)
    folder.read_config()
    from pyro_ssbnn.analysis import pruning_latency
    from pyro_ssbnn.cli.pictures import draw_latency
    from pyro_ssbnn.files.atomic import write_text

    config, result, _ = folder.load()
    selection = folder.load_selection(result.model)
    messages.print("Timing ...", style="dim")
    table = pruning_latency(
        result.model,
        result.guide,
        selection,
        num_draws=draws,
        seed=config["seed"],
        batch_sizes=sizes,
        threads=threads,
        device=device,
    )
    target = folder.latency_file if out is None else out
    picture = folder.plots / "latency.png" if out is None else out.with_suffix(".png")
    write_text(target, table.to_csv(index=False))
    draw_latency(table, picture)
    _print(table)
    results.print(f"Written to [bold]{target}[/] and [bold]{picture}[/]", soft_wrap=True)


def _print(table: pd.DataFrame) -> None:
    """Print times of the forward pass, batch size by batch size."""
    shown = table.set_index("network")
    own = shown.index == shown["reference"]
    shown["rows_per_second"] = shown["rows_per_second"].round().astype(int)
    shown["speedup"] = shown["speedup"].map("{:.1f} x".format).mask(own, "1")
    headers = {
        "": "network",
        "batch_size": "rows",
        "median_ms": "ms",
        "q10_ms": "10 %",
        "q90_ms": "90 %",
        "rows_per_second": "rows/s",
        "speedup": "speed-up",
    }
    first = table.iloc[0]
    threads = f"{first['threads']} CPU thread{'' if first['threads'] == 1 else 's'}"
    note = (
        f"{first['device']}, {first['dtype']}, {threads}; ms: median of a batch, with 10 and 90 % quantiles; speed-up:"
        " mean against mean, draws against draws"
    )
    print_table("Latency of the forward pass", shown, headers, note)
