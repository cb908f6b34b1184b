"""Evidence for gates: derivatives by differences, what a set of gates loses, batch norms on the rows' own moments."""

import copy
import warnings

import pytest
import torch
from torch import nn

import pyro_ssbnn as ss
from pyro_ssbnn.compression.evidence import Evidence, GateSlopes

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)).double()
Y = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
OPTIONS = ss.TrainingOptions(epochs=3, dtype="float64", compile=False)


def fitted(net, x=X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ss.fit(net, x, Y, OPTIONS, progress=False)


def whole(description):
    return {g.name: torch.ones(g.size, dtype=torch.bool) for g in description.gated_layers}


def log_likelihood(network, x):
    return network(x).log_softmax(-1)[torch.arange(len(x)), Y]


@pytest.mark.parametrize("prior", [ss.SSIG(), ss.SSGL(), ss.SSGHS()], ids=lambda p: p.name)
def test_slopes_are_the_derivatives_of_the_pruned_networks_log_likelihood(prior):
    """A gate multiplies what its node receives: so do its weights and its bias."""
    result = fitted(ss.MLP(6, [5, 4], prior=prior, likelihood=ss.CategoricalLikelihood(3)))
    masks, before = whole(result.model.description), torch.get_rng_state()
    masks["hidden1"][2] = False
    slopes, weight = GateSlopes(result, X, Y)(masks)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(weight, torch.ones(40, dtype=torch.float64))
    sizes = {name: len(mask) for name, mask in masks.items()}
    kept = {name: mask.nonzero().flatten() for name, mask in masks.items()}
    pruned = ss.prune(result.model, result.guide, ss.Selection(kept, sizes, "some")).network
    assert not slopes["hidden1"][:, 2].any()
    for name, nodes in kept.items():
        for place, node in enumerate(nodes.tolist()):
            sides = []
            for step in (-1e-4, 1e-4):
                network = copy.deepcopy(pruned)
                for key in ("weight", "bias"):
                    network.layers[name].get_buffer(key)[place] *= 1 + step
                sides.append(log_likelihood(network, X))
            slope = (sides[1] - sides[0]) / 2e-4
            torch.testing.assert_close(slopes[name][:, node], slope, rtol=1e-5, atol=1e-7)


def test_batch_norms_take_the_moments_of_the_rows():
    """Running statistics do not matter, and stay as they are."""
    x = torch.randn(40, 3 * 8 * 8, generator=torch.Generator().manual_seed(1)).double()
    likelihood = ss.CategoricalLikelihood(3)
    result = fitted(ss.ResNet((3, 8, 8), 8, prior=ss.SSIG(), likelihood=likelihood), x)
    masks = whole(result.model.description)
    found, _ = GateSlopes(result, x, Y)(masks)
    running = [b for name, b in result.model.named_buffers() if "running_mean" in name]
    before = [b.clone() for b in running]
    for buffer in running:
        buffer += 3.0
    again, _ = GateSlopes(result, x, Y)(masks)
    for name, slope in found.items():
        torch.testing.assert_close(again[name], slope)
    assert all(torch.equal(b, old + 3) for b, old in zip(running, before, strict=True))


def test_rows_count_by_their_weight_and_by_how_many_they_stand_for():
    """Slopes are those of a row seen once, whatever its weight."""
    x, y = X.repeat(20, 1), Y.repeat(20).double()
    module = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    found = {}
    for power in (1.0, 3.0):
        likelihood = ss.CategoricalLikelihood(3, weighted=True)
        net = ss.from_module(module, prior=ss.SSIG(), likelihood=likelihood, example=x[:1])
        guide = ss.StructuredGuide(net).double()
        guide.start_from(net.weights_of(module))
        weighted = torch.stack([y, torch.full_like(y, power)], -1)
        history = ss.History()
        start = ss.Fit(net, guide, OPTIONS, history, len(x))
        found[power] = GateSlopes(start, x, weighted)(whole(net.description))
    assert torch.equal(found[1.0][0]["layer_0"], found[3.0][0]["layer_0"])
    for power, (_, weight) in found.items():
        assert float(weight.sum()) == pytest.approx(800 * power)


def test_a_convolution_after_another_shares_its_slope_over_the_places():
    """The sum over all rows of a scale-free unit's slopes is 0: nothing changes when a map before a norm grows."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 3, 1),
        nn.BatchNorm2d(3, eps=1e-9),
        nn.Flatten(),
        nn.Linear(12, 3),
    ).double()
    x = torch.randn(40, 1, 4, 4).double()
    likelihood = ss.CategoricalLikelihood(3)
    net = ss.from_module(module, prior=ss.SSIG(), likelihood=likelihood, example=x)
    guide = ss.StructuredGuide(net).double()
    guide.start_from(net.weights_of(module))
    start = ss.Fit(net, guide, OPTIONS, ss.History(), len(x))
    slopes, _ = GateSlopes(start, x.flatten(1), Y)(whole(net.description))
    first = slopes["layer_0"].sum(0)
    assert float(first.abs().max()) > 1e-3
    assert float(first.sum()) == pytest.approx(0.0, abs=1e-6)


def test_closing_one_by_one_loses_what_closing_together_does():
    """The second-order expansion of a set, and the prior's odds, whatever the order."""
    generator = torch.Generator().manual_seed(0)
    slopes = torch.randn(30, 5, generator=generator).double()
    weight = torch.rand(30, generator=generator).double()
    prior = torch.randn(5, generator=generator).double()
    for order in ((0, 3, 4), (4, 0, 3)):
        evidence, lost = Evidence(slopes, weight, prior), 0.0
        for j in order:
            lost += float(evidence.of_each[j])
            evidence.close(j)
        together = slopes[:, list(order)].sum(1)
        expected = weight @ (together + together.square() / 2) + prior[list(order)].sum()
        assert lost == pytest.approx(float(expected))


def test_of_two_that_do_the_same_one_stays():
    """Either is worth less than a third node, but not the second of them."""
    slopes = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.2]]).double()
    slopes = torch.cat([slopes, -slopes])
    evidence = Evidence(slopes, slopes.new_ones(4), slopes.new_zeros(3))
    assert evidence.of_each.tolist() == pytest.approx([1.0, 1.0, 1.44])
    evidence.close(0)
    assert evidence.of_each[1:].tolist() == pytest.approx([3.0, 1.44])
