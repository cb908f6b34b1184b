"""Draws from the guide: shapes, gates, densities, predictions, whatever the blocks."""

import pytest
import torch
from pyro import poutine

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSIG,
    CategoricalLikelihood,
    GaussianLikelihood,
    StructuredGuide,
    draw_posterior,
)
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.posterior import draws as posterior_module


def network(hidden=(4, 1), likelihood=None, **options):
    torch.manual_seed(1)
    model = MLP(
        3,
        list(hidden),
        prior=SSGHS(inclusion=0.4),
        likelihood=likelihood or GaussianLikelihood(),
        **options,
    )
    guide = StructuredGuide(model, initial_inclusion=0.7, initial_scale=0.3).double()
    return model, guide


def test_shapes_also_for_a_layer_of_one_node():
    model, guide = network(input_inclusion=0.5)
    x, y = torch.randn(6, 3), torch.randn(6)
    draws = draw_posterior(model, guide, 11, x=x, y=y, weights=True)
    shapes = {name: tuple(value.shape) for name, value in draws.latents.items()}
    assert shapes == {
        "global.scale_a": (11,),
        "global.scale_b": (11,),
        "input.gate": (11, 3),
        "hidden1.gate": (11, 4),
        "hidden1.scale_a": (11, 4),
        "hidden1.scale_b": (11, 4),
        "hidden2.gate": (11, 1),
        "hidden2.scale_a": (11, 1),
        "hidden2.scale_b": (11, 1),
        "noise.variance": (11,),
    }
    assert {k: tuple(v.shape) for k, v in draws.weights.items()} == {
        "hidden1": (11, 4, 4),
        "hidden2": (11, 1, 5),
        "output": (11, 1, 2),
    }
    for value in (draws.log_likelihood, draws.predictive, draws.mean):
        assert value.shape == (11, 6)
    assert draws.log_prior.dtype == draws.log_q.dtype == torch.float64


def test_gates_are_hard_and_have_the_exact_probabilities(check_mean):
    model, guide = network()
    guide.hard = False
    gate = draw_posterior(model, guide, 20_000).latents["hidden1.gate"]
    assert set(gate.unique().tolist()) == {0.0, 1.0}
    check_mean(gate, guide.inclusion()["hidden1"])
    assert guide.hard is False


def test_closed_nodes_have_zero_weights_and_prior_draws():
    """log p alone must not know the means of a closed slab: those u come from the prior."""
    model = MLP(3, [5], prior=SSIG(inclusion=0.4), likelihood=GaussianLikelihood(scale=1.0))
    guide = StructuredGuide(model).double()
    with torch.no_grad():
        guide.hidden1.gate.logits.fill_(-60.0)
        guide.hidden1.weight.loc.fill_(100.0)
    draws = draw_posterior(model, guide, 500, weights=True)
    assert (draws.weights["hidden1"] == 0).all()
    # 20 standard Normal weights: log-density -20 (1 + log 2 pi)/2 = -28 on average, with a standard deviation of 3.2
    prior = draws.log_prior - draws.log_q
    assert draws.log_prior.min() > -28.4 - 6 * 5 - 20
    assert prior.isfinite().all()


def test_importance_weights_average_to_the_evidence_ratio_of_one(check_mean):
    """E_q[p(latents)/q(latents)] = 1: the densities of the draws are those of proper distributions."""
    model = MLP(1, [2], prior=SSIG(inclusion=0.4), likelihood=GaussianLikelihood(scale=1.0))
    guide = StructuredGuide(model, initial_inclusion=0.5).double()
    with torch.no_grad():
        for part in (guide.hidden1, guide.output):
            part.weight.loc.mul_(0.3)
            part.weight.log_scale.fill_(0.1)  # wider than the prior: finite variance of the ratio
    draws = draw_posterior(model, guide, 200_000)
    check_mean((draws.log_prior - draws.log_q).exp(), torch.tensor(1.0).double())


@pytest.mark.parametrize("memory", [1_000, 5_000])
def test_memory_changes_nothing(memory):
    model, guide = network(likelihood=CategoricalLikelihood(3))
    x, y = torch.randn(60, 3), torch.arange(60) % 3
    whole = draw_posterior(model, guide, 5, x=x, y=y)
    blocked = draw_posterior(model, guide, 5, x=x, y=y, memory=memory)
    torch.testing.assert_close(whole.mean, blocked.mean)
    torch.testing.assert_close(whole.log_likelihood, blocked.log_likelihood)
    assert torch.equal(whole.predictive, blocked.predictive)
    assert whole.mean.shape == (5, 60, 3)
    torch.testing.assert_close(whole.mean.sum(-1), torch.ones(5, 60).double())


def test_chunks_of_draws_are_put_together_in_order(monkeypatch):
    model, guide = network()
    monkeypatch.setattr(posterior_module, "_BLOCK_WEIGHTS", 60)  # two draws at a time
    x = torch.randn(3, 3)
    draws = draw_posterior(model, guide, 5, x=x, weights=True)
    assert draws.mean.shape == (5, 3)
    assert draws.weights["hidden1"].shape[0] == draws.log_q.shape[0] == 5
    assert len(draws.log_q.unique()) == 5
    # every array in the same order: the weights of a draw give its mean
    h = torch.nn.functional.pad(x.double(), (0, 1), value=1.0).expand(5, -1, -1)
    for name in ("hidden1", "hidden2", "output"):
        f = h @ draws.weights[name].mT
        h = torch.nn.functional.pad(torch.nn.functional.silu(f), (0, 1), value=1.0)
    torch.testing.assert_close(draws.mean, f[..., 0])


def test_effective_weights_reproduce_the_network():
    """f from the model's own forward pass equals a plain network with the effective weights."""
    model, guide = network((4, 2), input_inclusion=0.5, activation="tanh")
    x = torch.randn(6, 3, dtype=torch.float64)
    trace = posterior_module.trace_draws(guide, 7)
    values = posterior_module.site_values(trace)
    weights = posterior_module.effective_weights(model.description, values)
    expected = poutine.condition(model.network, data=values)(x)
    h = x
    for name in ("hidden1", "hidden2", "output"):
        h = h @ weights[name][..., :-1].mT + weights[name][..., -1].unsqueeze(-2)
        h = h if name == "output" else h.tanh()
    torch.testing.assert_close(h, expected)


def test_seeds_repeat_and_leave_the_callers_state_alone():
    model, guide = network()
    state = torch.get_rng_state()
    a, b, c = (draw_posterior(model, guide, 5, seed=s) for s in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(a.log_q, b.log_q)
    assert not torch.equal(a.log_q, c.log_q)


def test_answers_too_large_to_hold_are_refused_with_what_they_cost():
    model, guide = network()
    with pytest.raises(
        ConfigurationError, match=r"would take 0\.\d GB, 2,000 numbers each .* 1,000 rows"
    ):
        draw_posterior(model, guide, 5_000, x=torch.randn(1_000, 3), most_bytes=10**7)
    with pytest.raises(ConfigurationError, match="and the weights"):
        draw_posterior(model, guide, 5_000, weights=True, most_bytes=10**5)
