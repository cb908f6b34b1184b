"""A gate at its other value, by what changes alone and by a pass of its own: the same to rounding."""

import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.inference import branches
from pyro_ssbnn.inference.gate_evidence import _open_draws
from pyro_ssbnn.posterior.networks import outputs
from pyro_ssbnn.structure.flow import downstream, flip_cost

NETWORKS = {
    "one layer": {"num_inputs": 4, "hidden": [5]},
    "predictors": {"num_inputs": 4, "hidden": [5], "input_inclusion": 0.5},
    "two layers": {"num_inputs": 4, "hidden": [5, 3], "input_inclusion": 0.5},
    "factors": {
        "num_inputs": 3,
        "hidden": [5, 3],
        "input_inclusion": 0.5,
        "input_widths": (1, 3, 2),
    },
    "linear terms": {
        "num_inputs": 3,
        "hidden": [4, 3],
        "input_inclusion": 0.5,
        "input_widths": (1, 3, 2),
        "linear": True,
    },
    "linear": {"num_inputs": 4, "hidden": [], "input_inclusion": 0.5},
    "sigmoid": {"num_inputs": 4, "hidden": [5, 3], "activation": "sigmoid"},
}
LIKELIHOODS = [
    ss.GaussianLikelihood(),
    ss.CategoricalLikelihood(3),
    ss.NegativeBinomialLikelihood(weighted=True),
]


def drawn(model, num_draws=6):
    torch.manual_seed(1)
    guide = ss.StructuredGuide(model).double()
    for group in guide.description.gate_groups:
        guide.gate_logits(group.name).data.normal_()
    return _open_draws(guide, guide.description.gate_groups, num_draws)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=lambda made: made.name)
def test_flips_by_rank_one_are_those_by_passes(kind, likelihood, monkeypatch):
    net = ss.MLP(**NETWORKS[kind], prior=ss.SSGHS(inclusion=0.5), likelihood=likelihood)
    groups = net.description.gate_groups
    values = drawn(net)
    x = torch.randn(11, net.description.inputs.num_columns, dtype=torch.float64)
    y = torch.randint(0, 3, (11,))
    if likelihood.weighted:
        y = torch.stack([y.double(), torch.rand(11).double()], 1)
    live = {g.name: list(range(g.size)) for g in groups}
    live[groups[-1].name] = [0, 2]
    monkeypatch.setattr(branches, "_NUMBERS", 70)  # several pieces of draws, rows and members
    with torch.no_grad():
        quick = branches.gains_of_opening(net, groups, values, live, (x, y))
        monkeypatch.setattr(branches.BranchedNetworks, "can", staticmethod(lambda model: False))
        plain = branches.gains_of_opening(net, groups, values, live, (x, y))
    assert quick.keys() == plain.keys() == {g.name for g in groups}
    for name, gain in quick.items():
        torch.testing.assert_close(gain, plain[name], rtol=1e-9, atol=1e-9, equal_nan=True)
        assert gain.isnan().any(0).tolist() == [j not in live[name] for j in range(gain.shape[1])]
    assert any(gain.nan_to_num().abs().max() > 0.01 for gain in quick.values())


class Doubled(ss.MLP):
    """A layer reads twice what the activation gives."""

    @staticmethod
    def wire(net, x):
        h = net.phi(net.layer("hidden1", net.inputs(x)))
        return net.layer("output", 2 * h)


class Twice(ss.MLP):
    """The activation is applied twice."""

    @staticmethod
    def wire(net, x):
        h = net.phi(net.phi(net.layer("hidden1", net.inputs(x))))
        return net.layer("output", h)


@pytest.mark.parametrize("network", [Doubled, Twice])
def test_networks_that_do_more_between_layers_take_a_pass_each(network):
    net = network(
        4,
        [5],
        prior=ss.SSIG(inclusion=0.5),
        likelihood=ss.GaussianLikelihood(),
        input_inclusion=0.5,
    )
    values, groups = drawn(net), net.description.gate_groups
    x = torch.randn(7, 4, dtype=torch.float64)
    live = {"input": [1], "hidden1": [3]}
    with torch.no_grad():
        gains = branches.gains_of_opening(net, groups, values, live, (x, x[:, 0]))
        scale = values["noise.variance"].sqrt()
        for name, (member,) in live.items():
            site, score = f"{name}.gate", []
            for gate in (1.0, 0.0):
                given = {**values, site: values[site].clone()}
                given[site][:, member] = gate
                f = outputs(net, given, x)[..., 0]
                score.append(torch.distributions.Normal(f, scale).log_prob(x[:, 0]).sum(1))
            expected = score[0] - score[1]
            torch.testing.assert_close(gains[name][:, member], expected, rtol=1e-9, atol=1e-9)


def test_a_flip_costs_what_comes_after_it():
    prior, likelihood = ss.SSIG(inclusion=0.5), ss.GaussianLikelihood()
    net = ss.MLP(7, [6, 5], prior=prior, likelihood=likelihood, input_inclusion=0.5)
    description = net.description
    assert [g.name for g in downstream(description, "hidden1")] == ["hidden2", "output"]
    assert [g.name for g in downstream(description, "output")] == []
    hidden2, output = 6 * 7 - 7, 6  # weights with biases: 5 x 7 and 1 x 6
    cost = 7 * (hidden2 + output + 16 * 12 + 50) + 6 * (output + 16 * 6 + 50) + 5 * (16 + 50)
    assert flip_cost(description) == cost
