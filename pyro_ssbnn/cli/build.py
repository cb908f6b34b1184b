"""Making a run: load, check, train; or go on with one that was interrupted."""

from __future__ import annotations

import logging
import platform
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pyro_ssbnn.checks import check_rows
from pyro_ssbnn.cli.announcing import announce, announce_training, enough_threads
from pyro_ssbnn.cli.completion import finish, finish_run
from pyro_ssbnn.cli.console import results, warn
from pyro_ssbnn.cli.launched import together
from pyro_ssbnn.cli.launcher import require_one_fit
from pyro_ssbnn.cli.lifecycle import begin, claiming, occupying, restore, update
from pyro_ssbnn.cli.members import clear_members, train_members
from pyro_ssbnn.cli.networks import NetworkChoice, build_network
from pyro_ssbnn.cli.products import Making
from pyro_ssbnn.cli.run_folder import FORMAT, FORMAT_VERSION, RunFolder, resume_command
from pyro_ssbnn.cli.sources import LoadedData, SourceChoice, load, load_again
from pyro_ssbnn.cli.streams import StreamedData
from pyro_ssbnn.cli.training_options import option
from pyro_ssbnn.data import Encoded, EncodedRows, Preprocessing
from pyro_ssbnn.errors import (
    CollapseWarning,
    ConfigurationError,
    NonFiniteLossError,
    RankError,
    TrainingInterrupted,
)
from pyro_ssbnn.files.untrusted import unpacking
from pyro_ssbnn.inference import Fit, Mixture, TrainingOptions, fit, save_fit
from pyro_ssbnn.inference.checkpoints import last_checkpoint
from pyro_ssbnn.inference.holding import settled_options
from pyro_ssbnn.inference.preparation import check_memory, device_of
from pyro_ssbnn.inference.resumption import FIXED
from pyro_ssbnn.inference.saving import options_of
from pyro_ssbnn.isolation import limited_to
from pyro_ssbnn.models import GatedNetwork, network_from_config
from pyro_ssbnn.structure.network import Network

__all__ = ["Output", "build_run", "resume_run"]

_PACKAGES = ("pyro_ssbnn", "torch", "pyro-ppl", "arviz", "numpy", "pandas", "scikit-learn")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Output:
    """How a run is made, whatever comes out; None leaves what the run had, or decides.

    :param draws: posterior draws for ``posterior.nc`` and the scores.
    :param threads: CPU threads of the training; None decides by the size of the layers.
    :param progress: show the progress bar.
    :param every: seconds between two checkpoints.
    :param command: what was typed, for the record.
    :param fits: how many, of seeds that follow each other.
    :param jobs: fits beside the first at a time; None for one after another.
    """

    draws: int | None
    threads: int | None
    progress: bool
    every: float
    command: str = ""
    fits: int = 1
    jobs: int | None = None


def build_run(
    data_choice: SourceChoice,
    network_choice: NetworkChoice,
    options: TrainingOptions,
    output: Output,
    path: Path,
    overwrite: bool,
) -> int:
    """Fit and write a run folder, then print what was found.

    :returns: the exit code.
    """
    require_one_fit(output.fits)
    with claiming(path, overwrite) as folder:
        device_of(options)
        data = load(data_choice)
        preprocessing = data.preprocessing()
        data.record["task"] = preprocessing.task
        number = data.record["rows"]["train"]
        targets = data.targets(preprocessing)
        model = build_network(network_choice, preprocessing, targets, number)
        if isinstance(data, LoadedData):
            _check_test(data.encoded(preprocessing, folder.data)[1], model)
        options = settled_options(options, model.description, number)
        check_memory(model.description, number, options)
        announce(data, preprocessing, model)
        batch = options.batch_rows(number)
        threads = enough_threads(model, batch) if output.threads is None else output.threads
        announce_training(options, batch, number, threads)
        output = replace(output, draws=output.draws or 200, threads=threads)
        config = _config(data, preprocessing, model, options, output)
        begin(folder, path, config)
        _log.info("%s: %s", folder.path, data.record)
        train, _ = data.encoded(preprocessing, folder.data)
        answer = _trained(folder, config, model, train, options, output)
        return finish(Making(folder, answer, preprocessing, config["draws"], lambda: data))


