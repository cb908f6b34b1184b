"""Faults on purpose: what was tried, and what came of it, is printed at the end (``make test-faults``)."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

_TOLD = pytest.StashKey[list]()
TINY = ("--hidden", "6", "--epochs", "3", "--draws", "10", "--no-progress", "--compile", "off")


def pytest_configure(config):
    config.stash[_TOLD] = []


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash[_TOLD]:
        terminalreporter.write_line(f"faults: {line}")


@pytest.fixture
def tell(request):
    """Have a line printed once all tests are done."""
    return request.config.stash[_TOLD].append


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    generator = np.random.default_rng(5)
    x = generator.normal(size=(60, 3))
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": x[:, 0] + 0.1 * x[:, 1]})
    file = tmp_path_factory.mktemp("data") / "table.csv"
    frame.to_csv(file, index=False)
    return file


@dataclass
class Ended:
    """What a command came to.

    :param code: its exit code; -n where signal n killed it.
    :param memory: most bytes that it took beyond a process that has imported everything.
    :param seconds: of CPU time.
    """

    code: int
    output: str
    memory: float
    seconds: float


class Commands:
    """The command line in processes of its own, see ``server.py``."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        program = [sys.executable, str(Path(__file__).with_name("server.py"))]
        pipe = subprocess.PIPE
        self.server = subprocess.Popen(
            program,
            stdin=pipe,
            stdout=pipe,
            text=True,
            env=environment,
            preexec_fn=_with_little_memory,
        )
        assert self.server.stdout.readline() == "ready\n"
        self._least = 0.0
        self._least = self("--version").memory

    def _ask(self, **request):
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())

    def start(self, *arguments, seconds=60, output=None, **options) -> tuple[int, Path]:
        """Start a command; returns the number of its process, and the file of its output."""
        self._count += 1
        output = output or self._folder / f"{self._count}.txt"
        words = [str(a) for a in arguments]
        return self._ask(arguments=words, output=str(output), seconds=seconds, **options), output

    def wait(self, started: tuple[int, Path]) -> Ended:
        """What a command came to that was started; none ends in a traceback."""
        code, memory, seconds = self._ask(wait=started[0])
        output = started[1].read_text(errors="replace") if started[1].is_file() else ""
        assert "Traceback" not in output, output[-3000:]
        return Ended(code, output, memory - self._least, seconds)

    def __call__(self, *arguments, codes=(0, 2), **options) -> Ended:
        """Run a command; it ends with a message, and one of the codes that it promises."""
        ended = self.wait(self.start(*arguments, **options))
        assert ended.code in codes, (arguments, ended.code, ended.output[-3000:])
        if ended.code == 2:
            assert "Error" in ended.output, (arguments, ended.output)
        return ended


def _with_little_memory():
    """What asks for too much is refused by the system, and takes nothing from others."""
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, resource.getrlimit(resource.RLIMIT_AS)[1]))


@pytest.fixture(scope="session")
def call(tmp_path_factory) -> Iterator[Commands]:
    """The command line."""
    commands = Commands(tmp_path_factory.mktemp("output"))
    yield commands
    commands.server.stdin.close()
    commands.server.wait()
    commands.server.stdout.close()


@pytest.fixture(scope="session")
def finished(tmp_path_factory, table, call):
    """A finished run that tests only read."""
    run = tmp_path_factory.mktemp("runs") / "run"
    call("fit", table, "--target", "y", "--input-gates", *TINY, "--out", run, codes=(0,))
    return run


@pytest.fixture(scope="session")
def tiny():
    return TINY
