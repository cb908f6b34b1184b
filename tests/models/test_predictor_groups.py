"""Predictors of several columns: one gate for all of them, in the model, its bound, its tables, files and the cut."""

import json

import numpy as np
import pytest
import torch
from pyro import poutine

import pyro_ssbnn as ss
from pyro_ssbnn.models import network_from_config

WIDTHS = (1, 3, 2, 1)
COLUMNS = 7


def network(widths=WIDTHS, prior=None, **options):
    options = {"input_inclusion": 0.2, **options}
    return ss.MLP(
        len(widths),
        [5],
        prior=prior or ss.SSGHS(inclusion=0.3),
        likelihood=ss.GaussianLikelihood(),
        input_names=["age", "region", "income", "sex"],
        input_widths=widths,
        **options,
    )


def guided(net, *, seed=0):
    """A guide with gates and weights off their starting values."""
    torch.manual_seed(seed)
    guide = ss.StructuredGuide(net)
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        guide.input.logits.copy_(torch.tensor([2.0, 3.0, -4.0, -1.0]))
        guide.hidden1.gate.logits.copy_(torch.tensor([2.0, -1.0, 3.0, 1.0, -2.0]))
    return guide


def test_a_predictor_owns_neighbouring_columns_and_one_gate():
    description = network().description
    assert description.inputs.num_columns == COLUMNS
    assert description["hidden1"].fan_in == COLUMNS
    assert description.inputs.column_names == (
        "age",
        "region.0",
        "region.1",
        "region.2",
        "income.0",
        "income.1",
        "sex",
    )
    assert "4 gated predictors (7 columns)" in description.in_words()
    trace = poutine.trace(network()).get_trace(torch.randn(6, COLUMNS))
    assert trace.nodes["input.gate"]["value"].shape == (4,)
    assert trace.nodes["hidden1.weight"]["value"].shape == (5, COLUMNS + 1)


def test_a_closed_predictor_hides_all_its_columns_and_no_other():
    net = network()
    x = torch.randn(6, COLUMNS)
    data = {"input.gate": torch.tensor([1.0, 0.0, 1.0, 1.0])}

    def output(x):
        torch.manual_seed(3)
        return poutine.condition(net.network, data=data)(x)

    other, seen = x.clone(), x.clone()
    other[:, 1:4] = 100.0
    seen[:, 4] += 1.0
    torch.testing.assert_close(output(x), output(other), rtol=0, atol=0)
    assert not torch.allclose(output(x), output(seen))


def test_gates_reach_their_columns_with_exact_gradients():
    inputs = network().description.inputs
    gates = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    spread = inputs.spread(gates)
    torch.testing.assert_close(spread, gates.repeat_interleave(torch.tensor(WIDTHS), -1))
    spread.pow(2).sum().backward()
    torch.testing.assert_close(gates.grad, 2 * gates.detach() * torch.tensor(WIDTHS))


def test_one_gate_a_predictor_in_the_bound():
    """KL(q || p) of the gates is that of four Bernoullis; a weight's counts by its predictor's and its node's gate."""
    net = network(prior=ss.SSIG(inclusion=0.3))
    guide = guided(net)
    x, y = torch.randn(9, COLUMNS), torch.randn(9)
    found = ss.AnalyticELBO().terms(net, guide, x, y).kl
    q, p = guide.input.logits.detach().sigmoid(), torch.tensor(0.2)
    kl = (q * (q / p).log() + (1 - q) * ((1 - q) / (1 - p)).log()).sum()
    assert float(found["input.gate"].detach()) == pytest.approx(float(kl), rel=1e-5)
    site, rows = guide.hidden1.weight, guide.hidden1.gate.logits.detach().sigmoid()
    columns = torch.cat([q.repeat_interleave(torch.tensor(WIDTHS)), torch.ones(1)])
    loc, scale = site.loc.detach(), site.log_scale.detach().exp()
    each = 0.5 * (scale**2 + loc**2 - 1) - scale.log()
    expected = (rows[:, None] * columns * each).sum()
    assert float(found["hidden1.weight"].detach()) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("prior", [ss.SSIG(0.3), ss.SSGL(0.3), ss.SSGHS(0.3)])
