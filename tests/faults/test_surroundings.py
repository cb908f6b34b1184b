"""What happens around a run: readers that leave, folders that vanish, logs without room, processes held up."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

RUN = ("--target", "y", "--hidden", "6", "--draws", "10", "--no-progress", "--compile", "off")
OFTEN = ("--checkpoint-every", "0.05")


def wait_for(condition, seconds=400):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.fixture
def training(call, table, tmp_path):
    """A process in the midst of its training, and its run."""
    run = tmp_path / "run"

    def start(epochs):
        process = call.start(
            "fit", table, *RUN, *OFTEN, "--epochs", epochs, "--out", run, often=True
        )
        wait_for((run / "fit.previous.safetensors").exists)
        return process, run

    return start


def removed(run):
    """Remove a folder in which a process is writing."""
    while run.exists():
        shutil.rmtree(run, ignore_errors=True)


def put_in_place(staged, run):
    """Put a folder where a process is writing, at one instant."""
    while staged.exists():
        removed(run)
        with contextlib.suppress(OSError):  # the process was quicker
            staged.rename(run)


@pytest.mark.slow
@pytest.mark.faults
def test_a_bare_environment_is_enough(table, tmp_path):
    """No home, no place for temporary files or caches, no UTF-8; and a bar in a file is a line now and then."""
    nowhere, run = str(tmp_path / "nowhere"), tmp_path / "rün"
    names = ("HOME", "TMPDIR", "MPLCONFIGDIR", "XDG_CACHE_HOME")
    environment = {**dict.fromkeys(names, nowhere), "LANG": "C", "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-c", "from pyro_ssbnn.cli.main import app; app()"]
    words = ("fit", table, *RUN, "--epochs", "60", "--progress", "--out", run)
    ended = subprocess.run(
        [*program, *map(str, words)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=600,
    )
    output = (ended.stdout + ended.stderr).decode("utf-8", "replace")
    assert ended.returncode == 0, output
    assert "Traceback" not in output
    assert 1 <= output.count("epoch/s") <= 4
    assert (run / "posterior.nc").exists()


def test_a_reader_who_leaves_ends_the_printing_and_not_the_run(call, table, tmp_path):
    pipe, run = tmp_path / "pipe", tmp_path / "run"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    process = call.start("fit", table, *RUN, "--epochs", 60, "--out", run, output=pipe)
    wait_for(run.exists)
    os.close(reader)
    assert call.wait(process).code == 0
    assert (run / "posterior.nc").exists()
    assert not (run / "unfinished.json").exists()


def test_a_folder_removed_in_training_is_made_again(call, training):
    process, run = training(epochs=100_000)
    removed(run)
    wait_for((run / "fit.safetensors").exists)
    os.kill(process[0], signal.SIGTERM)
    assert call.wait(process).code == 143
    call("fit", "--resume", run, "--epochs", 5, "--no-progress", codes=(0,))
    assert (run / "config.json").exists()


def test_a_run_begun_in_its_place_is_left_alone(call, training, finished):
    process, run = training(epochs=300)
    staged = run.with_name("staged")
    shutil.copytree(finished, staged)
    put_in_place(staged, run)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    ended = call.wait(process)
    assert ended.code == 2, ended
    assert "another has begun there, which is left alone" in ended.output
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_a_process_held_up_keeps_its_folder(call, training):
    process, run = training(epochs=100_000)
    os.kill(process[0], signal.SIGSTOP)
    assert "another process is writing" in call("fit", "--resume", run, codes=(2,)).output
    assert "Unfinished" in call("summary", run, codes=(0,)).output
    os.kill(process[0], signal.SIGTERM)
    os.kill(process[0], signal.SIGTERM)
    os.kill(process[0], signal.SIGCONT)
    assert call.wait(process).code == 143
    call("fit", "--resume", run, "--epochs", 5, "--no-progress", codes=(0,))


def test_a_log_without_room_is_told_once(call, table, tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no device that is always full")
    log = ("--log-file", "/dev/full")
    ended = call("fit", table, *RUN, "--epochs", 3, *log, "--out", tmp_path / "run", codes=(0,))
    assert ended.output.count("Nothing more is logged") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--out", "{file}/run"), "{file} is a file"),
        (("--out", "{folder}/" + "a" * 300), "File name too long"),
        (("--out", "{folder}"), "is no run folder"),
        (("--log-file", "{folder}"), "--log-file {folder}: cannot be written"),
        (("--device", "cuda:7"), "device 'cuda:7'"),
        (("--test-fraction", "0.999"), "--test-fraction 0.999"),
        (("--columns", "a,q"), "there is no column 'q' (--columns a,q); the columns are"),
        (("--inclusion", "2"), "strictly between 0 and 1"),
        (("--hidden", "1000000,1000000"), "GiB of memory"),
        (("--milestones", "-1"), "--milestones"),
    ],
    ids=str,
)
def test_what_can_be_known_is_told_before_training(call, table, tmp_path, options, words):
    known = {"file": table, "folder": tmp_path}
    (tmp_path / "note").touch()
    given = [part.format(**known) for part in options]
    out = [] if "--out" in given else ["--out", tmp_path / "run"]
    ended = call("fit", table, *RUN, "--epochs", 3, *given, *out, codes=(2,))
    assert words.format(**known) in ended.output
    assert "Training" not in ended.output
    assert [p.name for p in tmp_path.iterdir()] == ["note"]


def test_test_rows_are_looked_at_before_training(call, table, tmp_path):
    """Each row is a test row of some seed; whichever it is, the value is refused at once."""
    lines = table.read_text().splitlines()
    lines[7] = "inf,1,1,1"
    file = tmp_path / "table.csv"
    file.write_text("\n".join(lines))
    for seed in range(4):
        run = ("--seed", seed, "--epochs", 3, "--out", tmp_path / "run")
        ended = call("fit", file, *RUN, *run, codes=(2,))
        assert "'a' is infinite" in ended.output
        assert "line 8" in ended.output
        assert "Training" not in ended.output
