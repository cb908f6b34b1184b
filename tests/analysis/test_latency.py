"""Times of the forward pass by a clock that the networks themselves wind, and the plot of them."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from pyro_ssbnn import prune, select
from pyro_ssbnn.analysis import dense_and_pruned, latency, measure_latency, pruning_latency
from pyro_ssbnn.analysis.plots import plot_latency
from pyro_ssbnn.errors import ConfigurationError, DataError, SelectionError
from pyro_ssbnn.priors import Gaussian

TIME = 0.0
LOG = []


class Timed(nn.Module):
    """Takes so many seconds, and logs what it is given."""

    def __init__(self, name, seconds=1e-3):
        super().__init__()
        self.name, self.seconds = name, seconds
        self.register_buffer("weight", torch.ones(3, 2))

    def forward(self, x):
        global TIME
        LOG.append((self.name, x, torch.get_num_threads(), self.training))
        TIME += self.seconds[len(LOG)] if isinstance(self.seconds, list) else self.seconds
        return x @ self.weight


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    LOG.clear()
    monkeypatch.setattr(latency, "perf_counter", lambda: TIME)


def test_networks_take_turns_and_each_call_is_counted():
    networks = {"a": Timed("a"), "b": Timed("b")}
    measure_latency(networks, 3, batch_sizes=(1, 4), repeats=3, warmup=2, min_seconds=0)
    turn = [("a", 1), ("b", 1), ("a", 4), ("b", 4)]
    rounds = [case for case in turn for _ in range(2)]  # one untimed, one timed
    assert [(name, len(x)) for name, x, *_ in LOG] == turn + (2 + 3) * rounds


def test_table_is_what_the_clock_says():
    networks = {"slow": Timed("slow", 4e-3), "fast": Timed("fast", 1e-3)}
    table = measure_latency(networks, 3, batch_sizes=(2, 8), repeats=5, min_seconds=9.5e-3)
    assert list(table["network"]) == ["slow", "fast"] * 2
    assert list(table["batch_size"]) == [2, 2, 8, 8]
    for column in ("median_ms", "q10_ms", "q90_ms"):
        np.testing.assert_allclose(table[column], [4, 1, 4, 1])
    assert list(table["calls"]) == [3, 10, 3, 10]  # as many as last 9.5 ms
    np.testing.assert_allclose(table["rows_per_second"], [500, 2000, 2000, 8000])
    np.testing.assert_allclose(table["speedup"], [1, 4, 1, 4])
    assert set(table["reference"]) == {"slow"}
    assert set(table["device"]) == {"cpu"}
    assert set(table["dtype"]) == {"float32"}
    assert set(table["threads"]) == {1}


def test_quantiles_of_the_samples():
    seconds = [0.0] * 4 + [t for k in range(1, 12) for t in (100.0, float(k))]  # untimed, timed
    table = measure_latency(
        {"a": Timed("a", seconds)}, 3, batch_sizes=(1,), repeats=11, warmup=1, min_seconds=0
    )
    row = table.iloc[0]
    np.testing.assert_allclose([row["q10_ms"], row["median_ms"], row["q90_ms"]], [2e3, 6e3, 10e3])


def test_references_of_choice():
    networks = {name: Timed(name, k * 1e-3) for k, name in enumerate("abc", 1)}
    single = measure_latency(networks, 3, batch_sizes=(1,), repeats=1, reference="c")
    np.testing.assert_allclose(single["speedup"], [3, 1.5, 1])
    pairs = measure_latency(networks, 3, batch_sizes=(1,), repeats=1, reference={"c": "b"})
    np.testing.assert_allclose(pairs["speedup"], [1, 1, 2 / 3])
    assert list(pairs["reference"]) == ["a", "b", "b"]


def test_threads_are_limited_and_restored():
    table = measure_latency({"a": Timed("a")}, 3, batch_sizes=(1,), repeats=1, threads=2)
    assert {threads for _, _, threads, _ in LOG} == {2}
    assert set(table["threads"]) == {2}
    assert torch.get_num_threads() == 1
    with pytest.raises(DataError, match=r"network 'a' cannot take inputs \[1, 5\]"):
        measure_latency({"a": Timed("a")}, 5, batch_sizes=(1,), threads=2)
    assert torch.get_num_threads() == 1


def test_networks_and_random_state_stay_as_they_were():
    network, state = Timed("a"), torch.random.get_rng_state()
    options = {"batch_sizes": (4,), "repeats": 1, "dtype": torch.float64}
    table = measure_latency({"a": network}, 3, **options)
    assert network.training
    assert network.weight.dtype == torch.float32
    assert torch.equal(torch.random.get_rng_state(), state)
    assert {training for *_, training in LOG} == {False}
    assert {x.dtype for _, x, *_ in LOG} == {torch.float64}
    assert set(table["dtype"]) == {"float64"}
    first = LOG[0][1]
    measure_latency({"a": network}, 3, **options)
    assert torch.equal(LOG[-1][1], first)  # the same seed
    measure_latency({"a": network}, 3, **options, seed=1)
    assert not torch.equal(LOG[-1][1], first)


def test_given_rows_are_repeated_to_fill_a_batch():
    rows = torch.arange(6.0).reshape(2, 3)
    measure_latency({"a": Timed("a")}, rows, batch_sizes=(1, 5), repeats=1)
    assert torch.equal(LOG[0][1], rows[:1])
    assert torch.equal(LOG[1][1], rows[[0, 1, 0, 1, 0]])


@pytest.mark.skipif(not hasattr(torch, "accelerator"), reason="needs torch 2.6")
def test_devices_are_waited_for_before_and_after_each_sample(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda d: waited.append((d, len(LOG))))
    # The name of a device that is no CPU and needs no machine; for a user it is none.
    monkeypatch.setattr(latency, "resolve_device", torch.device)
    options = {"batch_sizes": (1,), "repeats": 1, "warmup": 1, "min_seconds": 2.5e-3}
    measure_latency({"a": Timed("a")}, 3, device="meta", **options)
    # Calls made when it was waited: one trial; warm-up: untimed, timed; then: untimed, three timed.
    assert waited == [(torch.device("meta"), calls) for calls in (2, 3, 4, 7)]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"networks": {}}, ConfigurationError, "at least one network"),
        ({"batch_sizes": ()}, ConfigurationError, r"batch_sizes .* got \[\]"),
        ({"batch_sizes": (1, 0)}, ConfigurationError, "batch_sizes"),
        ({"batch_sizes": (4, 4)}, ConfigurationError, "different"),
        ({"repeats": 0}, ConfigurationError, "repeats must be at least 1; got 0"),
        ({"warmup": 0}, ConfigurationError, "warmup"),
        ({"threads": 0}, ConfigurationError, "threads"),
        ({"min_seconds": math.nan}, ConfigurationError, "min_seconds"),
        ({"reference": "b"}, ConfigurationError, "names 'b', which is not among"),
        ({"reference": {"b": "a"}}, ConfigurationError, "names 'b'"),
        ({"device": "abacus"}, ConfigurationError, "device 'abacus'"),
        ({"inputs": 0}, DataError, "at least one predictor"),
        ({"inputs": torch.zeros(3)}, DataError, r"rows \[M, p\]"),
        ({"inputs": torch.zeros(0, 3)}, DataError, r"got \[0, 3\]"),
        ({"inputs": torch.zeros(2, 3, dtype=torch.long)}, DataError, "int64"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        measure_latency(**{"networks": {"a": Timed("a")}, "inputs": 3, **options})


def logits(number, kept):
    return [2.0 if node in kept else -2.0 for node in range(number)]


@pytest.fixture
def fitted(build):
    chosen = {"input": logits(5, {0, 3}), "hidden1": logits(6, {1, 4}), "hidden2": logits(4, {2})}
    return build([6, 4], inputs=5, input_inclusion=0.5, logits=chosen)


def test_dense_network_keeps_everything_and_pruned_what_is_selected(fitted):
    model, guide = fitted
    networks = dense_and_pruned(model, guide, num_draws=3, seed=4)
    assert list(networks) == ["dense mean", "pruned mean", "dense 3 draws", "pruned 3 draws"]
    shapes = {
        name: [tuple(la.weight.shape) for la in n.layers.values()] for name, n in networks.items()
    }
    assert shapes["dense mean"] == [(6, 5), (4, 6), (1, 4)]
    assert shapes["pruned mean"] == [(2, 2), (1, 2), (1, 1)]
    assert shapes["dense 3 draws"] == [(3, 6, 5), (3, 4, 6), (3, 1, 4)]
    x = torch.randn(7, 5)
    h = x
    for group in model.description.groups:
        weight = guide.mean_weights(group.name)
        h = h @ weight[:, :-1].T + weight[:, -1]
        h = model.phi(h) if group.name != "output" else h
    torch.testing.assert_close(networks["dense mean"](x), h)
    everything = select(guide.inclusion(), nodes={"input": 5, "hidden1": 6, "hidden2": 4})
    for name, kept in (("dense 3 draws", everything), ("pruned 3 draws", None)):
        expected = prune(model, guide, kept, num_draws=3, seed=4).network(x)
        torch.testing.assert_close(networks[name](x), expected)


def test_selection_is_the_callers(fitted):
    model, guide = fitted
    chosen = select(guide.inclusion(), nodes={"hidden1": 5})
    networks = dense_and_pruned(model, guide, chosen)
    assert len(networks["pruned mean"].kept["hidden1"]) == 5
    assert len(networks["pruned 10 draws"].kept["hidden1"]) == 5
    with pytest.raises(SelectionError):
        dense_and_pruned(model, guide, select(guide.inclusion(), threshold=0.99))
    with pytest.raises(ConfigurationError, match="num_draws"):
        dense_and_pruned(model, guide, num_draws=0)


def test_without_gates_dense_and_pruned_are_the_same_network(build):
    networks = dense_and_pruned(*build([4], prior=Gaussian()), num_draws=2)
    x = torch.randn(3, 3)
    assert torch.equal(networks["dense 2 draws"](x), networks["pruned 2 draws"](x))


@pytest.fixture
def table(fitted, monkeypatch):
    monkeypatch.undo()  # the real clock
    return pruning_latency(*fitted, num_draws=2, batch_sizes=(1, 64), repeats=3, min_seconds=1e-4)


def test_pruning_is_compared_like_with_like(table):
    pairs = dict(zip(table["network"], table["reference"], strict=True))
    assert pairs == {
        "dense mean": "dense mean",
        "pruned mean": "dense mean",
        "dense 2 draws": "dense 2 draws",
        "pruned 2 draws": "dense 2 draws",
    }
    own = table["network"] == table["reference"]
    assert (table.loc[own, "speedup"] == 1).all()
    assert (table["median_ms"] > 0).all()
    assert (table["q10_ms"] <= table["median_ms"]).all()
    assert (table["median_ms"] <= table["q90_ms"]).all()
    rate = 1e3 * table["batch_size"] / table["median_ms"]
    np.testing.assert_allclose(table["rows_per_second"], rate)


@pytest.mark.usefixtures("untouched_pyplot")
class TestPlot:
    def test_lines_factors_and_words(self, table):
        table["speedup"] = 1.3 * np.arange(1, 9)  # all different
        ax = plot_latency(table, Figure().subplots())
        ax.figure.canvas.draw()
        assert ax.get_xscale() == ax.get_yscale() == "log"
        labels = [text.get_text() for text in ax.get_legend().get_texts()]
        assert labels == list(table["network"].unique())
        for name, container in zip(labels, ax.containers, strict=True):
            rows = table[table["network"] == name]
            np.testing.assert_allclose(container[0].get_xdata(orig=False), rows["batch_size"])
            np.testing.assert_allclose(container[0].get_ydata(orig=False), rows["median_ms"])
        factors = [text.get_text() for text in ax.texts if text.get_text()]
        compared = table[table["network"] != table["reference"]]
        speedups = compared.pivot_table("speedup", "network", "batch_size", sort=False)
        wanted = [f"{s:.1f}×" if s < 9.95 else f"{s:.0f}×" for s in speedups.to_numpy().ravel()]
        assert factors == wanted
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "64"]
        assert "1 CPU thread)" in ax.get_title()
        assert "milliseconds" in ax.get_ylabel()
        boxes = [text.get_window_extent() for text in ax.texts]
        boxes += [tick.get_window_extent() for tick in ax.get_xticklabels()]
        boxes += [ax.xaxis.label.get_window_extent(), ax.get_legend().get_window_extent()]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])

    def test_a_single_network_and_batch_size(self):
        table = measure_latency({"a": Timed("a")}, 3, batch_sizes=(8,), repeats=1)
        ax = plot_latency(table, Figure().subplots())
        ax.figure.canvas.draw()
        assert not ax.texts

    def test_other_tables_are_refused(self, table):
        with pytest.raises(DataError, match="lacks the columns median_ms"):
            plot_latency(table.drop(columns="median_ms"))
        with pytest.raises(DataError, match="no rows"):
            plot_latency(pd.DataFrame(columns=table.columns))
