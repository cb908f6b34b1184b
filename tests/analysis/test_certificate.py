"""Certificates: exact beside variational, what is decided, and when it cannot be had."""

import math

import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.analysis import certificate
from pyro_ssbnn.analysis.undecided import Undecided
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.exact import Structures, linear_evidence

SIGMAS = 4.5
SURE = {"input": [9.0, -9.0, -9.0, 9.0, 0.0], "hidden1": [9.0, 9.0, -9.0, -8.0]}
QUICK = ss.TrainingOptions(epochs=3, dtype="float64", compile=False, screen=False)


def data(p=5, rows=40, correlation=0.0, seed=3):
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator, "dtype": torch.float64}
    x = torch.randn(rows, p, **options)
    x[:, 1] = correlation * x[:, 0] + (1 - correlation**2) ** 0.5 * x[:, 1]
    return x, 0.7 * x[:, 0] + 0.3 * x[:, 3] + torch.randn(rows, **options)


def linear_fit(x, y, inclusion=0.3):
    net = ss.MLP(
        x.shape[1],
        [],
        prior=ss.Gaussian(),
        output_prior=ss.Gaussian(scale=0.5),
        likelihood=ss.GaussianLikelihood(scale=1.0),
        input_inclusion=inclusion,
    )
    return ss.fit(net, x, y, QUICK, progress=False)


def node_fit(x, y, gates, hidden=(4,), **options):
    """A network whose gates are set to these log-odds, by group."""
    options = {"activation": "tanh", "input_inclusion": 0.3, **options}
    net = ss.MLP(
        x.shape[1],
        list(hidden),
        prior=ss.SSIG(inclusion=0.2),
        likelihood=ss.GaussianLikelihood(scale=1.0),
        **options,
    )
    fit = ss.fit(net, x, y, QUICK, progress=False)
    with torch.no_grad():
        for name, logits in gates.items():
            fit.guide.gate_logits(name).copy_(torch.tensor(logits))
    return fit


@pytest.fixture
def short(monkeypatch):
    """As many iterations as a test has time for, whatever the machine is busy with."""

    def iterations(number):
        monkeypatch.setattr(certificate, "_LEAST", number // 2)
        monkeypatch.setattr(certificate, "_MOST", number // 2)
        monkeypatch.setattr(certificate, "_RUNGS", 2)
        monkeypatch.setattr(certificate, "_LEAPFROG", 8)

    return iterations


class TestAnswer:
    @pytest.mark.parametrize("inclusion", [0.3, ss.BetaInclusion(1, 2)], ids=["fixed", "beta"])
    def test_is_the_exact_one_given_what_is_decided(self, short, process_unchanged, inclusion):
        """Of a linear network: the closed form over the sets that agree with what is decided."""
        short(400)
        x, y = data()
        fit = linear_fit(x, y, inclusion)
        gamma = fit.guide.inclusion()["input"]
        decided = float(gamma.sort().values[1]) + 1e-6  # the two least likely
        with process_unchanged():
            found = ss.certify(fit, x, y, budget=1e6, decided=decided)
        exact = linear_evidence(x, y, noise_scale=1.0, inclusion=inclusion, slab_scale=0.5)
        table, mass = exact.structures.table, exact.probability
        free = (gamma > decided) & (gamma < 1 - decided)
        agrees = (table[:, ~free] == (gamma[~free] > 0.5)).all(-1)
        expected = (mass[agrees] @ table[agrees]) / mass[agrees].sum()
        assert 2 <= int(free.sum()) < 5
        for j in free.nonzero().flatten().tolist():
            row = found.table.loc[f"x{j + 1}"]
            assert abs(row["exact"] - float(expected[j])) < SIGMAS * row["error"] + 1e-9
            assert row["variational"] == pytest.approx(float(gamma[j]))
        size = found.table.loc["input.size"]
        assert abs(size["exact"] - float(expected.sum())) < SIGMAS * size["error"] + 1e-9
        counted = free | (gamma > 0.5)
        taken = torch.where(free, gamma, 1.0)[counted]
        assert size["variational"] == pytest.approx(float(taken.sum()))
        assert found.left_out == pytest.approx(float(torch.minimum(gamma, 1 - gamma)[~free].sum()))
        assert sum(map(len, found.open.values())) + found.closed["input"] == int((~free).sum())
        if inclusion != 0.3:  # of more structures, for which these chains are short
            return
        assert found.certified, found.finding
        assert found.r_hat <= 1.05
        assert "Certified" in str(found)
        assert found.posterior is not None

    def test_too_short_chains_are_not_certified(self, short):
        short(40)
        x, y = data()
        found = ss.certify(linear_fit(x, y), x, y, budget=1e6)
        assert not found.certified
        assert "R-hat" in found.finding or "Monte-Carlo error" in found.finding

    def test_budget_too_short(self):
        x, y = data()
        found = ss.certify(linear_fit(x, y), x, y, budget=1e-3)
        assert not found.certified
        assert "the budget of 0.001 s is too short" in found.finding
        assert found.table["exact"].isna().all()

    def test_too_many_undecided(self):
        x, y = data(p=14)
        fit = linear_fit(x, y)
        found = ss.certify(fit, x, y, decided=1e-6)
        assert not found.certified
        assert "14 gates are undecided (14 of input)" in found.finding

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"budget": 0}, "budget must be"),
            ({"decided": 0.5}, "decided must be"),
            ({"correlated": 0.0}, "correlated must be"),
        ],
    )
    def test_refusals(self, options, message):
        x, y = data()
        with pytest.raises(ConfigurationError, match=message):
            ss.certify(linear_fit(x, y), x, y, **options)

    def test_no_gates(self):
        x, y = data()
        net = ss.MLP(5, [2], prior=ss.Gaussian(), likelihood=ss.GaussianLikelihood())
        with pytest.raises(ConfigurationError, match="no gates"):
            ss.certify(ss.fit(net, x, y, QUICK, progress=False), x, y)


