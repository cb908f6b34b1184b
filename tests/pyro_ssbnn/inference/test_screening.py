"""Predictors that a run begins without, and those that come in: the ranking, and what becomes of the run."""

import numpy as np
import pyro
import pytest
import torch

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSIG,
    AnalyticELBO,
    BernoulliLikelihood,
    CategoricalLikelihood,
    GaussianLikelihood,
    PoissonLikelihood,
    StructuredGuide,
    TrainingOptions,
    fit,
    load_fit,
    save_fit,
)
from pyro_ssbnn.inference import search
from pyro_ssbnn.inference.holding import settled_options
from pyro_ssbnn.inference.screening import mean_output, scores, screens, useful
from pyro_ssbnn.inference.shrinking import LiveNetwork
from pyro_ssbnn.structure.groups import InputGroup

N, P = 200, 25


def friedman(seed=0):
    random = np.random.default_rng(seed)
    x = random.uniform(size=(N, P))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2
    y += 10 * x[:, 3] + 5 * x[:, 4] + random.normal(size=N)
    x, y = (x - 0.5) * 12**0.5, (y - y.mean()) / y.std()
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)


def network(likelihood=None, p=P, **options):
    likelihood = likelihood or GaussianLikelihood()
    return MLP(
        p, [6], prior=SSGHS(inclusion=0.1), likelihood=likelihood, input_inclusion=1 / p, **options
    )


def inputs(p=P, **options):
    return InputGroup("input", p, 0.1, names=tuple(map(str, range(p))), **options)


@pytest.mark.parametrize("seed", range(3))
def test_every_predictor_of_friedmans_function_is_found_and_few_others(seed):
    x, y = friedman(seed)
    found = useful(inputs(), x, y.double().numpy()[:, None], 0, first=True)
    assert {0, 1, 2, 3, 4} <= set(found)
    assert len(found) <= 8


def test_of_noise_the_five_best_begin_and_none_comes_in():
    x, _ = friedman()
    noise = np.random.default_rng(1).normal(size=(N, 1))
    assert len(useful(inputs(), x, noise, 0, first=True)) < 8
    assert useful(inputs(), x, noise, 0, first=False) == []


def test_of_thousands_few_stand_out_by_chance(monkeypatch):
    """Gains of trees have long tails: by standard deviations alone 2 % of useless predictors would stand out."""
    random = np.random.default_rng(0)

    class Trees:
        def __init__(self, **options):
            pass

        def fit(self, x, y):
            self.feature_importances_ = np.exp(2 * random.normal(size=x.shape[1]))
            return self

    monkeypatch.setattr("sklearn.ensemble.GradientBoostingRegressor", Trees)
    x, score = torch.zeros(20, 3_000), random.normal(size=(20, 1))
    for first in (True, False):  # of six thousand alike two copies are the limit
        found = [len(useful(inputs(3_000), x, score, 0, first=first)) for _ in range(20)]
        assert np.mean(found) < 8
        assert max(found) < 20


def test_an_interaction_without_main_effects_is_found():
    random = np.random.default_rng(0)
    x = random.normal(size=(400, P))
    found = useful(inputs(), torch.tensor(x), (x[:, 3] * x[:, 7])[:, None], 0, first=True)
    assert {3, 7} <= set(found)


def test_a_predictor_of_several_columns_counts_by_its_best():
    x, y = friedman()
    widths = (1, 1, 3, 1, *[1] * (P - 6))
    group = inputs(P - 2, widths=widths)  # columns 2 to 4 are one predictor
    found = useful(group, x, y.double().numpy()[:, None], 0, first=True)
    assert {0, 1, 2} <= set(found)
    assert max(found) < P - 2


def test_the_ranking_depends_on_its_seed_alone():
    x, y = friedman()
    score = y.double().numpy()[:, None]
    assert useful(inputs(), x, score, 3, first=True) == useful(inputs(), x, score, 3, first=True)


def slopes(likelihood, y):
    net = network(likelihood)
    guide = StructuredGuide(net)
    x, _ = friedman()
    target = likelihood.as_target(y, x)
    nothing = scores(net, guide, x, target, explained=False)
    torch.manual_seed(5)
    at = scores(net, guide, x, target, explained=True)
    torch.manual_seed(5)
    f, latents = mean_output(net, guide, x)
    return nothing, at, f.double().numpy(), latents


