"""``pyro-ssbnn export``: a run's pruned network for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyro_ssbnn.cli import options as o
from pyro_ssbnn.cli.console import results
from pyro_ssbnn.cli.kinds import Precision
from pyro_ssbnn.cli.run_folder import RunFolder
from pyro_ssbnn.cli.typed import check_suffix

__all__ = ["export"]


def export(
    run: o.Run,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write (.onnx). Default: RUN/compact.onnx.", show_default=False),
    ] = None,
    draws: Annotated[
        int | None,
        o.counted(
            o.MOST_DRAWS,
            "Keep so many posterior draws of the weights, [draws, batch, outputs]. Default: the pruned network as it"
            " is.",
        ),
    ] = None,
    dtype: Annotated[
        Precision | None,
        typer.Option(
            metavar="float32|float64",
            help="Precision of inputs, weights and outputs. Default: the run's.",
        ),
    ] = None,
) -> None:
    """Write the pruned network (RUN's own) as an ONNX file, checked in onnxruntime.

    Input x: all original predictors, scaled as in training, any number of rows. Output f: what the likelihood takes,
    before softmax, sigmoid or exponential. How x and the target are scaled, and the names and indices of what is kept,
    stand in the file's metadata.
    """
    check_suffix(out, ".onnx")
    folder = RunFolder(run)
    folder.read_config()
    from pyro_ssbnn.files.export import export_onnx
    from pyro_ssbnn.inference.options import resolve_dtype
    from pyro_ssbnn.selection import prune

    config, result, _ = folder.load()
    network, model = folder.load_compact(), result.model
    if draws is not None:
        selection = folder.load_selection(model)
        seed = config["seed"]
        network = prune(model, result.guide, selection, num_draws=draws, seed=seed).network
    if dtype is not None:
        network = network.to(resolve_dtype(dtype.value))
    notes = {"fit": config["network"], "preprocessing": config["preprocessing"]}
    target = folder.onnx_file if out is None else out
    done = export_onnx(network, target, model.description.inputs.num_columns, notes=notes)
    results.print(
        f"Pruned network written to [bold]{target}[/]; onnxruntime's outputs differ by at most"
        f" {done.largest_difference:.1e}",
        soft_wrap=True,
    )