class TestUndecided:
    def test_predictors_beside_one_that_is_in(self):
        """The fit is sure of the first of two that say the same; of both nothing is taken for decided."""
        x, y = data(correlation=0.95)
        fit = node_fit(x, y, SURE)
        cut = Undecided(fit, x, 0.005, 0.7)
        assert cut.free["input"].tolist() == [True, True, False, False, True]
        assert cut.names(cut.is_open)["input"] == ["x4"]
        trusting = Undecided(fit, x, 0.005, 1.0)
        assert trusting.free["input"].tolist() == [False, False, False, False, True]

    def test_nodes_are_counted(self):
        x, y = data()
        cut = Undecided(node_fit(x, y, SURE), x, 0.005, 0.7)
        assert cut.free["hidden1"].tolist() == [True, False, True, True]  # few gates: one more
        assert {k: v.tolist() for k, v in cut.kept.items()} == {
            "input": [0, 3, 4],
            "hidden1": [0, 1, 2, 3],
        }
        gamma = torch.tensor([9.0, 9.0, -9.0, -8.0]).double().sigmoid()
        none = (1 - gamma).prod()
        of_predictors = 4 * float(1 - gamma[0])
        assert cut.left_out == pytest.approx(of_predictors + float(none), rel=1e-4)

    def test_spare_nodes_as_long_as_gates_are_few(self):
        x, y = data()
        gates = {"input": [0.0] * 4 + [9.0], "hidden1": [9.0] + [-9.0] * 5}
        cut = Undecided(node_fit(x, y, gates, hidden=[6]), x, 0.005, 0.7)
        assert cut.number == 6
        assert int(cut.free["hidden1"].sum()) == 2
        gates["input"] = [9.0] * 5
        cut = Undecided(node_fit(x, y, gates, hidden=[6]), x, 0.005, 0.7)
        assert cut.free["hidden1"].all()

    def test_removed_members_count_by_their_last_inclusion(self):
        x, y = data()
        fit = node_fit(x, y, SURE)
        fit.guide.close({"input": torch.tensor([1, 2])})
        fit.history.removed += [ss.Removal("input", 1, 0, 0.3), ss.Removal("input", 2, 4, 0.08)]
        cut = Undecided(fit, x, 0.005, 0.7)
        assert cut.free["input"].tolist() == [False, False, True, False, True]
        assert float(cut.inclusion["input"][2]) == pytest.approx(0.08)
        found = ss.certify(fit, x, y, budget=1e-3)
        assert "screened out before training (1)" in found.finding
        assert found.table.loc["x3", "variational"] == pytest.approx(0.08)

    @pytest.mark.parametrize("inclusion", [0.2, ss.BetaInclusion(1, 3)], ids=["fixed", "beta"])
    def test_a_structure_counts_for_all_of_as_many_nodes(self, inclusion):
        """Without data the number of open nodes is that of the whole layer's prior, as far as it is looked at."""
        whole = ss.MLP(
            2, [6], prior=ss.SSIG(inclusion=inclusion), likelihood=ss.GaussianLikelihood()
        )
        every = Structures.of(whole.description)
        expected = (
            torch.zeros(7).double().index_add(0, every.sizes("hidden1"), every.log_prior().exp())
        )
        part = whole.narrowed({"hidden1": torch.tensor([0, 2, 5])})
        decided = {"hidden1": torch.tensor([math.nan, 1.0, math.nan])}
        cut = Structures.of(part.description, decided, {"hidden1": 6})
        assert cut.table.tolist() == [[0, 1, 0], [1, 1, 0], [0, 1, 1], [1, 1, 1]]
        found = torch.zeros(4).double().index_add(0, cut.sizes("hidden1"), cut.log_prior().exp())
        expected = expected[1:4] / expected[1:4].sum()
        assert torch.allclose(found[1:] / found.sum(), expected)

    def test_a_closed_node_that_passes_on_a_constant_stays(self):
        x, y = data()
        fit = node_fit(x, y, SURE, activation="sigmoid")
        assert Undecided(fit, x, 0.005, 0.7).kept["hidden1"].tolist() == [0, 1, 2, 3]

    def test_linear_terms(self):
        """A predictor stays as long as either of its gates is not closed."""
        x, y = data()
        gates = {**SURE, "linear": [-9.0, 0.0, -9.0, 9.0, -9.0]}
        cut = Undecided(node_fit(x, y, gates, linear=True), x, 0.005, 0.7)
        assert cut.kept["input"].tolist() == cut.kept["linear"].tolist() == [0, 1, 3, 4]
        network = cut.fit.model.narrowed(cut.kept)
        structures = cut.structures(network)
        assert len(structures) == 2 ** (1 + 1 + 3)
        columns = structures.table[:, structures.columns("linear")]
        assert columns[:, [0, 2, 3]].unique(dim=0).tolist() == [[0, 1, 0]]


def test_a_network_with_hidden_nodes(short):
    """Two that say the same: the exact answer is split, whatever the gates of the fit."""
    short(200)
    x, y = data(rows=30, correlation=0.999)
    gates = {"input": [9.0, -9.0, -9.0, -9.0, -9.0], "hidden1": [9.0, -9.0]}
    fit = node_fit(x, y + x[:, 0], gates, hidden=[2])
    found = ss.certify(fit, x, y + x[:, 0], budget=1e6)
    pair = found.table.loc[["x1", "x2"]]
    assert pair["variational"].tolist() == pytest.approx([1, 0], abs=1e-3)
    assert (pair["exact"] - pair["exact"].mean()).abs().max() < 0.2
    assert found.posterior.structures.names == ("x1", "x2", "hidden1[0]", "hidden1[1]")


def test_diagnose(short):
    short(100)
    x, y = data()
    fit = linear_fit(x, y)
    report = ss.diagnose(fit, x, y, num_draws=100, certify=1e6)
    check = report["exact answer"]
    assert check.verdict in ("ok", "note")
    assert report["prior power"].values  # of the weights of joint laws, too
    assert set(check.values["table"]) >= {"x1", "input.size"}
    assert report.to_json()