def test_scores_of_a_gaussian_are_residuals_over_the_variance():
    _, y = friedman()
    nothing, at, f, latents = slopes(GaussianLikelihood(), y)
    variance = float(latents["noise.variance"])
    np.testing.assert_allclose(at[:, 0], (y.numpy() - f[:, 0]) / variance, rtol=1e-4, atol=1e-5)
    ratio = nothing[:, 0] / y.numpy()
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)


def test_scores_of_counts_and_classes_are_targets_minus_means():
    _, y = friedman()
    counts = (y * 2 + 4).round().clamp_min(0)
    nothing, at, f, _ = slopes(PoissonLikelihood(), counts)
    np.testing.assert_allclose(nothing[:, 0], counts.numpy() - 1, rtol=1e-5)
    np.testing.assert_allclose(at[:, 0], counts.numpy() - np.exp(f[:, 0]), rtol=1e-4, atol=1e-4)
    labels = (y > 0).float()
    nothing, at, f, _ = slopes(BernoulliLikelihood(), labels)
    np.testing.assert_allclose(nothing[:, 0], labels.numpy() - 0.5, rtol=1e-5)
    np.testing.assert_allclose(at[:, 0], labels.numpy() - 1 / (1 + np.exp(-f[:, 0])), atol=1e-5)
    classes = (y > 0).long() + (y > 1).long()
    nothing, *_ = slopes(CategoricalLikelihood(3), classes)
    np.testing.assert_allclose(nothing, np.eye(3)[classes.numpy()] - 1 / 3, atol=1e-6)


def test_who_is_screened():
    settled = settled_options(TrainingOptions(), network().description, 300)
    assert screens(network().description, settled)
    assert not screens(network(p=10).description, settled)  # few predictors
    assert not screens(network().description, TrainingOptions(screen=False, gate_hold=(0.6, 0.7)))
    linear = MLP(P, [], prior=SSGHS(), likelihood=GaussianLikelihood(), input_inclusion=0.1)
    assert not screens(
        linear.description, settled_options(TrainingOptions(), linear.description, 300)
    )


OPTIONS = {"epochs": 60, "batch_size": 100, "compile": False, "seed": 2}


def test_a_run_begins_without_what_the_trees_find_useless():
    x, y = friedman()
    result = fit(network(), x, y, TrainingOptions(**OPTIONS), progress=False)
    without = [move for move in result.history.removed if move.epoch == 0]
    assert len(without) >= P - 10
    assert not {move.node for move in without} & {0, 1, 2, 3, 4}
    assert {move.inclusion for move in without} == {1 / P}
    inclusion = result.guide.inclusion()["input"]
    assert (inclusion[[move.node for move in without]] < 1e-12).all()


def test_a_trained_guide_keeps_what_it_has():
    x, y = friedman()
    model = network()
    guide = StructuredGuide(model)
    with torch.no_grad():
        guide.gate_logits("input")[20] = 3.0
    result = fit(model, x, y, TrainingOptions(**OPTIONS), guide=guide, progress=False)
    assert [move for move in result.history.removed if move.epoch == 0] == []


@pytest.fixture
def one_comes_in(monkeypatch):
    """The first ranking overlooks predictor 2, the second finds it."""
    seen = []

    def ranking(*_, first):
        seen.append(first)
        return [0, 1, 3, 4, 5] if first else [2]

    monkeypatch.setattr(search, "useful", ranking)
    return seen


def test_what_the_network_leaves_unexplained_lets_a_predictor_in(one_comes_in):
    x, y = friedman()
    result = fit(network(), x, y, TrainingOptions(**OPTIONS), progress=False)
    assert one_comes_in == [True, False]
    [move] = result.history.admitted
    assert (move.group, move.node) == ("input", 2)
    assert 0 < move.epoch < 0.6 * 60
    path = np.stack(result.history.inclusion["input"])[:, 2]
    assert (path[: int(move.epoch)] == 0).all()
    assert (path[int(move.epoch)] > 0.9).all()
    assert 2 not in {move.node for move in result.history.removed if move.epoch == 0}


