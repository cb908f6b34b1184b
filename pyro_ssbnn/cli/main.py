"""The app behind ``pyro-ssbnn``: its commands and ``--version``."""

from __future__ import annotations

from typing import Annotated

import typer

from pyro_ssbnn._version import __version__
from pyro_ssbnn.cli.bench import bench
from pyro_ssbnn.cli.compress import compress
from pyro_ssbnn.cli.deploy import predict, prune
from pyro_ssbnn.cli.diagnose import diagnose
from pyro_ssbnn.cli.effects import effects
from pyro_ssbnn.cli.export import export
from pyro_ssbnn.cli.finish import finish
from pyro_ssbnn.cli.fit import fit
from pyro_ssbnn.cli.inspect import plot, summary
from pyro_ssbnn.cli.report import report
from pyro_ssbnn.cli.reporting import reported

__all__ = ["app"]

app = typer.Typer(
    name="pyro-ssbnn",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,  # --debug shows the plain traceback
)
_COMMANDS = (
    *(fit, finish, summary, report, plot, effects, diagnose),
    *(prune, predict, bench, export, compress),
)
for _command in _COMMANDS:
    app.command(no_args_is_help=True)(reported(_command))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pyro-ssbnn {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Structurally sparse Bayesian neural networks: which nodes, and which predictors, do the data need?

    A typical session:

        pyro-ssbnn fit table.csv --target price --out runs/price

        pyro-ssbnn summary runs/price

        pyro-ssbnn report runs/price

        pyro-ssbnn predict runs/price new.csv --out predictions.csv
    """
