"""The perceptron as a Pyro model: sites, scaling, soundness of its prior, and bad shapes."""

import json

import pyro
import pytest
import torch
from pyro import poutine

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSIG,
    BernoulliLikelihood,
    CategoricalLikelihood,
    Gaussian,
    GaussianLikelihood,
    GroupHorseshoe,
    PoissonLikelihood,
    TheoryInclusion,
)
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.likelihoods import likelihood_from_config
from pyro_ssbnn.models import network_from_config


def test_site_names_and_shapes():
    net = MLP(
        5,
        [4, 3],
        prior=SSGHS(cap=None),
        likelihood=GaussianLikelihood(),
        output_prior=GroupHorseshoe(),
        input_inclusion=0.2,
    )
    trace = poutine.trace(net).get_trace(torch.randn(7, 5))
    shapes = {
        n: tuple(trace.nodes[n]["value"].shape) for n in trace.stochastic_nodes if n != "data"
    }
    plates = {n: shapes.pop(n) for n in ("input", "hidden1", "hidden2", "output")}
    assert plates == {"input": (5,), "hidden1": (4,), "hidden2": (3,), "output": (1,)}
    assert shapes == {
        "global.scale_a": (),
        "global.scale_b": (),
        "global.cap": (),
        "output.global.scale_a": (),
        "output.global.scale_b": (),
        "input.gate": (5,),
        "hidden1.gate": (4,),
        "hidden1.scale_a": (4,),
        "hidden1.scale_b": (4,),
        "hidden1.weight": (4, 6),
        "hidden2.gate": (3,),
        "hidden2.scale_a": (3,),
        "hidden2.scale_b": (3,),
        "hidden2.weight": (3, 5),
        "output.scale_a": (1,),
        "output.scale_b": (1,),
        "output.weight": (1, 4),
        "noise.variance": (),
        "obs": (7,),
    }


def test_forward_is_the_formula_with_gates_closed_and_open():
    net = MLP(
        3,
        [4],
        prior=SSIG(inclusion=0.5),
        likelihood=GaussianLikelihood(scale=1.0),
        activation="tanh",
    )
    x = torch.randn(6, 3)
    u, v = torch.randn(4, 4), torch.randn(1, 5)
    gate = torch.tensor([1.0, 0.0, 1.0, 0.0])
    data = {"hidden1.gate": gate, "hidden1.weight": u, "output.weight": v}
    f = poutine.condition(net, data=data)(x)
    hidden = torch.tanh(gate * (x @ u[:, :-1].T + u[:, -1]))
    torch.testing.assert_close(f, hidden @ v[:, :-1].T + v[:, -1])


def test_a_closed_predictor_does_not_matter():
    net = MLP(
        3,
        [4],
        prior=SSIG(inclusion=0.5),
        likelihood=GaussianLikelihood(scale=1.0),
        input_inclusion=0.5,
    )
    x = torch.randn(6, 3)
    other = x.clone()
    other[:, 1] = 100.0
    data = {"input.gate": torch.tensor([1.0, 0.0, 1.0])}
    outputs = []
    for value in (x, other):
        torch.manual_seed(3)
        outputs.append(poutine.condition(net.network, data=data)(value))
    torch.testing.assert_close(*outputs)


def test_prior_inclusion_frequency(check_mean):
    net = MLP(2, [1000], prior=SSIG(inclusion=0.03), likelihood=GaussianLikelihood())
    gate = poutine.trace(net).get_trace(torch.zeros(1, 2)).nodes["hidden1.gate"]["value"]
    check_mean(gate.double(), torch.tensor(0.03).double())


def test_layers_get_the_theorys_inclusion():
    prior = SSGHS(inclusion=TheoryInclusion(60_000))
    net = MLP(784, [400, 400], prior=prior, likelihood=CategoricalLikelihood(10))
    got = [g.inclusion for g in net.description.gated_layers]
    assert got == pytest.approx([1.5e-3, 2.3e-3], rel=0.05)
    each = MLP(4, [5, 6], prior=SSIG(inclusion=(0.1, 0.2)), likelihood=GaussianLikelihood())
    assert [g.inclusion for g in each.description.gated_layers] == [0.1, 0.2]


