"""Channel beside channel, the layout of the CPU and of tensor cores: the same numbers, and all the way through."""

import sys

import pytest
import torch
from torch.overrides import TorchFunctionMode

from pyro_ssbnn import (
    SSIG,
    AnalyticELBO,
    CategoricalLikelihood,
    LeNet,
    ResNet,
    StructuredGuide,
    WideResNet,
)
from pyro_ssbnn.inference.step import EagerStep, TracedStep
from pyro_ssbnn.isolation import isolated
from pyro_ssbnn.layers import folded

CONVOLUTION = sys.modules[folded.__module__]  # the function of that name hides the module
SHAPE = (3, 16, 16)
CLASSES = CategoricalLikelihood(3)
NETWORKS = {
    "lenet": lambda: LeNet(SHAPE, prior=SSIG(), likelihood=CLASSES),
    "resnet": lambda: ResNet(SHAPE, 8, widths=(4, 4, 8), prior=SSIG(), likelihood=CLASSES),
    "wide": lambda: WideResNet(SHAPE, 10, 1, prior=SSIG(), likelihood=CLASSES),
}


class Maps(TorchFunctionMode):
    """Whether the maps that convolutions read lie channel beside channel."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.conv2d:
            self.found.append(args[0].is_contiguous(memory_format=torch.channels_last))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_layout_goes_through_and_changes_nothing_but_rounding(name, monkeypatch):
    x, y = torch.randn(6, 3 * 256), torch.arange(6) % 3
    model = NETWORKS[name]().train()
    guide = StructuredGuide(model)
    found = []
    for last in (False, True):
        monkeypatch.setattr(CONVOLUTION, "_channels_last", lambda device, last=last: last)
        step = EagerStep(model, guide, AnalyticELBO(), 100)
        with isolated(0, x, grad=True), Maps() as maps:
            terms = step(x, y, torch.ones(()))
        found.append([terms, *(p.grad for p in guide.parameters())])
        assert all(maps.found) is last
        assert len(maps.found) == sum(g.geometry is not None for g in model.description.groups)
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5)


def test_traced_steps_keep_the_layout(monkeypatch):
    x, y = torch.randn(6, 3 * 256), torch.arange(6) % 3
    model = NETWORKS["lenet"]()
    guide = StructuredGuide(model)
    monkeypatch.setattr(CONVOLUTION, "_channels_last", lambda device: True)
    terms = []
    for kind in (EagerStep, TracedStep):
        step = kind(model, guide, AnalyticELBO(), 100)
        with isolated(0, x, grad=True):
            terms.append(step(x, y, torch.ones(())))
        assert all(p.grad.is_contiguous() for p in guide.parameters())
    assert torch.equal(*terms)


def test_the_cpu_reads_channel_beside_channel():
    model = NETWORKS["resnet"]().train()
    step = EagerStep(model, StructuredGuide(model), AnalyticELBO(), 100)
    with Maps() as maps:
        step(torch.randn(6, 3 * 256), torch.arange(6) % 3, torch.ones(()))
    assert len(maps.found) > 5
    assert all(maps.found)
