"""The yardstick is fair: the plain network gives what ours gives with open gates, scales of 1 and the same weights."""

import importlib.util
from pathlib import Path

import pytest
import torch
from pyro import poutine

from pyro_ssbnn import SSIG, CategoricalLikelihood, ResNet

FILE = Path(__file__).parents[2] / "benchmarks" / "deterministic.py"


@pytest.fixture
def plain():
    spec = importlib.util.spec_from_file_location("deterministic", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net = module.DeterministicResNet(channels=2, depth=14, classes=3, widths=(3, 4, 7)).double()
    with torch.no_grad():
        for value in net.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) + 0.1)
    return net


@pytest.mark.parametrize("training", [True, False])
def test_both_have_the_same_outputs_and_running_statistics(plain, training):
    likelihood = CategoricalLikelihood(3)
    model = ResNet((2, 9, 8), 14, widths=(3, 4, 7), prior=SSIG(), likelihood=likelihood).double()
    pairs = {"stem": (plain.stem, plain.norm)}
    for number, block in enumerate(plain.blocks):
        name = f"stage{number // 2 + 1}_block{number % 2 + 1}"
        pairs[f"{name}_conv1"] = block.conv1, block.norm1
        pairs[f"{name}_conv2"] = block.conv2, block.norm2
    data = {"output.weight": torch.cat([plain.output.weight, plain.output.bias[:, None]], 1)}
    for name, (conv, norm) in pairs.items():
        columns = [conv.weight.flatten(1), norm.weight[:, None], norm.bias[:, None]]
        data[f"{name}.weight"] = torch.cat(columns, 1)
        data[f"{name}.gate"] = torch.ones(len(conv.weight)).double()
        model.layer(name).statistics.running_mean.copy_(norm.running_mean)
        model.layer(name).statistics.running_var.copy_(norm.running_var)
    x = torch.randn(6, 2 * 9 * 8, dtype=torch.float64)
    model.train(training)
    plain.train(training)
    actual = poutine.condition(model.network, data=data)(x)
    torch.testing.assert_close(actual, plain(x.unflatten(-1, (2, 9, 8))), rtol=1e-10, atol=1e-10)
    for name, (_, norm) in pairs.items():
        statistics = model.layer(name).statistics
        torch.testing.assert_close(statistics.running_mean, norm.running_mean)
        torch.testing.assert_close(statistics.running_var, norm.running_var)
