"""Everything is counted in steps: long epochs are split, short ones read together, and nothing else changes."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from pyro_ssbnn import (
    MLP,
    SSIG,
    CategoricalLikelihood,
    Gaussian,
    GaussianLikelihood,
    LeNet,
    StructuredGuide,
    TrainingOptions,
    fit,
)
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference import loop, options, schedule
from pyro_ssbnn.inference.guards import Patience
from pyro_ssbnn.inference.holding import settled_options
from pyro_ssbnn.inference.minibatches import row_order
from pyro_ssbnn.inference.schedule import Schedule, rate_groups


def data(num_data=64):
    x = torch.randn(num_data, 3)
    return x, x[:, 0] + 0.1 * torch.randn(num_data)


def network():
    return MLP(3, [6], prior=SSIG(), likelihood=GaussianLikelihood(), input_inclusion=0.3)


@pytest.mark.parametrize("num_data", [2, 40, 1_000, 128_001, 1_000_000])
def test_records_cover_every_step_once(num_data):
    plan = Schedule(TrainingOptions(epochs=3), num_data)
    ranges = [plan.steps_of(record) for record in range(plan.records)]
    assert ranges[0][0] == 0
    assert ranges[-1][1] == plan.steps
    assert all(a[1] == b[0] for a, b in itertools.pairwise(ranges))
    assert max(last - first for first, last in ranges) <= 500


def test_a_single_epoch_of_a_million_rows_warms_up_and_decays():
    plan = Schedule(TrainingOptions(epochs=1), 1_000_000)
    assert plan.kl_weight(0) < 0.001
    assert plan.kl_weight(int(plan.warmup)) == 1.0
    assert plan.rate_factor(0) == 1.0
    assert plan.rate_factor(plan.steps - 1) == pytest.approx(0.01)


def test_held_gates_are_let_go_predictors_first():
    model = network()
    chosen = TrainingOptions(
        epochs=100, batch_size=64, gate_hold=(0.3, 0.5), gate_method="gradient"
    )
    plan = Schedule(chosen, 64, model.description)
    both = {"gates.input", "gates.hidden1"}
    assert [plan.held(step) for step in (0, 29, 30, 49, 50)] == [
        *[both] * 2,
        *[{"gates.hidden1"}] * 2,
        set(),
    ]
    assert [plan.free(step) for step in (29, 30, 50)] == [set(), {"input"}, {"input", "hidden1"}]
    ascending = Schedule(replace(chosen, gate_method="ascent"), 64, model.description)
    assert ascending.held(99) == both  # the optimizer never moves them


def test_the_kl_rises_geometrically_from_a_hundredth_where_gates_are_held():
    held = Schedule(
        settled_options(TrainingOptions(epochs=100, batch_size=64), network().description, 64),
        64,
        network().description,
    )
    weights = [held.kl_weight(step) for step in (0, 29, 59, 99)]
    assert weights == pytest.approx([0.01 ** (1 - 1 / 60), 0.1, 1.0, 1.0])
    free = Schedule(TrainingOptions(epochs=100, batch_size=64, kl_warmup=0.5), 64)
    assert free.kl_weight(24) == pytest.approx(0.5)


def test_gates_ascend_a_hundred_times_once_the_first_are_let_go():
    model = network()
    chosen = settled_options(TrainingOptions(epochs=10_000, batch_size=64), model.description, 64)
    plan = Schedule(chosen, 64, model.description)
    at = [
        plan.steps_of(record + 1)[0]
        for record in range(plan.records)
        if (record + 1) % plan.block == 0 and plan.ascends(record)
    ]
    assert len(at) == pytest.approx(100, abs=1)
    assert min(at) >= 6_000
    assert plan.ascents * plan.ascent == pytest.approx(32.0)


def test_predictors_come_in_once_before_their_gates_are_let_go():
    model = network()
    for epochs in (60, 333, 5_000):
        chosen = settled_options(
            TrainingOptions(epochs=epochs, batch_size=20), model.description, 64
        )
        plan = Schedule(chosen, 64, model.description)
        ends = [r for r in range(plan.records) if (r + 1) % plan.block == 0]
        [record] = [r for r in ends if plan.admits(r)]
        share = plan.steps_of(record + 1)[0] / plan.steps
        assert 0.48 <= share <= 0.48 + 21 / plan.steps + plan.block * plan.epoch_steps / plan.steps


def test_many_rows_take_as_long_again_once_gates_are_let_go():
    model = network()
    few, many = (settled_options(TrainingOptions(), model.description, n) for n in (1_999, 8_000))
    assert many.gate_hold == (0.3, 0.35)
    assert few.num_epochs(1_999) * few.epoch_steps(1_999) == pytest.approx(12_000, abs=7)
    assert many.num_epochs(8_000) * many.epoch_steps(8_000) == pytest.approx(24_000, abs=31)
    let_go = [Schedule(o, n, model.description).let_go for o, n in ((few, 1_999), (many, 8_000))]
    assert let_go[1] == pytest.approx(let_go[0], abs=31)
    assert many.warmup_steps(8_000) == pytest.approx(few.warmup_steps(1_999), abs=31)
    assert settled_options(many, model.description, 8_000) == many


@pytest.mark.parametrize(
    ("rows", "first"), [(300, 0.06), (7_750, 2.6 / 7_750**0.5), (10**6, 0.0026)]
)
def test_means_move_a_few_widths_of_the_posterior_at_most_where_gates_are_held(rows, first):
    """Only where Adam moves them, gates are held, and the user has not said otherwise."""
    model = MLP(4, [64], prior=SSIG(), likelihood=GaussianLikelihood())

    def rates(**options):
        chosen = settled_options(TrainingOptions(**options), model.description, rows)
        groups = rate_groups(StructuredGuide(model), chosen, rows)
        return [group["lr"] for group in groups if group["kind"].startswith("means")]

    assert rates() == pytest.approx([first, min(0.015, first)])
    assert rates(mean_rate=0.2) == pytest.approx([0.1, 0.025])
    assert rates(gate_rate=0.1) == pytest.approx([0.06, 0.015])
    assert rates(optimizer="sgd") == [0.12, 0.12]


def test_settled_options_are_filled_in_once():
    """Where predictors are selected gates are held; what the user chose stays; settling again changes nothing."""
    model = network()
    settled = settled_options(TrainingOptions(), model.description, 300)
    assert settled.gate_hold == (0.6, 0.7)
    assert (settled.gate_method, settled.batch_rows(300)) == ("ascent", 100)
    assert (settled.start_inclusion, settled.decay_from) == (0.995, 0.85)
    assert settled.warmup_steps(300) == 0.6 * 12_000
    assert settled.num_epochs(300) * settled.epoch_steps(300) == 12_000
    assert settled_options(settled, model.description, 300) == settled
    chosen = TrainingOptions(
        batch_size=32, epochs=7, kl_warmup=0.1, initial_inclusion=0.8, gate_hold=(0.1, 0.2)
    )
    kept = settled_options(chosen, model.description, 300)
    assert kept == replace(chosen, gate_method="ascent")
    assert (kept.start_inclusion, kept.batch_rows(300), kept.num_epochs(300)) == (0.8, 32, 7)
    soft = settled_options(TrainingOptions(hard_gates=False), model.description, 300)
    assert (soft.gate_hold, soft.gate_method) == ((0.0, 0.0), "gradient")
    rated = settled_options(TrainingOptions(gate_rate=0.1), model.description, 300)
    assert (rated.gate_hold, rated.gate_method) == ((0.0, 0.0), "gradient")
    assert (rated.start_inclusion, rated.decay_from, rated.batch_rows(300)) == (0.95, 0.5, 37)
    late = settled_options(
        TrainingOptions(gate_rate=0.1, gate_hold=(0.2, 0.3)), model.description, 300
    )
    assert (late.gate_hold, late.gate_method) == ((0.2, 0.3), "gradient")


@pytest.mark.parametrize(
    ("net", "hold"),
    [
        (MLP(3, [6], prior=SSIG(), likelihood=GaussianLikelihood()), (0.6, 0.7)),
        (MLP(784, [400, 400], prior=SSIG(), likelihood=CategoricalLikelihood(10)), (0.0, 0.0)),
        (LeNet((1, 28, 28), prior=SSIG(), likelihood=CategoricalLikelihood(10)), (0.0, 0.0)),
        (
            MLP(3, [], prior=SSIG(), likelihood=GaussianLikelihood(), input_inclusion=0.5),
            (0.0, 0.0),
        ),
    ],
    ids=["small", "large", "convolutions", "linear"],
)
def test_gates_are_held_where_both_branches_of_all_cost_little(net, hold):
    assert settled_options(TrainingOptions(), net.description, 300).gate_hold == hold


def test_a_network_without_gates_has_none_to_move():
    """Asked for or not: the last record ends a block here."""
    x, y = data()
    net = MLP(3, [6], prior=Gaussian(), likelihood=GaussianLikelihood())
    options = TrainingOptions(epochs=20, batch_size=64, gate_method="ascent")
    assert len(fit(net, x, y, options, progress=False).history) == 20


def test_a_rate_of_gates_that_have_none_is_refused():
    with pytest.raises(ConfigurationError, match="gate_rate must be None where gate_method"):
        TrainingOptions(gate_rate=0.1, gate_method="ascent")


def test_a_full_batch_run_is_read_once_in_twenty_steps():
    assert Schedule(TrainingOptions(batch_size=100), 100).block == 20
    assert Schedule(TrainingOptions(), 100_000).block == 1


def test_an_order_of_rows_is_a_permutation_that_can_be_had_again():
    x = torch.zeros(50, 1)
    orders = {(s, e): row_order(s, e, x) for s in (0, 1, -1) for e in (0, 1, 2)}
    for key, order in orders.items():
        assert torch.equal(order.sort().values, torch.arange(50))
        assert torch.equal(order, row_order(*key, x))
    assert len({tuple(order.tolist()) for order in orders.values()}) == len(orders)


def test_parts_of_an_epoch_train_the_same_network(monkeypatch):
    """With a row of the history for every step the run takes the same steps."""
    x, y = data()
    chosen = TrainingOptions(epochs=3, batch_size=8, remove_below=None, gate_method="gradient")
    whole = fit(network(), x, y, chosen, progress=False)
    monkeypatch.setattr(options, "_RECORD_STEPS", 1)
    split = fit(network(), x, y, chosen, progress=False)
    assert len(split.history) == 8 * len(whole.history) == 24
    for name, value in whole.guide.state_dict().items():
        assert torch.equal(value, split.guide.state_dict()[name])
    means = split.history.elbo.reshape(3, 8).mean(1)
    assert means == pytest.approx(whole.history.elbo, rel=1e-5)


def test_reading_rarely_changes_nothing_that_is_read(monkeypatch):
    x, y = data()
    chosen = TrainingOptions(
        epochs=45, batch_size=64, remove_below=None, gate_method="gradient"
    )  # ascents go by blocks
    rare = fit(network(), x, y, chosen, progress=False)
    monkeypatch.setattr(schedule, "_BLOCK_STEPS", 1)
    often = fit(network(), x, y, chosen, progress=False)
    assert rare.history.elbo == pytest.approx(often.history.elbo, rel=0)
    for name, rows in rare.history.inclusion.items():
        assert len(rows) == 45
        for row, other in zip(rows, often.history.inclusion[name], strict=True):
            assert (row == other).all()


def test_a_callback_sees_every_record_and_changes_no_decision():
    """Removal happens at the same records with and without one."""
    x, y = data()
    chosen = TrainingOptions(epochs=60, batch_size=32, gate_rate=0.2, remove_below=0.4)
    plain = fit(network(), x, y, chosen, progress=False)
    seen = []
    called = fit(
        network(),
        x,
        y,
        chosen,
        progress=False,
        callback=lambda k, r: seen.append((k, len(r.history))),
    )
    assert seen == [(k, k) for k in range(1, 61)]
    assert plain.history.removed
    assert plain.history.removed == called.history.removed
    assert plain.history.elbo == pytest.approx(called.history.elbo, rel=0)


def test_the_loop_reads_nothing_within_a_block(monkeypatch):
    """Records of a block come to the host together."""
    x, y = data()
    readings = []
    read = loop.Run._read
    monkeypatch.setattr(
        loop.Run, "_read", lambda run: (readings.append(len(run._unread)), read(run))
    )
    fit(network(), x, y, TrainingOptions(epochs=50, batch_size=64), progress=False)
    assert readings == [20, 20, 10]


@pytest.mark.parametrize("num_data", [40, 2_000, 200_000])
def test_the_first_free_record_is_the_first_that_begins_with_all_gates_free(num_data):
    chosen = TrainingOptions(epochs=11, gate_hold=(0.2, 0.55))
    plan = Schedule(chosen, num_data, network().description)
    free = [plan.free(plan.steps_of(record)[0]) for record in range(plan.records)]
    assert plan.first_free == [len(names) == 2 for names in free].index(True)


def test_patience_waits_for_the_gates():
    """A bound that rests while gates are held says nothing of what they will do."""
    x, y = data()
    options = TrainingOptions(
        epochs=60, batch_size=64, kl_warmup=0.0, gate_hold=(0.5, 0.6), patience=2, min_delta=100.0
    )
    history = fit(network(), x, y, options, progress=False).history
    assert len(history) == 40  # read once in 20 steps; the gates are free from 36 on


def test_patience_is_that_of_the_whole_series():
    """The incremental verdict is the one made of all rows."""
    torch.manual_seed(1)
    bounds = (torch.randn(200).cumsum(0) - 0.001 * torch.arange(200) ** 2).tolist()
    weights = [0.5] * 20 + [1.0] * 180
    chosen = TrainingOptions(patience=15, min_delta=0.01)
    patience, verdicts = Patience(chosen, 100), []
    for bound, weight in zip(bounds, weights, strict=True):
        patience.watch([bound], [weight])
        verdicts.append(patience.exhausted)

    def verdict(count):
        full = bounds[20:count]
        if len(full) <= 15:
            return False
        return max(full[-15:]) - max(full[:-15]) < 1.0

    assert verdicts == [verdict(k) for k in range(1, 201)]
    assert any(verdicts)
    assert not math.isinf(max(bounds))
