"""Training that shrinks: the same bound on fewer nodes, results that speak of the original network."""

import math
import warnings

import numpy as np
import pytest
import torch
from pyro import poutine

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSGL,
    SSIG,
    AnalyticELBO,
    Gaussian,
    GaussianLikelihood,
    GroupHorseshoe,
    GroupLasso,
    StructuredGuide,
    TheoryInclusion,
    TrainingOptions,
    fit,
    load_fit,
    prune,
    save_fit,
)
from pyro_ssbnn.errors import CollapseWarning
from pyro_ssbnn.guides.sites import LogNormalSite
from pyro_ssbnn.inference.history import History
from pyro_ssbnn.inference.shrinking import LiveNetwork, due_for_removal
from pyro_ssbnn.posterior.draws import site_values, trace_draws
from pyro_ssbnn.structure.axes import put

PRIORS = {
    "ss-ig": SSIG(inclusion=(0.3, 0.2), scale=0.7),
    "ss-gl": SSGL(inclusion=0.3),
    "ss-ghs": SSGHS(inclusion=TheoryInclusion(50)),
    "ss-ghs-random-cap": SSGHS(inclusion=0.3, cap=None),
}
DUE = {"input": [1], "hidden1": [0, 3], "hidden2": [2]}
X = torch.randn(9, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = X[:, 0]


def network(prior, **options):
    options = {"input_inclusion": 0.4, "output_prior": GroupLasso(), **options}
    return MLP(4, [5, 3], prior=prior, likelihood=GaussianLikelihood(), **options)


@pytest.fixture(params=PRIORS)
def live(request):
    """A network with random parameters that has lost the members in DUE, in two rounds."""
    model = network(PRIORS[request.param])
    guide = StructuredGuide(model).double()
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    live = LiveNetwork(model, guide)
    live.close({"hidden1": [3], "hidden2": [2]})
    live.narrow()
    live.close({"hidden1": [0], "input": [1]})
    live.narrow()
    return live


class TestSameNetwork:
    def test_priors_are_those_of_the_whole(self, live):
        whole, narrow = live.whole_model.description, live.model.description
        assert [g.size for g in narrow.groups] == [3, 2, 1]
        assert narrow.inputs.names == ("x1", "x3", "x4")
        for before, after in zip(whole.groups, narrow.groups, strict=True):
            assert (before.inclusion, before.prior_size) == (after.inclusion, after.prior_size)
            assert before.prior is after.prior

    def test_narrow_and_whole_network_have_the_same_output(self, live):
        """Any draw of the narrow network, put into the whole one with the removed gates closed."""
        draws = site_values(trace_draws(live.guide, 6))
        whole = site_values(trace_draws(live.whole_guide, 6))
        axes = {
            f"{g.name}.weight": (g.rows, g.columns) for g in live.whole_model.description.groups
        }
        for group in (live.whole_model.description.inputs, *live.whole_model.description.groups):
            for site in (s for s in whole if s.startswith(f"{group.name}.") and s not in axes):
                if whole[site].shape[-1] == group.size and "global" not in site:
                    axes[site] = (live.whole_guide.parameter_axes()[_row_parameter(group.name)][0],)
        for name, value in whole.items():
            put(value, draws[name], axes.get(name, ()), live.kept)
        for name, closed in DUE.items():
            whole[f"{name}.gate"][:, ..., closed] = 0.0
        f = _output(live.model, draws, X[:, live.kept["input"]])
        torch.testing.assert_close(_output(live.whole_model, whole, X), f, rtol=1e-12, atol=1e-12)

    @torch.no_grad()
    def test_bound_is_that_of_the_whole_with_closed_gates(self, live):
        """KL(whole) = KL(narrow) + closed gates + the removed scales, which the whole guide keeps as they were."""
        live.store()
        for module in (*live.guide.modules(), *live.whole_guide.modules()):
            if isinstance(module, LogNormalSite):  # KLs depend on the scales' draws
                module.log_scale.data.fill_(-30.0)
        whole = AnalyticELBO().terms(live.whole_model, live.whole_guide, X, Y).kl
        narrow = AnalyticELBO().terms(live.model, live.guide, X[:, live.kept["input"]], Y).kl
        assert whole.keys() == narrow.keys()
        for name in whole:
            group, _, latent = name.rpartition(".")
            if latent == "gate":
                probability = live.whole_model.description[group].inclusion
                closed = -len(DUE[group]) * math.log1p(-probability)
                torch.testing.assert_close(whole[name], narrow[name] + closed)
            elif group not in DUE or latent == "weight":
                torch.testing.assert_close(whole[name], narrow[name])
            else:
                assert whole[name] > narrow[name]
        expected = sum(
            -len(v) * math.log1p(-live.whole_model.description[k].inclusion) for k, v in DUE.items()
        )
        assert live.removed_kl == pytest.approx(expected, rel=1e-12)

    def test_parameters_come_back_to_their_places(self, live):
        before = {k: v.clone() for k, v in live.whole_guide.state_dict().items()}
        with torch.no_grad():
            for parameter in live.guide.parameters():
                parameter += 1
        live.store()
        after = live.whole_guide.state_dict()
        moved = sum(int((after[k] != before[k]).sum()) for k in before)
        assert moved == sum(p.numel() for p in live.guide.parameters())
        assert torch.equal(
            live.whole_guide.narrowed(live.model, live.kept).hidden1.weight.loc,
            live.guide.hidden1.weight.loc,
        )

    def test_inclusion_speaks_of_the_original_members(self, live):
        inclusion = live.inclusion()
        for name, closed in DUE.items():
            assert (inclusion[name][closed] == 0).all()
            assert (inclusion[name] > 0).sum() == len(inclusion[name]) - len(closed)
            torch.testing.assert_close(
                inclusion[name], live.whole_guide.inclusion()[name], rtol=0, atol=1e-15
            )


def _row_parameter(name):
    return (
        "input.logits"
        if name == "input"
        else f"{name}.gate.logits"
        if name != "output"
        else ("output.weight.loc")
    )


def _output(model, values, x):
    import pyro

    conditioned = poutine.condition(model.network, data=values)
    with pyro.plate("draws", 6, dim=-2):
        return conditioned(x)


class TestRule:
    def history(self, rows):
        rows = [np.asarray(row, dtype=np.float32) for row in rows]
        history = History(inclusion={"hidden1": rows, "hidden2": [np.ones(3)] * len(rows)})
        history.kl += [0.0] * len(rows)
        history.kl_weight += [1.0] * len(rows)
        return history

    def due(self, rows, **options):
        model = network(SSIG(inclusion=0.3), input_inclusion=None, **options)
        return due_for_removal(self.history(rows), model, below=0.1, after=2)

    def test_closed_for_several_epochs_in_a_row(self):
        rows = [[0.01, 0.01, 0.2, 0.9, 0.01], [0.01, 0.2, 0.01, 0.9, 0.05]]
        assert self.due(rows) == {"hidden1": [0, 4]}
        assert self.due(rows[1:]) == {}

    def test_what_the_data_favour_stays_and_nobody_leaves_before_the_kl_counts(self):
        """Under a prior inclusion of 0.02 an inclusion of 0.05 is evidence for the node."""
        rows = [[0.05, 0.01, 0.2, 0.9, 0.01]] * 2
        history = self.history(rows)
        model = network(SSIG(inclusion=0.02), input_inclusion=None)
        assert due_for_removal(history, model, below=0.1, after=2) == {"hidden1": [1, 4]}
        history.kl_weight[-1] = 0.99
        assert due_for_removal(history, model, below=0.1, after=2) == {}

    def test_an_idle_node_leaves_whatever_its_prior(self):
        """A prior inclusion of 1e-30 is a price; no gate gets below it, and yet closed ones are out."""
        rows = [[0.005, 0.02, 0.2, 0.9, 0.001]] * 2
        model = network(SSIG(inclusion=1e-30), input_inclusion=None)
        assert due_for_removal(self.history(rows), model, below=0.1, after=2) == {"hidden1": [0, 4]}

    def test_a_predictor_that_the_data_favour_stays_however_small_its_inclusion(self):
        model = network(SSIG(inclusion=0.3), input_inclusion=1e-4)
        history = self.history([[0.9] * 5] * 2)
        rows = [np.asarray([0.005, 5e-5, 0.9, 0.01], dtype=np.float32)] * 2
        history.inclusion["input"] = rows
        assert due_for_removal(history, model, below=0.1, after=2) == {"input": [1]}

    def test_the_likeliest_member_stays(self):
        rows = [[0.01, 0.02, 0.03, 0.01, 0.01]] * 2
        assert self.due(rows)["hidden1"] == [0, 1, 3, 4]

    def test_nodes_stay_where_a_closed_one_passes_on_a_constant(self):
        rows = [[0.01, 0.01, 0.2, 0.9, 0.01]] * 2
        assert self.due(rows, activation="sigmoid") == {}


def regression(n=200, p=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, p, generator=generator)
    return x, x[:, 0] - x[:, 1] + 0.1 * torch.randn(n, generator=generator)


# Gates of null predictors and spare nodes close within a few epochs.
FAST = {"batch_size": 40, "mean_rate": 0.1, "scale_rate": 0.05, "gate_rate": 0.05, "kl_warmup": 0.3}


def shrinking_fit(epochs=80, callback=None, resume=None, model=None, **options):
    x, y = regression()
    if model is None:
        model = MLP(
            6,
            [20],
            prior=SSGHS(inclusion=0.05),
            likelihood=GaussianLikelihood(),
            input_inclusion=0.1,
        )
    chosen = TrainingOptions(**{**FAST, "epochs": epochs, **options})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        return fit(model, x, y, chosen, progress=False, callback=callback, resume=resume)


@pytest.fixture(scope="module")
def whole():
    """A run that tests only read."""
    return shrinking_fit()


@pytest.fixture(scope="module")
def without():
    """The same run, but all members stay."""
    return shrinking_fit(remove_below=None)


class TestFit:
    def test_results_speak_of_the_original_network(self, whole):
        result = whole
        removed = result.history.removed
        assert {r.group for r in removed} == {"input", "hidden1"}
        assert all(r.inclusion < TrainingOptions().remove_below for r in removed)
        inclusion = result.guide.inclusion()
        for removal in removed:
            assert inclusion[removal.group][removal.node] < 1e-15
            series = np.stack(result.history.inclusion[removal.group])[:, removal.node]
            assert series[removal.epoch - 1] == np.float32(removal.inclusion)
            assert (series[removal.epoch :] == 0).all()
        assert [len(v) for v in inclusion.values()] == [6, 20]
        compact = prune(result.model, result.guide).network
        gone = {r.node for r in removed if r.group == "hidden1"}
        assert gone.isdisjoint(compact.kept["hidden1"].tolist())

    def test_moments_of_removed_members_are_zero_and_the_rest_in_place(self, whole):
        result = whole
        names = [n for n, _ in result.guide.named_parameters()]
        shapes = sorted(tuple(p.shape) for p in result.guide.parameters())
        moments = [s["exp_avg_sq"] for s in result.optimizer_state["state"].values()]
        assert len(names) == len(moments)
        assert sorted(tuple(m.shape) for m in moments) == shapes
        gone = [r.node for r in result.history.removed if r.group == "hidden1"]
        logits = next(m for m in moments if m.shape == (20,))
        assert (logits[gone] == 0).all()
        assert (logits != 0).sum() == 20 - len(gone)

    def test_off_on_request(self, without):
        assert without.history.removed == []
        assert min(float(v.min()) for v in without.guide.inclusion().values()) > 1e-15

    def test_the_order_of_magnitude_of_the_bound_is_continuous(self, whole, without):
        """Removing closed nodes takes away their scales' KL and nothing else: no jump beyond that."""
        spread = np.std(without.history.elbo[-20:])
        assert whole.history.elbo[-20:].mean() > without.history.elbo[-20:].mean() - 3 * spread

    def test_resumed_equals_uninterrupted_across_removals(self, whole, tmp_path):
        epochs = sorted({r.epoch for r in whole.history.removed})
        assert len(epochs) > 1, "the run must have lost members before and after the interruption"
        at = epochs[0]

        class StopError(Exception):
            pass

        def stop(epoch, result):
            if epoch == at:
                save_fit(result, tmp_path / "fit.safetensors")
                raise StopError

        with pytest.raises(StopError):
            shrinking_fit(callback=stop)
        loaded = load_fit(tmp_path / "fit.safetensors")
        assert [r for r in whole.history.removed if r.epoch <= at] == loaded.history.removed
        resumed = shrinking_fit(resume=loaded, model=loaded.model)
        assert resumed.history.kl == whole.history.kl
        assert resumed.history.removed == whole.history.removed
        for name, value in whole.guide.state_dict().items():
            assert torch.equal(value, resumed.guide.state_dict()[name]), name

    def test_a_network_without_gates_keeps_everything(self):
        model = MLP(
            6, [4], prior=Gaussian(), likelihood=GaussianLikelihood(), output_prior=GroupHorseshoe()
        )
        assert shrinking_fit(5, model=model).history.removed == []
