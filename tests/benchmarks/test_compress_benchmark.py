"""The benchmark of compression: its counts, its training, the rival's cut."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def networks(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import compress_networks

    yield compress_networks
    sys.modules.pop("compress_networks", None)


def test_multiply_adds_by_hand(networks):
    """Of a residual network of width 4: 3 x 3 kernels on maps of 32, 16 and 8 pixels a side."""
    module = networks.resnet(blocks=1, width=4)
    stem = 3 * 4 * 9 * 32**2
    stages = [
        (4 * 4 * 9 + 4 * 4 * 9) * 32**2,
        (4 * 8 * 9 + 8 * 8 * 9 + 4 * 8) * 16**2,
        (8 * 16 * 9 + 16 * 16 * 9 + 8 * 16) * 8**2,
    ]
    found = networks.multiply_adds(module, torch.randn(2, 3, 32, 32))
    assert found == stem + sum(stages) + 16 * 10


def test_training_learns_and_keeps_to_its_seconds(networks, monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr(networks.time, "process_time", lambda: float(next(clock)))
    torch.manual_seed(0)
    x = torch.randn(64, 1, 8, 8)
    images = networks.Images(x, (x.mean((1, 2, 3)) > 0).long())
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    before = networks.accuracy(module, images)
    networks.train(module, images, rate=0.1, seed=0, seconds=50, batch_size=16)
    assert next(clock) == 51  # one reading at the start, one a step until 50 have passed
    assert not module.training
    assert networks.accuracy(module, images) > max(0.9, before)


def test_the_rivals_cut_is_within_the_limit(networks):
    pytest.importorskip("torch_pruning")
    torch.manual_seed(0)
    module, x = networks.resnet(blocks=1, width=4), torch.randn(2, 3, 32, 32)
    most = 0.5 * networks.multiply_adds(module, x)
    cut = networks.cut_by_magnitude(module, x, most, everywhere=True)
    assert 0.3 * most < networks.multiply_adds(cut, x) <= most
    assert cut(x).shape == (2, 10)
