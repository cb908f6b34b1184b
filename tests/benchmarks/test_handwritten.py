"""The yardstick is fair: the hand-written network has the objective of ours."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch.nn.functional import softplus

from pyro_ssbnn import MLP, SSGHS, AnalyticELBO, CategoricalLikelihood, StructuredGuide

FILE = Path(__file__).parents[2] / "benchmarks" / "handwritten.py"


@pytest.fixture
def handwritten():
    spec = importlib.util.spec_from_file_location("handwritten", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def copy_site(site, loc, rho):
    """A guide's LogNormal or Normal site into (loc, rho) of the hand-written network."""
    with torch.no_grad():
        loc.copy_(site.loc)
        rho.copy_(torch.log(torch.expm1(site.log_scale.exp())))


def test_both_have_the_same_kl_and_the_same_predictions(handwritten):
    inclusion = (0.2, 0.05)
    model = MLP(5, [7, 4], prior=SSGHS(inclusion=inclusion), likelihood=CategoricalLikelihood(3))
    guide = StructuredGuide(model, initial_inclusion=0.3).double()
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    network = handwritten.HandWritten([5, 7, 4, 3], list(inclusion), 50).double()
    names = [g.name for g in model.description.groups]
    for name, layer in zip(names, network.layers, strict=True):
        ours = getattr(guide, name)
        copy_site(ours.weight, layer.loc, layer.rho)
        if layer.gated:
            layer.logits.data.copy_(ours.gate.logits)
            copy_site(ours.scales.scale_a, layer.scales.loc_a, layer.scales.rho_a)
            copy_site(ours.scales.scale_b, layer.scales.loc_b, layer.scales.rho_b)
    shared = guide.get_submodule("global")
    copy_site(shared.scale_a, network.shared.loc_a, network.shared.rho_a)
    copy_site(shared.scale_b, network.shared.loc_b, network.shared.rho_b)
    x, y = torch.randn(6, 5, dtype=torch.float64), torch.arange(6) % 3
    kl = sum(AnalyticELBO().terms(model, guide, x, y).kl.values())
    torch.testing.assert_close(network.kl(), kl)
    # Without noise, and with every gate open, both are one deterministic network.
    with torch.no_grad():
        for module in (guide, network):
            for name, parameter in module.named_parameters():
                if "log_scale" in name or "rho" in name:
                    parameter.fill_(-40.0)
                elif "logits" in name:
                    parameter.fill_(40.0)
    assert float(softplus(torch.tensor(-40.0))) < 1e-17
    score = AnalyticELBO().terms(model, guide, x, y).log_likelihood["obs"]
    loss = network.loss(x, y) - network.kl() / 50
    torch.testing.assert_close(-loss * 6, score)
