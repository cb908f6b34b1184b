"""A run ends with the best bound it held: readings where they are due, and the way back."""

import math

import pytest
import torch

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSIG,
    GaussianLikelihood,
    StructuredGuide,
    TrainingOptions,
    evaluate_bound,
    fit,
    load_fit,
    save_fit,
)
from pyro_ssbnn.errors import BoundWarning
from pyro_ssbnn.inference import best as best_module
from pyro_ssbnn.inference.best import Best
from pyro_ssbnn.inference.evaluation import Bound
from pyro_ssbnn.inference.schedule import Schedule
from pyro_ssbnn.inference.shrinking import LiveNetwork

OPTIONS = {"epochs": 100, "batch_size": 30, "compile": False, "num_particles": 32}
FREE = {**OPTIONS, "gate_hold": (0.0, 0.0)}


def network(**options):
    return MLP(3, [4], prior=SSIG(inclusion=0.3), likelihood=GaussianLikelihood(), **options)


def data():
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    return x, x[:, 0] - x[:, 1]


def test_the_bound_is_read_five_times_once_the_kl_has_its_weight_and_gates_are_free():
    options = TrainingOptions(**OPTIONS, kl_warmup=0.2, gate_hold=(0.0, 0.4))
    schedule = Schedule(options, 30, network().description)
    best = Best(schedule, 960, 30, 0)
    points = [record + 1 for record in range(schedule.records) if best.due(record)]
    assert points == [52, 64, 76, 88, 100]


def test_readings_are_of_the_whole_network_and_are_saved(tmp_path):
    """Also where nodes have left: the gates that are gone have their KL."""
    x, y = data()
    result = fit(network(), x, y, TrainingOptions(**OPTIONS), progress=False)
    assert len(result.history.bounds) >= 2
    last = result.history.bounds[-1]
    assert last.epoch == 100
    again = evaluate_bound(result.model, result.guide, x, y, num_draws=4_000)
    assert last.elbo == pytest.approx(again.elbo, abs=5 * math.hypot(last.error, again.error))
    save_fit(result, tmp_path / "fit.safetensors")
    assert load_fit(tmp_path / "fit.safetensors").history.bounds == result.history.bounds


def falling(monkeypatch, values):
    """Readings of these values, each with error 1."""
    readings = iter(values)
    monkeypatch.setattr(
        best_module, "bound_of", lambda *_, **__: Bound(next(readings), 1.0, 0.0, 0.0, 8)
    )


def test_a_run_whose_bound_falls_ends_where_it_was_best(monkeypatch):
    x, y = data()
    options = TrainingOptions(**FREE, kl_warmup=0.0, remove_below=None)
    states = {}

    def remember(epoch, result):
        states[epoch] = {k: v.clone() for k, v in result.guide.state_dict().items()}

    falling(monkeypatch, [-50.0, -30.0, -90.0, -80.0, -70.0])
    with pytest.warns(BoundWarning, match="fell from -30.0 at epoch 40 to -70.0 at epoch 100"):
        result = fit(network(), x, y, options, progress=False, callback=remember)
    assert len(result.history) == 40
    for name, value in result.guide.state_dict().items():
        assert torch.equal(value, states[40][name]), name


def test_a_run_goes_on_from_where_it_went_back_to(monkeypatch):
    x, y = data()
    options = TrainingOptions(**FREE, kl_warmup=0.0)
    falling(monkeypatch, [-50.0, -30.0, -90.0, -80.0, -70.0])
    with pytest.warns(BoundWarning):
        result = fit(network(), x, y, options, progress=False)
    falling(monkeypatch, [-30.0] * 5)
    again = fit(network(), x, y, options, progress=False, resume=result)
    assert len(again.history) == 100


def test_a_fall_within_the_errors_is_none(monkeypatch):
    x, y = data()
    falling(monkeypatch, [-50.0, -30.0, -30.0, -33.0, -34.0])
    result = fit(network(), x, y, TrainingOptions(**FREE, kl_warmup=0.0), progress=False)
    assert len(result.history) == 100


def test_readings_leave_the_run_as_it_is(monkeypatch):
    """The same parameters bit by bit, whatever is read."""
    x, y = data()
    options = TrainingOptions(**OPTIONS)
    first = fit(network(), x, y, options, progress=False)
    falling(monkeypatch, [-10.0] * 5)
    second = fit(network(), x, y, options, progress=False)
    for name, value in first.guide.state_dict().items():
        assert torch.equal(value, second.guide.state_dict()[name]), name


def test_nodes_closed_for_good_cost_their_gates_alone():
    """The bound of the whole network is that of the narrowed one plus log(1 - lambda) for each gate that is gone."""
    x, y = (each.double() for each in data())
    net = MLP(3, [6], prior=SSGHS(inclusion=0.2), likelihood=GaussianLikelihood()).double()
    guide = StructuredGuide(net).double()
    live = LiveNetwork(net, guide)
    live.close({"hidden1": [0, 2, 5]})
    live.narrow()
    whole = evaluate_bound(net, guide, x, y, num_draws=20_000)
    narrow = evaluate_bound(live.model, live.guide, x, y, num_draws=20_000)
    wanted = narrow.elbo + 3 * math.log1p(-0.2)
    assert whole.elbo == pytest.approx(wanted, abs=4 * math.hypot(whole.error, narrow.error))
    assert whole.kl == pytest.approx(narrow.kl - 3 * math.log1p(-0.2), abs=0.3)