@pytest.mark.parametrize("draws", [None, 3])
def test_the_pruned_network_is_the_masked_one(prior, draws):
    net = network(prior=prior)
    guide = guided(net)
    pruning = ss.prune(net, guide, num_draws=draws)
    assert pruning.selection.kept["input"].tolist() == [0, 1]
    assert pruning.network.input_index.tolist() == [0, 1, 2, 3]
    assert pruning.network.num_inputs == COLUMNS
    x = torch.randn(8, COLUMNS)
    if draws is None:
        open = {name: pruning.selection.mask(name).float() for name in pruning.selection.kept}
        w, v = guide.mean_weights("hidden1"), guide.mean_weights("output")
        gate = open["input"].repeat_interleave(torch.tensor(WIDTHS))
        hidden = open["hidden1"] * ((x * gate) @ w[:, :-1].T + w[:, -1])
        expected = torch.nn.functional.silu(hidden) @ v[:, :-1].T + v[:, -1]
        torch.testing.assert_close(pruning.network(x), expected)
    other = x.clone()
    other[:, 4:] = torch.nan  # closed predictors are not looked at
    torch.testing.assert_close(pruning.network(other), pruning.network(x))


def test_drawn_networks_predict_as_the_model_does():
    """The engine's plain networks against the model with the same latents, gates closed at random among them."""
    net = network()
    guide = guided(net)
    x = torch.randn(6, COLUMNS)
    draws = ss.draw_posterior(net, guide, 50, x=x, seed=1, weights=True)
    assert 0 < float(draws.latents["input.gate"].mean()) < 1
    mean = ss.predict(net, guide, x, num_draws=50, seed=1).mean
    torch.testing.assert_close(mean, draws.mean.mean(0).double(), rtol=1e-4, atol=1e-5)
    closed = draws.latents["input.gate"] == 0
    weights = draws.weights["hidden1"]
    assert (weights[..., 1:4][closed[:, 1]] == 0).all()
    assert (weights[..., 1:4][~closed[:, 1]] != 0).any()


def test_one_row_a_predictor_in_tables_and_exports(tmp_path):
    net = network()
    guide = guided(net)
    table = ss.inclusion_summary(guide)
    predictors = table[table["group"] == "input"]
    assert list(predictors.index) == ["age", "region", "income", "sex"]
    squares = guide.mean_weights("hidden1").double()[:, :-1] ** 2
    squares *= guide.inclusion()["hidden1"].double()[:, None]
    parts = squares.sum(0).split(list(WIDTHS))
    expected = [float(part.sum()) ** 0.5 for part in parts]
    np.testing.assert_allclose(predictors["norm"], expected, rtol=1e-6)
    posterior = ss.to_arviz(net, guide, num_draws=4, weights=True)["posterior"]
    assert posterior["input.gate"].sizes["predictor"] == 4
    incoming = list(posterior["hidden1.weight"]["hidden1_incoming"].to_numpy())
    assert incoming == [*net.description.inputs.column_names, "bias"]
    pruning = ss.prune(net, guide)
    ss.save_compact(pruning.network, tmp_path / "a.safetensors")
    x = torch.randn(5, COLUMNS)
    again = ss.load_compact(tmp_path / "a.safetensors")
    torch.testing.assert_close(again(x), pruning.network(x), rtol=0, atol=0)
    exported = ss.export_onnx(pruning.network, tmp_path / "a.onnx")
    assert exported is not None


