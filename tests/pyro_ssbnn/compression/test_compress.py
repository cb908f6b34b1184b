"""Compression of trained modules: smaller, of the same interface, within its target."""

import copy

import pytest
import torch
from torch import nn

import pyro_ssbnn as ss
from pyro_ssbnn.errors import ConfigurationError, DataError

# Classes that two of eight inputs tell apart.
X = torch.randn(240, 8, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0].abs() + X[:, 1] > 0.8).long()
OPTIONS = ss.TrainingOptions(
    epochs=30, batch_size=60, mean_rate=0.012, gate_rate=0.1, compile=False
)


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 2))
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(X), Y).backward()
        optimizer.step()
    return network


def compressed(module, options=OPTIONS, likelihood=None, **given):
    likelihood = likelihood or ss.CategoricalLikelihood(2)
    return ss.compress(
        module, X, Y, likelihood=likelihood, options=options, progress=False, **given
    )


def accuracy(network):
    with torch.no_grad():
        return float((network(X).argmax(1) == Y).float().mean())


def test_a_smaller_module_of_the_same_interface(module):
    state, training = copy.deepcopy(module.state_dict()), module.training
    result = compressed(module)
    assert all(torch.equal(v, state[k]) for k, v in module.state_dict().items())
    assert module.training == training
    kept = int(result.layers.loc["layer_0", "nodes_kept"])
    assert 0 < kept < 24
    assert result.module.get_submodule("0").weight.shape == (kept, 8)
    assert accuracy(result.module) > accuracy(module.eval()) - 0.02
    with torch.no_grad():
        pruned = result.pruning.network(X)
        torch.testing.assert_close(result.module(X), pruned)
    # The posterior beside it is that of the same network.
    inclusion = result.fit.guide.inclusion()["layer_0"]
    assert (
        inclusion.nonzero().flatten().tolist() == result.pruning.selection.kept["layer_0"].tolist()
    )
    module.train(training)


def test_targets(module):
    quick = ss.TrainingOptions(epochs=2, batch_size=60, compile=False)
    result = compressed(module, quick, nodes=5, fine_tune_epochs=0)
    assert result.pruning.selection.counts == {"layer_0": 5}
    total = compressed(module, quick, multiply_adds=0.5).pruning.report.loc["total"]
    per_node = 8 + 2  # batch norms are not counted
    assert total["multiply_adds_kept"] <= 0.5 * total["multiply_adds"]
    assert total["multiply_adds_kept"] + per_node > 0.5 * total["multiply_adds"]
    assert compressed(module, quick, latency=1e3).pruning.selection.counts == {"layer_0": 24}


def test_a_latency_out_of_reach(module):
    quick = ss.TrainingOptions(epochs=1, batch_size=60, compile=False)
    with pytest.raises(ConfigurationError, match=r"latency of 1e-09 cannot be reached"):
        compressed(module, quick, latency=1e-9)


def test_accuracy_lost(module):
    """The fewest nodes in their order, before anything is trained."""
    quick = ss.TrainingOptions(epochs=1, batch_size=60, compile=False)
    given, before = {"validation": (X, Y), "fine_tune_epochs": 0}, accuracy(module.eval())
    counts = []
    for limit in (0.0, 0.03, 0.3):
        result = compressed(module, quick, accuracy_lost=limit, **given)
        assert accuracy(result.module) >= before - limit
        counts.append(result.pruning.selection.counts["layer_0"])
        # The posterior beside it is of these nodes, also where nothing was trained.
        inclusion = result.fit.guide.inclusion()["layer_0"]
        assert inclusion.nonzero().flatten().tolist() == (
            result.pruning.selection.kept["layer_0"].tolist()
        )
    assert 24 >= counts[0] >= counts[1] >= counts[2] >= 1
    assert counts[2] < counts[0]


def test_gradient_descent_takes_steps_of_the_loss_before_its_power(module):
    """The prior aside, which weighs a thousandth of a row, the power changes nothing."""
    quick = ss.TrainingOptions(
        epochs=2, batch_size=60, optimizer="sgd", mean_rate=0.01, scale_rate=1e-9, compile=False
    )
    weights = [
        compressed(module, quick, power=power, multiply_adds=0.5).module.state_dict()
        for power in (1e4, 1e6)
    ]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], rtol=1e-2, atol=1e-3)


def test_the_power_is_a_weight_of_every_row(module):
    """A bound of the likelihood to the power 3 is that of data seen three times."""
    quick = ss.TrainingOptions(epochs=1, batch_size=240, compile=False)
    found = compressed(module, quick, power=3.0, fine_tune_epochs=0).fit
    assert found.model.likelihood.weighted
    weighted = torch.stack([Y.float(), torch.full((240,), 2.0)], -1)
    again = ss.compress(
        module,
        X,
        weighted,
        likelihood=ss.CategoricalLikelihood(2, weighted=True),
        options=quick,
        power=1.5,
        fine_tune_epochs=0,
        progress=False,
    ).fit
    assert found.history.elbo == again.history.elbo
    plain = compressed(module, quick, power=1, fine_tune_epochs=0).fit
    assert not plain.model.likelihood.weighted


def test_the_power_under_a_limit(module):
    """A limit decides on the size, and the prior weighs less."""
    quick = ss.TrainingOptions(epochs=1, batch_size=240, compile=False)
    given = {"multiply_adds": 1.0}
    default = compressed(module, quick, **given).fit
    again = compressed(module, quick, power=1000.0, **given).fit
    assert default.history.elbo.tolist() == again.history.elbo.tolist()
    without = compressed(module, quick, fine_tune_epochs=0).fit.history.elbo
    explicit = compressed(module, quick, power=50.0, fine_tune_epochs=0).fit.history.elbo
    assert without == explicit != default.history.elbo


def test_bad_arguments(module):
    with pytest.raises(ConfigurationError, match="give one target; got nodes and latency"):
        compressed(module, nodes=3, latency=1.0)
    with pytest.raises(ConfigurationError, match="needs validation"):
        compressed(module, accuracy_lost=0.01)
    with pytest.raises(ConfigurationError, match="accuracy_lost is for classes"):
        compressed(module, accuracy_lost=0.01, likelihood=ss.GaussianLikelihood())
    with pytest.raises(DataError, match=r"a label a row, \[240\]; got \[239\]"):
        compressed(module, accuracy_lost=0.01, validation=(X, Y[1:]))
    with pytest.raises(DataError, match="x must be a floating-point tensor"):
        ss.compress(module, X.long(), Y, likelihood=ss.CategoricalLikelihood(2))
