"""Batch norm of a filter's group: torch's own, draw by draw; its local reparameterisation; its folding."""

import pyro
import pytest
import torch
from torch.nn import BatchNorm2d

from pyro_ssbnn.distributions import GatedNormal
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.layers import (
    ChannelStatistics,
    GroupLinear,
    LocalReparameterization,
    batch_norm,
    scale_and_shift,
)
from pyro_ssbnn.priors import SSIG
from pyro_ssbnn.structure.groups import NodeGroup

SIZE, COLUMNS = 3, 6


def torchs(scale, shift, training):
    norm = BatchNorm2d(SIZE).double().train(training)
    with torch.no_grad():
        norm.weight.copy_(scale)
        norm.bias.copy_(shift)
    return norm


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("lead", [(), (1,), (3,), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_draw_is_torchs_batch_norm_and_the_running_statistics_average(lead, training, dtype):
    y = torch.randn(*lead, 5, SIZE, 4, 3, dtype=torch.float64)
    weight = torch.randn(*lead, SIZE, COLUMNS, dtype=torch.float64)
    amplitude = torch.rand(*lead, SIZE, dtype=torch.float64)
    statistics = ChannelStatistics(SIZE).to(dtype).train(training)
    actual = batch_norm(y, weight, amplitude, statistics)
    assert actual.shape == y.shape
    scale, shift = amplitude * weight[..., -2], amplitude * weight[..., -1]
    norms = []
    rows = zip(
        y.reshape(-1, *y.shape[-4:]), scale.reshape(-1, SIZE), shift.reshape(-1, SIZE), strict=True
    )
    for i, (one, a, b) in enumerate(rows):
        norms.append(torchs(a, b, training))
        expected = norms[-1](one)
        torch.testing.assert_close(actual.reshape(-1, *y.shape[-4:])[i], expected)
    for name in ("running_mean", "running_var"):
        mean = torch.stack([getattr(n, name) for n in norms]).mean(0)
        torch.testing.assert_close(getattr(statistics, name), mean.to(dtype))


def test_a_closed_gate_gives_exactly_zero_and_gradients_reach_both_columns():
    y = torch.randn(5, SIZE, 4, 3, dtype=torch.float64)
    weight = torch.randn(SIZE, COLUMNS, dtype=torch.float64, requires_grad=True)
    amplitude = torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64)
    f = batch_norm(y, weight, amplitude, ChannelStatistics(SIZE).double())
    assert (f[:, 1] == 0).all()
    f.square().sum().backward()
    assert (weight.grad[[0, 2], -2:] != 0).all()
    assert (weight.grad[1] == 0).all()


def test_drawn_maps_have_the_mean_and_variance_of_drawn_scales_and_shifts(check_mean):
    loc, log_scale = torch.randn(2, SIZE, COLUMNS, dtype=torch.float64)
    ones = torch.ones(SIZE, 1).double()
    fn = GatedNormal(loc, log_scale - 1, ones, ones, torch.tensor(1.0).double())
    y = torch.randn(2, SIZE, 2, 2, dtype=torch.float64)
    statistics = ChannelStatistics(SIZE).double()
    amplitude = torch.rand(SIZE, dtype=torch.float64)

    def local():
        with LocalReparameterization():
            return batch_norm(y, pyro.sample("u", fn), amplitude, statistics)

    samples = torch.stack([local() for _ in range(4000)])
    n = statistics(y)
    mean = amplitude[:, None, None] * scale_and_shift(n, loc)
    variance = amplitude.square()[:, None, None] * scale_and_shift(n**2, fn.scale**2)
    check_mean(samples, mean)
    check_mean((samples - mean).square(), variance)


def test_dense_layers_refuse_it():
    group = NodeGroup("hidden1", 3, 0.5, 4, SSIG(), "input", own=2)
    with pytest.raises(ConfigurationError, match="Batch norm belongs to convolutions"):
        GroupLinear(group)