def resume_run(path: Path, changes: Mapping[str, Any], output: Output) -> int:
    """Go on with a run that is not trained yet.

    :param changes: options of the training that are to be other ones from here on.
    :returns: the exit code.
    """
    with occupying(path) as folder:
        config = folder.read_config(unfinished=True)
        state = folder.state
        if state is None or state["trained"]:
            if state is None or changes:
                raise ConfigurationError(
                    f"{path}: this run is trained to its end; there is nothing to go on with."
                )
            return finish_run(folder)
        with unpacking(folder.config_file, "the run"):
            options = options_of(config["options"], folder.config_file)
            model = network_from_config(config["network"])
            preprocessing = Preprocessing.from_dict(config["preprocessing"])
            threads = int(config.get("threads", 1))
            fits = int(config.get("fits", 1))
        require_one_fit(fits)
        data = load_again(config["source"], config["seed"])
        train, test = data.encoded(preprocessing, folder.data)
        _check_test(test, model)
        chosen = replace(options, **changes)
        _require_same(options, chosen, len(train))
        device_of(chosen)
        output = replace(
            output,
            draws=output.draws or config["draws"],
            threads=output.threads or threads,
            fits=fits,
        )
        earlier = last_checkpoint(folder.fit_file)
        done = 0 if earlier is None else earlier.history.epoch
        planned = chosen.num_epochs(len(train))
        results.print(f"[bold]Going on[/] after {done:g} of {planned:,} epochs", soft_wrap=True)
        config |= {"options": chosen.to_config(), "draws": output.draws, "threads": output.threads}
        folder.write_json(folder.config_file, config)
        answer = _trained(folder, config, model, train, chosen, output, earlier)
        return finish(Making(folder, answer, preprocessing, config["draws"], lambda: data))


def _trained(
    folder: RunFolder,
    config: Mapping[str, Any],
    model: Network,
    train: Encoded | EncodedRows,
    options: TrainingOptions,
    output: Output,
    earlier: Fit | None = None,
) -> Fit | Mixture:
    """Train, with checkpoints in the folder; afterwards all is saved, before anything is made of it."""
    folder.fit_file, folder.previous_file, folder.mixture_file  # noqa: B018  # links in their place are refused
    again = f"Go on: {resume_command(folder.path)}"
    try:
        with (
            warnings.catch_warnings(),
            limited_to(output.threads),
            together(options.device, folder, config, earlier is not None) as several,
        ):
            warnings.simplefilter("ignore", CollapseWarning)  # said below, louder
            result = fit(
                model,
                *train.given,
                options,
                resume=earlier,
                progress=output.progress,
                checkpoint=folder.fit_file,
                checkpoint_every=output.every,
                distributed=several,
            )
            result.guide.to("cpu")
            answer: Fit | Mixture = result
            if output.fits > 1:
                how: dict[str, Any] = {"n_jobs": output.jobs, "every": output.every}
                answer = train_members(folder, model, train, result, output.fits, **how)
    except KeyboardInterrupt as stopped:
        done = stopped.result.history.epoch if isinstance(stopped, TrainingInterrupted) else 0
        planned = options.num_epochs(len(train))
        with suppress(OSError):
            restore(folder, config)
        raise KeyboardInterrupt(f"after {done:g} of {planned:,} epochs. {again}") from stopped
    except NonFiniteLossError as error:
        raise NonFiniteLossError(f"{error} {again}, with other rates, say.") from error
    except RankError as error:
        raise RankError(f"{error} {again}, on any number of processes.") from error
    folder.previous_file.unlink(missing_ok=True)
    try:
        restore(folder, config)
        save_fit(result, folder.fit_file)
        update(folder, trained=True, failed={})
        clear_members(folder)
    except OSError as error:
        raise ConfigurationError(
            f"{folder.path}: the fit could not be saved ({error}). Make room; what was saved last is there. {again}"
        ) from error
    _log.info("trained: %s", answer)
    if answer.collapsed:
        warn(
            "Collapse",
            f"No node of {', '.join(answer.collapsed)} is active (inclusion above 1/2): the selected network predicts a"
            " constant. If the data hold a signal: lower --gate-rate, lengthen --kl-warmup, train for more --epochs"
            " with a smaller --batch-size, or raise --inclusion.",
        )
    return answer


def _check_test(test: Encoded | EncodedRows | None, model: Network) -> None:
    """Check the rows of the test, too, before anything is trained."""
    if isinstance(test, Encoded):
        check_rows("the test rows", test.x, test.y, model.description.inputs.column_names)


def _require_same(before: TrainingOptions, chosen: TrainingOptions, rows: int) -> None:
    """Refuse, in the words of the command line, what a resumed run cannot change."""
    for name in FIXED:
        old, new = getattr(before, name), getattr(chosen, name)
        if name == "batch_size":
            old, new = before.batch_rows(rows), chosen.batch_rows(rows)
        if old != new:
            raise ConfigurationError(
                f"{option(name)}: a run that is gone on with keeps its own, {old}; got {new}. Leave it out, or fit"
                " anew."
            )


def _config(
    data: LoadedData | StreamedData,
    preprocessing: Preprocessing,
    model: GatedNetwork,
    options: TrainingOptions,
    output: Output,
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": output.command,
        "versions": {"python": platform.python_version(), **{p: version(p) for p in _PACKAGES}},
        "source": data.record,
        "seed": options.seed,
        "draws": output.draws,
        "threads": output.threads,
        "fits": output.fits,
        "network": model.to_config(),
        "options": options.to_config(),
        "preprocessing": preprocessing.to_dict(),
    }
