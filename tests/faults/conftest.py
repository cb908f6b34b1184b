"""Faults on purpose: what was tried, and what came of it, is printed at the end (``make test-faults``)."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from pyro_ssbnn.cli.main import app

_TOLD = pytest.StashKey[list]()
COMMAND = [sys.executable, "-c", "from pyro_ssbnn.cli.main import app; app()"]
TINY = ("--hidden", "6", "--epochs", "3", "--draws", "10", "--no-progress", "--compile", "off")


def pytest_configure(config):
    config.stash[_TOLD] = []


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash[_TOLD]:
        terminalreporter.write_line(f"faults: {line}")


@pytest.fixture(scope="module", autouse=True)
def _bounded_memory():
    """What asks for too much is refused by the system, and takes nothing from others."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


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


@pytest.fixture(scope="session")
def call():
    """Call the command line here; it must end with a message and one of the codes it promises."""

    def called(*arguments, codes=(0, 2)):
        result = CliRunner().invoke(app, [str(a) for a in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), arguments
        assert result.exit_code in codes, (arguments, result.exit_code, result.output[-2000:])
        assert "Traceback" not in result.output, (arguments, result.output[-2000:])
        if result.exit_code == 2:
            assert "Error" in result.output, (arguments, result.output)
        return result

    return called


@pytest.fixture(scope="session")
def finished(tmp_path_factory, table, call):
    """A finished run that tests only read."""
    run = tmp_path_factory.mktemp("runs") / "run"
    call("fit", table, "--target", "y", "--input-gates", *TINY, "--out", run, codes=(0,))
    return run


@pytest.fixture(scope="session")
def spawn():
    """Start the command line in a process of its own."""

    def spawned(*arguments, **options):
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )

    return spawned


@pytest.fixture(scope="session")
def tiny():
    return TINY


def orphans(folder: Path) -> list[Path]:
    """Files and folders that begin with a dot."""
    return sorted(p for p in folder.rglob(".*"))


@pytest.fixture(scope="session")
def leftover_files():
    return orphans
