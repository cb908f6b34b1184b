"""Runs killed at any moment go on to the same numbers; no product is half; two processes do not write one folder."""

import json
import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pyro_ssbnn.analysis import read_netcdf

LONG_FORM = (pytest.mark.slow, pytest.mark.faults)

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
DEADLY = -signal.SIGALRM
EVERY = 0.03  # seconds between checkpoints
DATA = ("--target", "y", "--hidden", "8", "--compile", "off", "--gate-rate", "0.3", "--draws", "10")
LONG = ("--epochs", "90", "--checkpoint-every", EVERY, "--no-progress")
FINISHED = {
    *("compact.safetensors", "config.json", "fit.safetensors", "history.csv", "inclusion.csv"),
    *("metrics.json", "posterior.nc", "pruning.csv", "test_predictions.csv"),
}


def wait_for(condition, seconds=400):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def same(run, whole):
    """Fits are equal bit by bit, scores and predictions to the letter."""
    one, other = (load_file(r / "fit.safetensors") for r in (run, whole))
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    for name in ("metrics.json", "test_predictions.csv", "inclusion.csv"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()


def moment(run, generator):
    """A condition that comes true at some point of a run's life, which a loaded machine only stretches."""
    fit, seen = run / "fit.safetensors", set()
    checkpoints = generator.randrange(1, 12)
    product = generator.choice(
        ("history.csv", "compact.safetensors", "metrics.json", "posterior.nc")
    )

    def trained_so_far():
        with suppress(FileNotFoundError):
            seen.add(fit.stat().st_mtime_ns)
        return len(seen) >= checkpoints or (run / "history.csv").exists()

    stages = {
        "start": run.exists,
        "training": trained_so_far,
        "product": (run / product).exists,
    }
    return stages[generator.choice(("start", *["training"] * 7, "product"))]


@pytest.fixture(scope="module")
def whole(table, call, tmp_path_factory):
    """The run as it is when nothing interrupts it."""
    run = tmp_path_factory.mktemp("whole") / "run"
    call("fit", table, *DATA, *LONG, "--out", run, plots=False, codes=(0,))
    return run


@pytest.mark.parametrize("kills", [3, pytest.param(60, marks=LONG_FORM)])
def test_killed_runs_go_on_bit_by_bit(call, whole, table, tmp_path, kills, tell):
    """The moments are drawn over the whole life of a run, its start and what is made of it included."""
    generator = random.Random(3)
    stages = {"before": 0, "training": 0, "products": 0, "finished": 0}
    lost = 0.0
    for at in range(kills):
        run, number = tmp_path / f"run{at}", SIGNALS[at % 3]
        process = call.start("fit", table, *DATA, *LONG, "--out", run, often=True, plots=False)
        wait_for(moment(run, generator))
        time.sleep(generator.uniform(0, EVERY))
        signal_process(process, number)
        killed, ended = time.time(), call.wait(process)
        assert ended.code in (0, -number, 128 + number), ended
        state, again = run / "unfinished.json", ("fit", "--resume", run, "--no-progress")
        if not (run / "config.json").exists():
            stage, again = "before", ("fit", table, *DATA, *LONG, "--out", run)
        elif not state.exists():
            stage, again = "finished", ("summary", run)
        else:
            stage = "products" if json.loads(state.read_text())["trained"] else "training"
        if stage == "training" and (run / "fit.safetensors").exists():
            lost = max(lost, killed - (run / "fit.safetensors").stat().st_mtime)
        stages[stage] += 1
        call(*again, plots=False, codes=(0,))
        same(run, whole)
        assert {file.name for file in run.iterdir()} == FINISHED
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    assert stages["training"] >= kills // 3
    told = ", ".join(f"{count} {stage}" for stage, count in stages.items() if count)
    tell(
        f"{kills} runs killed (seed 3; {told}), resumed: {kills} equal bit by bit, no orphan left, at most"
        f" {lost:.2f} s lost with a checkpoint each {EVERY} s"
    )


THREE = (*DATA, "--input-gates", "--fits", "3", *LONG, "--epochs", "40")
OF_SEVERAL = ("fit", "fits/seed-1", "fits/seed-2", "mixture", "compact")  # files, in their order


@pytest.fixture(scope="module")
def three(table, call, tmp_path_factory):
    """A run of three fits as it is when nothing interrupts it."""
    run = tmp_path_factory.mktemp("three") / "run"
    call("fit", table, *THREE, "--out", run, plots=False, codes=(0,))
    return run


def moment_of_several(run, generator):
    """A condition that comes true in the training of one of the fits, or when all are in the mixture."""
    name, seen = generator.choice(OF_SEVERAL), set()
    file, checkpoints = run / f"{name}.safetensors", generator.randrange(1, 5)

    def so_far():
        with suppress(FileNotFoundError):
            seen.add(file.stat().st_mtime_ns)
        enough = checkpoints if name.startswith("fit") else 1
        return len(seen) >= enough or (run / "metrics.json").exists()

    return so_far


def workers_of(process):
    """Numbers of the processes that a process has begun and that are still there."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = file.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == process and state != "Z":
                found.add(int(file.parent.name))
    return found


def ended(processes):
    """Whether they are gone, or only wait for whoever adopted them to notice."""
    for number in processes:
        with suppress(OSError):
            if Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                return False
    return True


def stage_of(run):
    """How far a run of several fits is: ``before`` its beginning, ``fit 1``, ..., ``products``, ``finished``."""
    if not (run / "config.json").exists():
        return "before"
    if not (run / "unfinished.json").exists():
        return "finished"
    if json.loads((run / "unfinished.json").read_text())["trained"]:
        return "products"
    begun = sum((run / f"{name}.safetensors").exists() for name in OF_SEVERAL[:3])
    return f"fit {max(begun, 1)}"


@pytest.mark.parametrize(
    ("kills", "jobs"), [(3, 1), *(pytest.param(*c, marks=LONG_FORM) for c in ((30, 1), (6, 2)))]
)
def test_killed_runs_of_several_fits_go_on_bit_by_bit(
    call, three, table, tmp_path, kills, jobs, tell
):
    """Fits that were done are kept, one in training loses what came after its checkpoint; no process stays behind."""
    generator, stages, lost = random.Random(8), {}, 0.0
    asked = ("fit", table, *THREE, *(("--jobs", jobs) if jobs > 1 else ()))
    for at in range(kills):
        run, number = tmp_path / f"run{at}", SIGNALS[at % 3]
        process = call.start(*asked, "--out", run, often=True, plots=False)
        wait_for(moment_of_several(run, generator))
        time.sleep(generator.uniform(0, EVERY))
        workers = workers_of(process[0])
        signal_process(process, number)
        killed, code = time.time(), call.wait(process).code
        assert code in (0, -number, 128 + number), code
        wait_for(lambda left=workers: ended(left), seconds=60)
        stage, again = stage_of(run), ("fit", "--resume", run, "--no-progress")
        again = {"before": (*asked, "--out", run), "finished": ("summary", run)}.get(stage, again)
        stages[stage] = stages.get(stage, 0) + 1
        if stage.startswith("fit"):
            written = [file.stat().st_mtime for file in run.rglob("*.safetensors")]
            lost = max(lost, killed - max(written, default=killed))
        call(*again, plots=False, codes=(0,))
        same(run, three)
        one, other = (load_file(r / "mixture.safetensors") for r in (run, three))
        assert one.keys() == other.keys()
        assert all(torch.equal(value, other[name]) for name, value in one.items())
        assert {file.name for file in run.iterdir()} == FINISHED | {"mixture.safetensors"}
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    assert sum(count for stage, count in stages.items() if stage.startswith("fit")) >= kills // 3
    told = ", ".join(f"{count} {stage}" for stage, count in sorted(stages.items()))
    tell(
        f"{kills} runs of three fits, {jobs} at a time, killed (seed 8; {told}), resumed: {kills} equal bit by bit, no"
        f" orphan left, the last checkpoint at most {lost:.2f} s old"
    )


def signal_process(process, number):
    """Send a signal; a process that has ended is still there until it is waited for."""
    os.kill(process[0], number)


WRITTEN = (
    *("history.csv", "inclusion.csv", "compact.safetensors", "pruning.csv", "metrics.json"),
    *("test_predictions.csv", "posterior.nc", "plots/elbo.png", "plots/inclusion.png"),
)


def whole_file(file, whole):
    """Whether a product is as it should be: equal to that of an undisturbed run, or at least readable."""
    if file.suffix == ".safetensors":  # the order of its header's entries is not always the same
        one, other = load_file(file), load_file(whole / file.name)
        return all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys())
    if file.suffix == ".nc":  # tells when it was made
        return read_netcdf(file)["posterior"]["hidden1.gate"].shape[1] == 10
    if file.suffix == ".png":
        Image.open(file).verify()
        return True
    return file.read_bytes() == (whole / file.name).read_bytes()


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=LONG_FORM)])
def test_no_product_is_ever_half(call, whole, tmp_path, kills, tell):
    """Killed while a product is written over an older one, which is then there still, or the new one is."""
    generator, run = random.Random(4), tmp_path / "run"
    shutil.copytree(whole, run)
    (run / "plots").mkdir()
    found = {"old": 0, "new": 0}
    cut, old = 0, b"the older one"
    for name in WRITTEN:
        file = run / name
        maker = "compact.safetensors" if name == "pruning.csv" else name
        maker = "metrics.json" if name == "test_predictions.csv" else maker
        state = {"format": "pyro_ssbnn unfinished run", "trained": True, "replaces": False}
        for _ in range(kills):
            file.write_bytes(old)
            (run / "unfinished.json").write_text(json.dumps({**state, "failed": {maker: "again"}}))
            after = generator.uniform(0, 0.05 if file.suffix in (".nc", ".png") else 0.004)
            plots = file.suffix == ".png"
            call("finish", run, product=file.name, after=after, plots=plots, codes=(0, DEADLY))
            which = "old" if file.read_bytes() == old else "new"
            assert which == "old" or whole_file(file, whole), (name, after)
            found[which] += 1
            cut += any(p.name.startswith(f".{file.stem}-") for p in file.parent.iterdir())
        if (whole / name).exists():  # what is made next may read it
            shutil.copy(whole / name, file)
    (run / "unfinished.json").write_text(
        json.dumps({**state, "failed": dict.fromkeys(WRITTEN, "")})
    )
    call("finish", run, codes=(0,))
    same(run, whole)
    assert {file.name for file in run.iterdir()} == FINISHED | {"plots"}
    assert all(whole_file(run / name, whole) for name in WRITTEN)
    tell(
        f"{kills} kills in the writing of each of {len(WRITTEN)} products (seed 4): {found['old']} old, {found['new']}"
        f" new, none half ({cut} were cut off before their end); all made again, no orphan left"
    )


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A folder with two files of one table."""
    generator, folder = np.random.default_rng(9), tmp_path_factory.mktemp("pieces")
    for at in range(2):
        x = generator.normal(size=(20_000, 3))
        frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": x[:, 0] + x[:, 1]})
        frame.to_parquet(folder / f"{at}.parquet")
    return folder


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=LONG_FORM)])
def test_rows_half_written_are_cleared_away(call, pieces, tmp_path, kills, tell):
    """Killed while a run writes the rows of files that are read in pieces, and while ``effects`` writes them again."""
    generator, cut = random.Random(10), {"fit": 0, "effects": 0}
    brief = ("--hidden", "4", "--epochs", "1", "--draws", "10", "--compile", "off", "--no-progress")
    begin, whole = ("fit", pieces, "--target", "y", *brief), tmp_path / "whole"
    call(*begin, "--out", whole, plots=False, codes=(0,))
    rows = {file.name: file.read_bytes() for file in (whole / "data").iterdir()}
    run = tmp_path / "run"
    looks = ("effects", run, "--draws", "10")
    for _ in range(kills):
        for command, again in (
            ((*begin, "--out", run), ("fit", "--resume", run, "--no-progress")),
            (looks, looks),
        ):
            shutil.rmtree(run / "data", ignore_errors=True)
            after = generator.uniform(0.001, 0.02)
            ended = call(*command, product="data", after=after, plots=False, codes=(0, DEADLY))
            cut[command[0]] += any(p.name.startswith(".data-") for p in run.iterdir())
            if command is looks or ended.code:
                call(*again, plots=False, codes=(0,))
            assert {f.name: f.read_bytes() for f in (run / "data").iterdir()} == rows
            assert [p.name for p in run.rglob(".*")] == []
        same(run, whole)
        shutil.rmtree(run)
    assert sum(cut.values()) >= kills
    tell(
        f"{2 * kills} kills while rows of a stream were written (seed 10): {cut['fit']} of fit and {cut['effects']} of"
        f" effects left half of them; all gone after the next command, rows and fit equal bit by bit"
    )


def test_a_second_process_is_told_within_a_second(call, table, tmp_path, tell):
    run = tmp_path / "run"
    process = call.start("fit", table, *DATA, *LONG, "--epochs", "100000", "--out", run)
    try:
        wait_for((run / "fit.safetensors").exists)
        for command in (
            ("fit", table, *DATA, *LONG, "--out", run, "--overwrite"),
            ("fit", "--resume", run),
        ):
            refused = call(*command, codes=(2,))
            assert refused.seconds < 1
            assert "another process is writing this run now" in refused.output
    finally:
        signal_process(process, signal.SIGTERM)
        ended = call.wait(process)
    assert ended.code == 143
    assert f"--resume {run}" in ended.output
    tell("a second process in a folder: told within a second of CPU time, the first goes on")
