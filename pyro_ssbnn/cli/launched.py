"""``torchrun --nproc-per-node N -m pyro_ssbnn fit ...``: one run, trained by all processes that a launcher has started.

Rank 0 does what ``fit`` does alone. The others wait until it trains, are told of what, train with it, and end: they
write nothing and print nothing but errors.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from pyro_ssbnn.checks import resolve_device
from pyro_ssbnn.cli.console import results
from pyro_ssbnn.cli.launcher import several
from pyro_ssbnn.cli.run_folder import RunFolder
from pyro_ssbnn.cli.sources import load_again
from pyro_ssbnn.data import Preprocessing
from pyro_ssbnn.inference import fit
from pyro_ssbnn.inference.checkpoints import last_checkpoint
from pyro_ssbnn.inference.saving import options_of
from pyro_ssbnn.isolation import limited_to
from pyro_ssbnn.models import network_from_config

__all__ = ["follow", "together"]


@contextmanager
def together(
    device: str, folder: RunFolder, config: Mapping[str, Any], goes_on: bool
) -> Iterator[bool]:
    """Train, in the block, with the processes that follow this one, which are told of the run first.

    Yields whether there are any.

    :param goes_on: whether it goes on from the folder's checkpoint.
    """
    if not several():
        yield False
        return
    with _group(device):
        told = {"folder": str(folder.path.resolve()), "config": config, "goes_on": goes_on}
        dist.broadcast_object_list([json.dumps(told)], 0)
        yield True


def follow(device: str) -> int:
    """Train with rank 0, and end.

    :param device: as it was asked for.
    :returns: the exit code.
    """
    results.quiet = True
    warnings.simplefilter("ignore")  # rank 0 tells
    with _group(device):
        sent: list[Any] = [None]
        dist.broadcast_object_list(sent, 0)
        told = json.loads(sent[0])
        config, folder = told["config"], RunFolder(Path(told["folder"]))
        preprocessing = Preprocessing.from_dict(config["preprocessing"])
        data = load_again(config["source"], config["seed"])
        train, _ = data.encoded(preprocessing, folder.data)  # of pieces: as rank 0 has written them
        earlier = last_checkpoint(folder.fit_file) if told["goes_on"] else None
        with limited_to(config["threads"]):
            fit(
                network_from_config(config["network"]),
                *train.given,
                options_of(config["options"], folder.config_file),
                resume=earlier,
                progress=False,
                distributed=True,
            )
    return 0


@contextmanager
def _group(device: str) -> Iterator[None]:
    """Torch's process group, for the block: gloo on CPUs, NCCL on CUDA, of which each process has its own."""
    gpu = resolve_device(device).type == "cuda"
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()
