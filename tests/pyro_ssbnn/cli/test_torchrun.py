"""``torchrun -m pyro_ssbnn fit`` as a whole: its run folder, and what is left when one of its processes is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

import pyro_ssbnn as ss

pytestmark = [
    pytest.mark.slow,  # three processes that import torch, twice
    pytest.mark.skipif(sys.platform != "linux", reason="finds a process by /proc"),
]
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
OPTIONS = ("--hidden", "8", "--draws", "10", "--compile", "off", "--no-progress")


def start(folder, *command):
    """A command in a session of its own, so that all its processes can be ended."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    with (folder / "said.txt").open("w") as said:
        return subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=folder,
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def said_at_the_end(process, folder, seconds=300):
    try:
        process.wait(seconds)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return (folder / "said.txt").read_text()


def child_of_rank(process, rank):
    """Number of the process of a rank, once torchrun has started it."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            told = (place / "environ").read_bytes().split(b"\0")
        except (OSError, IndexError):  # it has ended meanwhile
            continue
        if parent == process.pid and f"RANK={rank}".encode() in told:
            return int(place.name)
    return None


def files_of(run):
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}


def test_its_run_folder_is_that_of_one_process(table, tmp_path):
    """The same files, settings and test rows; the fit is another, because each rank draws noise of its own."""
    data = ("fit", table, "--target", "price", *OPTIONS, "--epochs", "30", "--out")
    together = start(tmp_path, *TORCHRUN, "-m", "pyro_ssbnn", *data, "together")
    said = said_at_the_end(together, tmp_path)
    assert together.returncode == 0, said
    assert said.count("Training") == 1  # the second process is silent
    alone = start(tmp_path, "-m", "pyro_ssbnn", *data, "alone")
    said = said_at_the_end(alone, tmp_path)
    assert alone.returncode == 0, said
    folders = tmp_path / "together", tmp_path / "alone"
    assert files_of(folders[0]) == files_of(folders[1])
    configs = [json.loads((folder / "config.json").read_text()) for folder in folders]
    for config in configs:
        del config["created"], config["command"]
    assert configs[0] == configs[1]
    fits = [ss.load_fit(folder / "fit.safetensors") for folder in folders]
    assert [len(fit.history) for fit in fits] == [30, 30]
    states = [fit.guide.state_dict() for fit in fits]
    assert not torch.equal(states[0]["hidden1.weight.loc"], states[1]["hidden1.weight.loc"])
    tables = [pd.read_csv(folder / "test_predictions.csv") for folder in folders]
    assert list(tables[0]) == list(tables[1])
    assert tables[0]["row"].equals(tables[1]["row"])


def test_a_killed_rank_is_named_and_one_process_goes_on(table, tmp_path):
    run = tmp_path / "run"
    data = ("fit", table, "--target", "price", *OPTIONS, "--epochs", "500", "--batch-size", "16")
    process = start(
        tmp_path, *TORCHRUN, "-m", "pyro_ssbnn", *data, "--checkpoint-every", "0.05", "--out", run
    )
    fit, seen, end = run / "fit.safetensors", set(), time.monotonic() + 200
    while len(seen) < 4:
        assert time.monotonic() < end
        assert process.poll() is None, (tmp_path / "said.txt").read_text()
        if fit.exists():
            seen.add(fit.stat().st_mtime_ns)
        time.sleep(0.01)
    os.kill(child_of_rank(process, 1), signal.SIGKILL)
    began = time.monotonic()
    said = said_at_the_end(process, tmp_path, 60)
    assert time.monotonic() - began < 30
    assert process.returncode != 0
    assert "rank      : 1 (local_rank: 1)" in said
    assert "Signal 9 (SIGKILL)" in said
    assert "pyro-ssbnn fit --resume" in said
    before = ss.load_fit(fit).history
    assert 0 < before.epoch < 500
    resumed = start(tmp_path, "-m", "pyro_ssbnn", "fit", "--resume", run, "--no-progress")
    said = said_at_the_end(resumed, tmp_path)
    assert resumed.returncode == 0, said
    after = ss.load_fit(fit).history
    assert after.epoch == 500
    assert list(after.elbo[: len(before)]) == list(before.elbo)
    assert not (run / "unfinished.json").exists()
