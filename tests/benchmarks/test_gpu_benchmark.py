"""The GPU's benchmark: what bounds a step, parts that fail or run out of time, and its timing; all on the CPU."""

import argparse
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import gpu
    import gpu_steps

    yield gpu, gpu_steps
    for name in ("gpu", "gpu_steps", "gpu_parts", "gpu_sizes"):
        sys.modules.pop(name, None)


def test_operations_of_a_perceptrons_step_are_those_of_its_products(modules):
    """Mean and variance of each layer: forwards, and backwards to the weights and (but for the first) to the input."""
    _, steps = modules
    batch, weights = 16, (784 * 400, 400 * 400, 400 * 10)
    found = steps.bounds_of(steps.Setting("mlp", batch, torch.device("cpu")))
    products = 2 * (3 * sum(weights) - weights[0])
    assert found["operations"] == 2 * batch * products
    parameters = 4 * 2 * (785 * 400 + 401 * 400 + 401 * 10)
    # Read, their gradients written, Adam's seven passes: and not twice that.
    assert 9 * parameters < found["bytes"] < 20 * parameters


def test_a_step_is_timed(modules):
    _, steps = modules
    setting = steps.Setting("mlp", 8, torch.device("cpu"))
    found = steps.time_step("eager", setting, 0.05)
    assert found["images a second"] == pytest.approx(8e3 / found["ms"])
    # Milliseconds beside seconds: other work may make either the longer one, but not a hundred times.
    assert 0 < found["ms"] < 1e5 * found["first call s"]
    with pytest.raises(ValueError, match="cpu has no CUDA graphs"):
        steps.time_step("compiled, graphs", setting, 0.05)


def test_a_part_that_fails_or_takes_too_long_is_told_with_what_it_had_found(modules, monkeypatch):
    gpu, _ = modules
    arguments = argparse.Namespace(device="cpu", mnist=None, cifar=None)

    def part(name, arguments, tell):
        tell(figure=1.5)
        if name == "failing":
            raise RuntimeError("an illegal memory access")
        if name == "endless":
            while True:
                pass

    monkeypatch.setattr(gpu, "run", part)
    well, failing, endless = (
        gpu.run_part(name, arguments, 1.0) for name in ("well", "failing", "endless")
    )
    assert [found["rows"] for found in (well, failing, endless)] == [[{"figure": 1.5}]] * 3
    assert [found["ended"] for found in (well, failing, endless)] == [
        "well",
        "with exit status 1",
        "out of time",
    ]
    assert failing["last words"][-1] == "RuntimeError: an illegal memory access"


def test_a_rehearsed_part_takes_what_others_have_saved_and_leaves_later_ones_theirs(modules):
    gpu, _ = modules
    parts = list(gpu.PARTS)
    sure = {name: seconds for name, (_, seconds) in gpu.PARTS.items()}
    assert sum(sure.values()) < 110  # and the imports
    for number, name in enumerate(parts, 1):
        later = parts[number:]
        ample = gpu.seconds_for(name, later, 200.0, True)
        assert ample == pytest.approx(200.0 - sum(sure[other] for other in later))
        assert gpu.seconds_for(name, later, 1.0, True) == 1.0
        assert gpu.seconds_for(name, later, 1000.0, False) == gpu.PARTS[name][0]


@pytest.mark.slow
def test_the_rehearsal_is_clean(tmp_path):
    """All parts, each with figures, in a command of its own: a minute of a free core, and longer of a busy one."""
    file = tmp_path / "gpu.json"
    command = [sys.executable, str(FOLDER / "gpu.py"), "--device", "cpu", "--budget", "600"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*command, "--json", str(file)], capture_output=True, text=True, check=False, timeout=620
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 100
    found = json.loads(file.read_text())
    assert found["rehearsal"]
    for name, part in found["parts"].items():
        assert part["ended"] == "well", (name, part)
        assert part["rows"], name
        assert not any("failed" in row for row in part["rows"]), part["rows"]
    steps = [row["step"] for row in found["parts"]["steps mlp"]["rows"]]
    assert steps[-1] == "compiled"
