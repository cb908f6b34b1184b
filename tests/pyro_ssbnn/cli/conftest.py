"""Tiny data sets, runs made once, and a way to call the command line."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from pyro_ssbnn.cli import products
from pyro_ssbnn.cli.main import app
from pyro_ssbnn.cli.pictures import available

TINY = ("--hidden", "8", "--epochs", "3", "--draws", "20", "--no-progress")


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="session")
def invoke() -> Callable[..., Result]:
    """Call the command line with these arguments; anything but an orderly exit fails the test."""
    return call


@pytest.fixture
def every_plot() -> None:
    """Ask for it where a run's plots are looked at."""


@pytest.fixture(autouse=True)
def first_plot_only(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing is more than half of the time of a tiny run; one plot tells whether a run draws any.

    Runs that are made once for all tests have all of theirs.
    """
    if "every_plot" not in request.fixturenames:
        monkeypatch.setattr(products, "available", lambda inputs: available(inputs)[:1])


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Options of a fit that takes no time and learns nothing."""
    return TINY


@pytest.fixture(scope="session")
def frame() -> pd.DataFrame:
    """80 rows of a target in thousands that depends on ``dose`` alone."""
    generator = np.random.default_rng(5)
    x = generator.normal(size=(80, 3))
    y = 5_000 + 1_000 * x[:, 0] + 200 * generator.normal(size=80)
    return pd.DataFrame({"dose": x[:, 0], "age": x[:, 1], "weight": x[:, 2], "price": y})


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory, frame: pd.DataFrame) -> Path:
    file = tmp_path_factory.mktemp("data") / "prices.csv"
    frame.to_csv(file, index=False)
    return file


@pytest.fixture(scope="session")
def table_run(tmp_path_factory: pytest.TempPathFactory, table: Path) -> Path:
    """A run that tests only read."""
    out = tmp_path_factory.mktemp("runs") / "deep" / "table"
    gates = ("--target", "price", "--input-gates", "--batch-size", 16)
    result = call("fit", table, *gates, *TINY, "--out", out)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tests only read."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    result = call("fit", "digits", "--test-fraction", 0.5, *TINY, "--hidden", "12,8", "--out", out)
    assert result.exit_code == 0, result.output
    return out


def write_idx(file: Path, values: np.ndarray) -> None:
    head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    file.write_bytes(head + values.astype(np.uint8).tobytes())


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    """40 training and 12 test images of 4x4 pixels, two classes that differ in brightness."""
    generator = np.random.default_rng(6)
    folder = tmp_path / "images"
    folder.mkdir()
    for prefix, count in (("train", 40), ("t10k", 12)):
        labels = np.arange(count) % 2
        images = generator.integers(0, 100, (count, 4, 4)) + 150 * labels[:, None, None]
        write_idx(folder / f"{prefix}-images-idx3-ubyte", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", labels)
    return folder
