"""Further fits of a run, of other seeds and side by side, and the weights of them all.

The run's own fit is the first; ``fits/`` holds the checkpoints of the others until all are trained.
"""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from pyro_ssbnn.cli.console import messages
from pyro_ssbnn.cli.run_folder import RunFolder
from pyro_ssbnn.data import Encoded, EncodedRows
from pyro_ssbnn.errors import CollapseWarning
from pyro_ssbnn.inference import Fit, Mixture, TrainingOptions, combine_fits, fit, save_mixture
from pyro_ssbnn.inference.checkpoints import last_checkpoint
from pyro_ssbnn.parallel import run_jobs
from pyro_ssbnn.structure.network import Network

__all__ = ["clear_members", "train_members"]


def train_members(
    folder: RunFolder,
    model: Network,
    train: Encoded | EncodedRows,
    first: Fit,
    number: int,
    *,
    n_jobs: int | None,
    every: float,
) -> Mixture:
    """Train the fits that a run has beside its first, or go on with them; weigh all by stacking, and save them.

    :param model: the network as the first fit was given it.
    :param number: of all fits.
    :param n_jobs: fits at a time; None for one after another.
    :param every: seconds between two checkpoints of each.
    """
    seeds = range(first.options.seed + 1, first.options.seed + number)
    at_a_time = "one after another" if n_jobs in (None, 1) else f"{n_jobs} at a time"
    messages.print(f"{len(seeds)} more fits, {at_a_time} ...", style="dim")
    folder.members.mkdir(exist_ok=True)
    jobs = {
        f"the fit of seed {seed}": (
            model,
            *train.given,
            replace(first.options, seed=seed),
            folder.members / f"seed-{seed}.safetensors",
            every,
        )
        for seed in seeds
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)  # the mixture tells of it
        others = run_jobs(_member, jobs, n_jobs=n_jobs)
    mixture = combine_fits([first, *others], *train.given)
    save_mixture(mixture, folder.mixture_file)
    return mixture


def clear_members(folder: RunFolder) -> None:
    """Remove the checkpoints of fits that are in the mixture."""
    if folder.members.is_dir():
        shutil.rmtree(folder.members)


def _member(
    model: Network,
    x: Tensor | EncodedRows,
    y: Tensor | None,
    options: TrainingOptions,
    file: Path,
    every: float,
) -> Fit:
    earlier = last_checkpoint(file)
    how = {"resume": earlier, "checkpoint": file, "checkpoint_every": every}
    result = fit(model, x, y, options, progress=False, **how)  # type: ignore[arg-type]
    result.guide.to("cpu")
    return result
