"""From a saved fit to a finished run: what is made of it, what was found, what is missing."""

from __future__ import annotations

import logging
import shlex

from rich.markup import escape

from pyro_ssbnn.cli.announcing import SMALL
from pyro_ssbnn.cli.console import messages, results
from pyro_ssbnn.cli.lifecycle import complete, leftovers, update
from pyro_ssbnn.cli.members import clear_members
from pyro_ssbnn.cli.products import Making, make
from pyro_ssbnn.cli.report import run_results
from pyro_ssbnn.cli.reporting import INCOMPLETE
from pyro_ssbnn.cli.run_folder import RunFolder, finish_command
from pyro_ssbnn.cli.sources import load_again
from pyro_ssbnn.cli.tables import print_fits, print_layers, print_metrics
from pyro_ssbnn.isolation import limited_to
from pyro_ssbnn.results.findings import findings

__all__ = ["finish", "finish_run"]

_log = logging.getLogger(__name__)


def finish_run(folder: RunFolder) -> int:
    """Make of a held run's fit what is not made yet.

    :returns: the exit code.
    """
    config, answer, preprocessing = folder.load_answer()
    clear_members(folder)
    source, seed = config["source"], config["seed"]
    making = Making(
        folder, answer, preprocessing, config["draws"], lambda: load_again(source, seed)
    )
    return finish(making)


def finish(making: Making) -> int:
    """Make what is not there, print what was found, and say what is missing.

    :returns: the exit code.
    """
    folder = making.folder
    messages.print("Drawing from the posterior, scoring, plotting ...", style="dim")
    multiply_adds = making.answer.model.description.multiply_adds
    try:
        with limited_to(1 if multiply_adds < SMALL else None):
            failed = make(making, (folder.state or {}).get("failed", {}))
    except KeyboardInterrupt as stopped:
        raise KeyboardInterrupt(
            f"the fit is saved in {folder.path}. The rest: {finish_command(folder.path)}"
        ) from stopped
    print_fits(making.answer)
    print_layers(making.answer.guide)
    if folder.metrics_file.exists():
        print_metrics(folder.read_metrics())
    rubbish = leftovers(folder.path)
    if rubbish:
        messages.print(f"Left behind by a killed process: {rubbish}", markup=False, soft_wrap=True)
    if failed:
        try:
            update(folder, trained=True, failed=failed)
        except OSError:  # no room even for that: it says that the run is unfinished, all the same
            _log.warning("%s: cannot be brought up to date", folder.state_file)
        messages.print(
            f"[bold yellow]Incomplete:[/] the fit is saved in {folder.path}; {', '.join(failed)}"
            f" {'is' if len(failed) == 1 else 'are'} missing. Try again: {finish_command(folder.path)}",
            soft_wrap=True,
        )
        return INCOMPLETE
    done = RunFolder(complete(folder))
    results.print(f"Run written to [bold]{done.path}[/]", soft_wrap=True)
    _conclude(done, making)
    return 0


def _conclude(folder: RunFolder, making: Making) -> None:
    """Say what was found, and what to look at next."""
    found = run_results(folder, folder.read_config(), making.answer, making.preprocessing)
    results.print()
    for i, sentence in enumerate(findings(found)):
        results.print(
            f"{'[bold]Found[/]   ' if i == 0 else ' ' * 8} {escape(sentence)}", soft_wrap=True
        )
    run = escape(shlex.quote(str(folder.path)))
    results.print(
        f"[bold]Next[/]     pyro-ssbnn diagnose {run}: can it be trusted?\n         pyro-ssbnn report {run}: all of it"
        " on one page",
        soft_wrap=True,
    )