def test_a_run_that_let_a_predictor_in_is_resumed_bit_by_bit(one_comes_in, tmp_path):
    """From files that were written before and after it came in."""
    x, y = friedman()

    def save(epoch, result):
        if epoch in (10, 30, 50):
            save_fit(result, tmp_path / f"{epoch}.safetensors")

    whole = fit(network(), x, y, TrainingOptions(**OPTIONS), progress=False, callback=save)
    for epoch in (10, 30, 50):
        half = load_fit(tmp_path / f"{epoch}.safetensors")
        came_in = [move for move in whole.history.admitted if move.epoch <= epoch]
        assert half.history.admitted == came_in
        resumed = fit(network(), x, y, TrainingOptions(**OPTIONS), resume=half, progress=False)
        for name, value in whole.guide.state_dict().items():
            assert torch.equal(resumed.guide.state_dict()[name], value), name
        assert resumed.history.admitted == whole.history.admitted
        assert resumed.history.bounds == whole.history.bounds


def test_admission_leaves_what_the_network_computes():
    """The predictor that comes in has weights of mean 0, little spread, and its gate at the starting value."""
    net = network().double()
    guide = StructuredGuide(net, initial_inclusion=0.9).double()
    live = LiveNetwork(net, guide)
    live.close({"input": list(range(6, P)), "hidden1": [1]})
    live.narrow()
    before = {name: value.clone() for name, value in live.guide.state_dict().items()}
    live.admit({"input": [9]})
    live.narrow()
    assert live.model.description.inputs.names == (*net.description.inputs.names[:6], "x10")
    assert live.guide.inclusion()["input"][6] == pytest.approx(0.9)
    after = live.guide.state_dict()
    assert (after["hidden1.weight.loc"][:, 6] == 0).all()
    kept = [0, 1, 2, 3, 4, 5, 7]
    torch.testing.assert_close(
        after["hidden1.weight.loc"][:, kept], before["hidden1.weight.loc"], rtol=0, atol=0
    )
    torch.testing.assert_close(
        after["output.weight.loc"], before["output.weight.loc"], rtol=0, atol=0
    )


def test_a_node_that_comes_in_is_read_with_weights_of_mean_zero():
    net = network().double()
    guide = StructuredGuide(net).double()
    live = LiveNetwork(net, guide)
    live.close({"hidden1": [1, 2]})
    live.narrow()
    live.admit({"hidden1": [2]})
    live.narrow()
    after = live.guide.state_dict()
    assert (after["output.weight.loc"][:, 1] == 0).all()
    assert (after["hidden1.weight.loc"][1] != 0).any()


@pytest.mark.parametrize(
    "member", [7, 10]
)  # a spare one itself, and one that takes the place of a spare one
def test_who_comes_in_takes_the_place_of_a_spare_predictor(member):
    net = network().double()
    live = LiveNetwork(net, StructuredGuide(net).double())
    live.close({"input": list(range(6, P))})
    live.narrow({"input": 3})
    assert live.places["input"].tolist() == list(range(9))
    assert live.present["input"].tolist() == [1.0] * 6 + [0.0] * 3
    assert (live.inclusion()["input"][6:] == 0).all()
    before = live.model.description.num_weights
    live.admit({"input": [member]})
    live.narrow({"input": 2})
    assert live.model.description.num_weights == before
    place = live.places["input"].tolist().index(member)
    assert live.present["input"].tolist() == [float(j < 6 or j == place) for j in range(9)]
    found = live.inclusion()["input"]
    assert found[member] == pytest.approx(0.95)
    assert (found[[j for j in range(6, P) if j != member]] == 0).all()


def test_a_spare_predictor_costs_what_it_costs_outside():
    """The KL of the whole network is the same, wherever the closed predictors are counted."""
    x, y = friedman()
    x, y = x.double(), y.double()
    net = MLP(
        P, [6], prior=SSIG(inclusion=0.1), likelihood=GaussianLikelihood(1.0), input_inclusion=1 / P
    ).double()
    live = LiveNetwork(net, StructuredGuide(net).double())
    live.close({"input": list(range(6, P))})
    found = []
    for spare in (0, 3):
        live.narrow({"input": spare})
        columns = live.places["input"]
        with pyro.get_param_store().scope():
            terms = AnalyticELBO().terms(live.model, live.guide, x[:, columns], y)
        found.append((len(columns), sum(terms.kl.values()) + live.removed_kl))
    (few, before), (more, after) = found
    assert (few, more) == (6, 9)
    torch.testing.assert_close(before, after)