def test_predictors_leave_with_their_columns_and_files_keep_the_groups(tmp_path):
    torch.manual_seed(0)
    level = torch.randint(0, 3, (200,))
    x = torch.randn(200, COLUMNS)
    x[:, 1:4] = torch.nn.functional.one_hot(level, 3)
    y = torch.tensor([-1.0, 0.0, 1.5])[level] + 0.1 * torch.randn(200)
    options = ss.TrainingOptions(epochs=300, batch_size=100, compile="trace", gate_rate=0.05)
    result = ss.fit(network(), x, y, options, progress=False)
    inclusion = result.guide.inclusion()["input"]
    assert inclusion.shape == (4,)
    assert inclusion[1] > 0.95
    assert (inclusion[[0, 2, 3]] < 0.5).all()
    assert {r.node for r in result.history.removed if r.group == "input"} & {0, 2, 3}
    ss.save_fit(result, tmp_path / "fit.safetensors")
    again = ss.load_fit(tmp_path / "fit.safetensors")
    assert again.model.description == result.model.description
    torch.testing.assert_close(
        ss.predict(again.model, again.guide, x[:5]).mean,
        ss.predict(result.model, result.guide, x[:5]).mean,
    )


def test_groups_of_one_column_change_nothing():
    """They are the network whose groups are not mentioned, in its description and its record."""
    ones = network(widths=(1, 1, 1, 1))
    plain = ss.MLP(
        4,
        [5],
        prior=ss.SSGHS(inclusion=0.3),
        likelihood=ss.GaussianLikelihood(),
        input_names=["age", "region", "income", "sex"],
        input_inclusion=0.2,
    )
    assert ones.description == plain.description
    assert ones.to_config() == plain.to_config()


def test_the_record_makes_the_groups_again():
    net = network()
    again = network_from_config(json.loads(json.dumps(net.to_config())))
    assert again.description == net.description


def test_the_group_lasso_takes_a_predictors_columns_together():
    """At a strong penalty whole predictors vanish: all columns of one, or none."""
    torch.manual_seed(0)
    x = torch.randn(300, COLUMNS)
    y = x[:, 1] - x[:, 3]
    net = ss.MLP(
        4,
        [],
        prior=ss.Gaussian(),
        likelihood=ss.GaussianLikelihood(scale=1.0),
        input_widths=WIDTHS,
        input_inclusion=0.5,
    )
    options = ss.TrainingOptions(epochs=300, batch_size=300, mean_rate=0.05)
    weights = ss.fit_deterministic(net, x, y, options, predictor_penalty=0.3, progress=False)
    parts = weights["output"][0, :-1].split(list(WIDTHS))
    norms = [float(part.norm()) for part in parts]
    assert norms[1] > 0.3
    assert max(norms[0], norms[2], norms[3]) < 0.05


@pytest.mark.parametrize("widths", [(1, 2), (1, 0, 2, 1)])
def test_widths_that_do_not_match_are_refused(widths):
    with pytest.raises(ss.errors.ConfigurationError, match="input_widths must be 4 whole numbers"):
        ss.MLP(4, [3], prior=ss.SSIG(), likelihood=ss.GaussianLikelihood(), input_widths=widths)


def test_coupled_gates_close_groups_too():
    net = network(prior=ss.SSIG(0.3))
    torch.manual_seed(0)
    guide = ss.CoupledGuide(net, initial_inclusion=0.9)
    x, y = torch.randn(20, COLUMNS), torch.randn(20)
    result = ss.fit(net, x, y, ss.TrainingOptions(epochs=5), guide=guide, progress=False)
    assert result.guide.inclusion()["input"].shape == (4,)
    other = x.clone()
    pruning = ss.prune(
        result.model,
        result.guide,
        ss.select(result.guide.inclusion(), nodes={"input": 2, "hidden1": 3}),
    )
    lost = sorted(set(range(COLUMNS)) - set(pruning.network.input_index.tolist()))
    other[:, lost] = torch.nan
    torch.testing.assert_close(pruning.network(other), pruning.network(x))
