"""``pyro-ssbnn finish``: what could not be made of a fit, made now."""

from __future__ import annotations

import typer

from pyro_ssbnn.cli import options as o
from pyro_ssbnn.cli.console import results
from pyro_ssbnn.cli.run_folder import RunFolder

__all__ = ["finish"]


def finish(run: o.Run) -> None:
    """Make what is missing of a trained run: scores, draws, the pruned network, plots; the fit stays as it is.

    'fit' saves the fit before it makes anything of it. Where that was interrupted, or the disk was full, this goes on;
    a run that is not trained to its end goes on with 'fit --resume'.
    """
    folder = RunFolder(run)
    folder.read_config()
    if folder.state is None:
        results.print(f"{run}: this run is complete.", markup=False, soft_wrap=True)
        return
    from pyro_ssbnn.cli.completion import finish_run
    from pyro_ssbnn.cli.lifecycle import occupying

    with occupying(run) as folder:
        raise typer.Exit(finish_run(folder))
