"""Evidence and cuts in networks of every kind that can be read."""

import sys
from pathlib import Path

import pyro
import pytest
import torch
from pyro import poutine

import pyro_ssbnn as ss
from pyro_ssbnn.compression.evidence import GateSlopes

sys.path.insert(0, str(Path(__file__).parents[2] / "models" / "traced"))
from modules import MODULES, joined, made

OPTIONS = ss.TrainingOptions(epochs=1, dtype="float64", compile=False)


@pytest.mark.parametrize("name", MODULES)
def test_slopes_add_up_to_the_gradient_of_the_gates(name):
    """Of the rows together; the gradient by the gates' own values is taken apart from the maps."""
    module, x = made(name)
    classes = joined(module(x)).shape[1]
    likelihood = ss.CategoricalLikelihood(classes)
    net = ss.from_module(module, prior=ss.SSIG(), likelihood=likelihood, example=x)
    guide = ss.StructuredGuide(net).double()
    guide.start_from(net.weights_of(module))
    y, rows = torch.arange(len(x)) % classes, x.flatten(1)
    judge = GateSlopes(ss.Fit(net, guide, OPTIONS, ss.History(), len(x)), rows, y)
    layers = net.description.gated_layers
    slopes, _ = judge({g.name: torch.ones(g.size, dtype=torch.bool) for g in layers})
    gates = {g.gate_site: torch.ones(1, g.size).double().requires_grad_() for g in layers}
    with pyro.plate("draws", 1, dim=-2):
        f = poutine.condition(judge.model.network, data={**judge.values, **gates})(rows)
    score = f.squeeze(0).log_softmax(-1)[torch.arange(len(x)), y].sum()
    expected = torch.autograd.grad(score, list(gates.values()), allow_unused=True)
    for group, gradient in zip(layers, expected, strict=True):
        gradient = torch.zeros(group.size).double() if gradient is None else gradient.squeeze(0)
        torch.testing.assert_close(slopes[group.name].sum(0), gradient, rtol=1e-7, atol=1e-9)
