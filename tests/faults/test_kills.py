"""Runs killed at any moment go on to the same numbers; two processes do not write one folder."""

import json
import random
import signal
import time
from contextlib import suppress

import pytest
import torch
from safetensors.torch import load_file

LONG_FORM = (pytest.mark.slow, pytest.mark.faults)

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
LONG = ("--epochs", "60", "--checkpoint-every", "0.05", "--draws", "10", "--no-progress")
FINISHED = {
    *("compact.safetensors", "config.json", "fit.safetensors", "history.csv", "inclusion.csv"),
    *("metrics.json", "plots", "posterior.nc", "pruning.csv", "test_predictions.csv"),
}


def options(table):
    return (
        table,
        "--target",
        "y",
        "--hidden",
        "8",
        "--compile",
        "off",
        "--gate-rate",
        "0.3",
        *LONG,
    )


def wait_for(condition, seconds=400):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def same(run, whole):
    """Fits are equal bit by bit, scores and predictions to the letter."""
    one, other = (load_file(r / "fit.safetensors") for r in (run, whole))
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    for name in ("metrics.json", "test_predictions.csv", "inclusion.csv"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()


def moment(run, generator, process):
    """A condition that comes true at some point of a run's life, which a loaded machine only stretches."""
    fit, seen = run / "fit.safetensors", set()
    checkpoints = generator.randrange(1, 8)
    product = generator.choice(("history.csv", "compact.safetensors", "metrics.json", "plots"))

    def trained_so_far():
        with suppress(FileNotFoundError):
            seen.add(fit.stat().st_mtime_ns)
        return len(seen) >= checkpoints or process.poll() is not None

    stages = {
        "folder": run.exists,
        "training": trained_so_far,
        "product": (run / product).exists,
    }
    return stages[generator.choice(("folder", *["training"] * 6, "product", "product"))]


@pytest.fixture(scope="module")
def whole(table, call, tmp_path_factory):
    run = tmp_path_factory.mktemp("whole") / "run"
    call("fit", *options(table), "--out", run, codes=(0,))
    return run


@pytest.mark.parametrize("kills", [2, pytest.param(60, marks=LONG_FORM)])
def test_killed_runs_go_on_bit_by_bit(spawn, whole, table, tmp_path, kills, tell):
    """The moments are drawn over the whole life of a run, its start and what is made of it included."""
    generator = random.Random(3)
    stages = {"before": 0, "training": 0, "products": 0, "finished": 0}
    for at in range(kills):
        run = tmp_path / f"run{at}"
        process = spawn("fit", *options(table), "--out", run)
        wait_for(moment(run, generator, process))
        time.sleep(generator.uniform(0, 0.05))
        number = SIGNALS[at % 3]
        process.send_signal(number)
        output, _ = process.communicate(timeout=400)
        assert "Traceback" not in output, output
        assert process.returncode in (0, -number, 128 + number), output
        state = run / "unfinished.json"
        if not (run / "config.json").exists():
            stages["before"] += 1
            again = spawn("fit", *options(table), "--out", run)
        elif not state.exists():
            stages["finished"] += 1
            again = spawn("summary", run)
        else:
            trained = json.loads(state.read_text())["trained"]
            stages["products" if trained else "training"] += 1
            again = spawn("fit", "--resume", run, "--no-progress", "--checkpoint-every", "0.05")
        output, _ = again.communicate(timeout=500)
        assert again.returncode == 0, output
        same(run, whole)
        assert {file.name for file in run.iterdir()} == FINISHED
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    told = ", ".join(f"{count} {stage}" for stage, count in stages.items() if count)
    tell(f"{kills} runs killed (seed 3; {told}), resumed: {kills} equal bit by bit, no orphan left")


def test_a_second_process_is_told_within_a_second(spawn, call, table, tmp_path, tell):
    run = tmp_path / "run"
    process = spawn("fit", *options(table), "--epochs", "100000", "--out", run)
    try:
        wait_for(lambda: (run / "fit.safetensors").exists())
        for command in (
            ("fit", *options(table), "--out", run, "--overwrite"),
            ("fit", "--resume", run),
        ):
            start = time.process_time()
            result = call(*command, codes=(2,))
            assert time.process_time() - start < 1
            assert "another process is writing this run now" in result.output
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert f"--resume {run}" in output
    tell("a second process in a folder: told within a second, the first goes on")


def test_a_bar_in_a_file_is_a_line_now_and_then(spawn, table, tmp_path):
    process = spawn("fit", *options(table), "--progress", "--out", tmp_path / "run")
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    assert output.count("epoch/s") <= 4