def test_minibatch_scales_the_likelihood_only():
    net = MLP(2, [3], prior=SSIG(), likelihood=GaussianLikelihood(scale=1.0))
    x, y = torch.randn(5, 2), torch.randn(5)
    trace = poutine.trace(net).get_trace(x, y, num_data=50)
    trace.compute_log_prob()
    obs = trace.nodes["obs"]
    assert obs["log_prob_sum"].item() == pytest.approx(
        10 * obs["unscaled_log_prob"].sum().item(), rel=1e-5
    )
    assert trace.nodes["hidden1.weight"]["scale"] == 1.0


def test_records_make_the_same_network_again():
    net = MLP(
        5,
        [4],
        prior=SSGHS(inclusion=TheoryInclusion(100)),
        likelihood=GaussianLikelihood(num_targets=2),
        output_prior=Gaussian(scale=0.5),
        activation="relu",
        input_inclusion=0.2,
        input_names=list("abcde"),
    )
    again = network_from_config(json.loads(json.dumps(net.to_config())))
    assert again.to_config() == net.to_config()
    assert again.description == net.description


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_inputs": 0}, "every width"),
        ({"hidden": [3, 0]}, "every width"),
        ({"activation": "relu6000"}, "activation must be one of"),
        ({"output_prior": SSIG()}, "output layer carries no gates"),
        ({"input_inclusion": 1.5}, "strictly between 0 and 1"),
        ({"input_names": ["a"]}, "2 different names"),
        ({"input_names": ["a", "a"]}, "2 different names"),
        ({"prior": SSIG(inclusion=(0.1, 0.2, 0.3))}, "3 probabilities for 1 hidden layer;"),
    ],
)
def test_bad_networks_are_refused(options, message):
    given = {"num_inputs": 2, "hidden": [3], "prior": SSIG(), "likelihood": GaussianLikelihood()}
    with pytest.raises(ConfigurationError, match=message):
        MLP(**{**given, **options})


def test_bad_records_are_refused():
    with pytest.raises(ConfigurationError, match="expected one of"):
        network_from_config({"network": "transformer"})
    with pytest.raises(ConfigurationError, match="bad record"):
        network_from_config({"network": "mlp", "hidden": [3]})
    with pytest.raises(ConfigurationError, match="likelihood: expected one of"):
        likelihood_from_config({"name": "cauchy"})


@pytest.mark.parametrize(
    ("likelihood", "y", "message"),
    [
        (PoissonLikelihood(), [1.0, -1.0], "counts 0, 1, 2"),
        (PoissonLikelihood(), [1.0, 0.5], "counts 0, 1, 2"),
        (BernoulliLikelihood(), [0.0, 2.0], "only 0 and 1"),
        (BernoulliLikelihood(), [1.0, 1.0], "both classes"),
        (GaussianLikelihood(num_targets=2), [1.0, 1.0], r"must be \[N, 2\]"),
    ],
)
def test_targets_are_checked(likelihood, y, message):
    with pytest.raises(DataError, match=message):
        likelihood.check_target(torch.tensor(y))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GaussianLikelihood(scale=0.0), "scale must be a positive"),
        (lambda: GaussianLikelihood(rate=-1.0), "rate must be a positive"),
        (lambda: CategoricalLikelihood(1), "at least 2"),
    ],
)
def test_bad_likelihoods_are_refused(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_noise_prior_is_the_inverse_gamma_of_its_parameters(check_mean):
    """The precision is Gamma(concentration, rate): mean concentration/rate."""
    likelihood = GaussianLikelihood(concentration=3.0, rate=0.5)
    with pyro.plate("draws", 100_000):
        draws = likelihood.sample_latents(torch.zeros((), dtype=torch.float64))["noise.variance"]
    check_mean(1 / draws, torch.tensor(6.0).double())
