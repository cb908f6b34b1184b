"""Linear terms beside the hidden layers: densities, bounds, the exact linear model, the cut, files and tables."""

import json
import math
import warnings
from contextlib import nullcontext

import numpy as np
import pyro
import pytest
import torch
from matplotlib.figure import Figure
from pyro import poutine
from torch.distributions import Bernoulli, Normal
from torch.nn import functional

import pyro_ssbnn as ss
from pyro_ssbnn.analysis.plots import plot_predictor_inclusion
from pyro_ssbnn.exact import linear_evidence
from pyro_ssbnn.exact.structures import Structures
from pyro_ssbnn.guides.sites import LogNormalSite
from pyro_ssbnn.inference.guards import collapsed_layers
from pyro_ssbnn.inference.history import History
from pyro_ssbnn.inference.shrinking import LiveNetwork, due_for_removal
from pyro_ssbnn.layers import LocalReparameterization
from pyro_ssbnn.models import network_from_config

PRIORS = {
    "ss-ig": ss.SSIG(inclusion=0.3),
    "ss-gl": ss.SSGL(inclusion=0.3),
    "ss-ghs": ss.SSGHS(inclusion=0.3),
}
WIDTHS = (1, 3, 2, 1)
COLUMNS = 7
X = torch.randn(9, COLUMNS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
OPEN = {
    "both": {"input": [0, 1], "hidden1": [0, 2, 3], "linear": [1, 3]},
    "no hidden node": {"input": [0, 1], "hidden1": [], "linear": [1, 3]},
    "nothing nonlinear": {"input": [], "hidden1": [], "linear": [2]},
    "nothing linear": {"input": [0, 2], "hidden1": [1], "linear": []},
}


def network(prior=PRIORS["ss-ghs"], outputs=1, hidden=(5,), **options):
    likelihood = ss.CategoricalLikelihood(outputs) if outputs > 1 else ss.GaussianLikelihood()
    options = {"input_inclusion": 0.2, "input_widths": WIDTHS, "linear": True, **options}
    return ss.MLP(4, hidden, prior=prior, likelihood=likelihood, **options)


def shaken(net, guide_class=ss.StructuredGuide):
    """A guide off its starting values, in double precision."""
    guide = guide_class(net).double()
    with torch.no_grad():
        for parameter in guide.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return guide


def selection_of(guide, kept):
    kept = {name: torch.tensor(kept[name], dtype=torch.long) for name in guide.inclusion()}
    sizes = {name: len(p) for name, p in guide.inclusion().items()}
    return ss.Selection(kept, sizes, "by hand")


def masked_output(guide, selection, x, phi):
    """f of the mean weights with gates set to a selection, written out."""
    open = {name: selection.mask(name).to(x) for name in selection.kept}
    widths = torch.tensor(WIDTHS)
    nonlinear, linear = (open[n].repeat_interleave(widths) for n in ("input", "linear"))
    w, v, b = (guide.mean_weights(name) for name in ("hidden1", "output", "linear"))
    hidden = phi(open["hidden1"] * ((x * nonlinear) @ w[:, :-1].T + w[:, -1]))
    return hidden @ v[:, :-1].T + v[:, -1] + (x * linear) @ b


class TestModel:
    def test_a_predictor_has_a_gate_a_slab_scale_and_a_row_of_weights_a_column(self):
        net = network(outputs=3)
        nodes = poutine.trace(net).get_trace(X.float()).nodes
        assert nodes["linear.gate"]["value"].shape == (4,)
        assert nodes["linear.scale_a"]["value"].shape == (4,)
        assert nodes["linear.weight"]["value"].shape == (COLUMNS, 3)
        assert net.description.linear.num_weights == COLUMNS * 3
        assert net.description.num_weights == 5 * 8 + 3 * 6 + 21
        assert net.description.in_words().endswith("-> output 3 + 4 gated linear terms")

    def test_density_and_output_are_the_formulas(self):
        """Log p(z, u) and f of a draw under the independent Gaussian slab, against Bernoulli and Normal."""
        net = network(ss.SSIG(inclusion=0.3, scale=0.7), linear_inclusion=0.4)
        trace = poutine.trace(net).get_trace(X)
        trace.compute_log_prob()
        value = {name: site.get("value") for name, site in trace.nodes.items()}
        found = sum(
            trace.nodes[s]["log_prob"].sum()
            for s in trace.nodes
            if s.startswith("linear.") and "fn" in trace.nodes[s] and s != "linear.columns"
        )
        expected = Bernoulli(torch.tensor(0.4).double()).log_prob(value["linear.gate"]).sum()
        expected = expected + Normal(0.0, 0.7).log_prob(value["linear.weight"]).sum()
        torch.testing.assert_close(found, expected)
        widths = torch.tensor(WIDTHS)
        w, v = value["hidden1.weight"], value["output.weight"]
        gated = X * value["input.gate"].repeat_interleave(widths)
        hidden = functional.silu(value["hidden1.gate"] * (gated @ w[:, :-1].T + w[:, -1]))
        terms = (X * value["linear.gate"].repeat_interleave(widths)) @ value["linear.weight"]
        torch.testing.assert_close(
            value["_RETURN"], hidden @ v[:, :-1].T + v[:, -1] + terms, rtol=1e-12, atol=1e-12
        )

    def test_inclusion_is_the_predictors_unless_given(self):
        assert network().description.linear.inclusion == 0.2
        assert network(linear_inclusion=0.4).description.linear.inclusion == 0.4
        ungated = network(input_inclusion=None)
        assert not ungated.description.linear.gated
        assert [g.name for g in ungated.description.gate_groups] == ["hidden1"]
        alone = network(input_inclusion=None, linear_inclusion=0.4)
        assert [g.name for g in alone.description.gate_groups] == ["hidden1", "linear"]

    def test_without_them_nothing_changes(self):
        net = network(linear=False)
        assert net.description.linear is None
        assert "linear" not in net.to_config()

    def test_the_record_makes_them_again(self):
        for net in (network(linear_inclusion=0.4), network(input_inclusion=None)):
            again = network_from_config(json.loads(json.dumps(net.to_config())))
            assert again.description == net.description

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"linear_inclusion": 1.0}, "linear_inclusion"),
            ({"linear": False, "linear_inclusion": 0.2}, "give linear=True with it"),
        ],
    )
    def test_options_that_make_no_sense_are_refused(self, options, message):
        with pytest.raises(ss.errors.ConfigurationError, match=message):
            network(**options)

    def test_beside_no_hidden_layer_they_are_refused(self):
        with pytest.raises(ss.errors.ConfigurationError, match="linear already"):
            ss.MLP(
                3, [], prior=ss.SSIG(inclusion=0.3), likelihood=ss.GaussianLikelihood(), linear=True
            )


class TestExactLinearModel:
    """With no hidden node open the network is the Bayesian linear spike-and-slab model."""

    inclusion, noise = 0.3, 0.5

    def data(self, orthogonal):
        x = torch.randn(16, 4, dtype=torch.float64)
        if orthogonal:  # to each other and to the constant
            x = torch.linalg.qr(x - x.mean(0)).Q * 4
        y = 0.6 * x[:, 0] - 0.25 * x[:, 1] + self.noise * torch.randn(16, dtype=torch.float64)
        return x, y

    def network(self):
        likelihood = ss.GaussianLikelihood(scale=self.noise)
        options = {"input_inclusion": self.inclusion, "linear": True}
        return ss.MLP(4, [1], prior=ss.SSIG(inclusion=1e-12), likelihood=likelihood, **options)

    def test_evidence_of_every_structure(self):
        """p(y | z) by the sampler's density, weights summed out on a grid-free identity: p(y) p(w | y) = p(y, w)."""
        x, y = self.data(orthogonal=False)
        exact = linear_evidence(x, y, noise_scale=self.noise, inclusion=self.inclusion)
        net, gates = self.network(), torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
        design = torch.cat([x * gates, torch.ones_like(x[:, :1])], 1)
        precision = torch.eye(5, dtype=torch.float64) + design.T @ design / self.noise**2
        mean = torch.linalg.solve(precision, design.T @ y / self.noise**2)
        values = {
            "linear.gate": gates,
            "linear.weight": mean[:4, None],
            "output.weight": torch.cat([torch.zeros(1).double(), mean[4:]])[None],
            "hidden1.gate": torch.zeros(1, dtype=torch.float64),
        }
        trace = poutine.trace(poutine.condition(net, data=values)).get_trace(x, y)
        trace.compute_log_prob()
        score = {
            name: site["log_prob"].sum() for name, site in trace.nodes.items() if "log_prob" in site
        }
        joint = score["obs"] + score["linear.weight"] + score["output.weight"]
        joint = joint - Normal(0.0, 1.0).log_prob(torch.zeros(1).double())  # the hidden node's
        log_posterior = 0.5 * (torch.logdet(precision) - 5 * math.log(2 * math.pi))
        index = int((gates * 2 ** torch.arange(4)).sum())
        torch.testing.assert_close(joint.squeeze() - log_posterior, exact.log_evidence[index])

    def test_bound_of_the_exact_posterior_is_the_evidence(self):
        """With orthogonal predictors the posterior is a member of the guide's family: the bound has no gap."""
        x, y = self.data(orthogonal=True)
        exact = linear_evidence(x, y, noise_scale=self.noise, inclusion=self.inclusion)
        net = self.network()
        guide = ss.StructuredGuide(net).double()
        precision = 1 + x.square().sum(0) / self.noise**2
        mean = x.T @ y / self.noise**2 / precision
        with torch.no_grad():
            guide.input.logits.fill_(math.log(0.3 / 0.7))
            guide.hidden1.gate.logits.fill_(-40.0)
            guide.linear.weight.loc.copy_(mean[:, None])
            guide.linear.weight.log_scale.copy_(-0.5 * precision.log()[:, None])
            bayes = 0.5 * (mean.square() * precision - precision.log())
            guide.linear.gate.logits.copy_(bayes + math.log(0.3 / 0.7))
            of_bias = 1 + 16 / self.noise**2
            guide.output.weight.loc.copy_(torch.tensor([[0.0, y.sum() / self.noise**2 / of_bias]]))
            guide.output.weight.log_scale.copy_(torch.tensor([[0.0, -0.5 * math.log(of_bias)]]))
        torch.testing.assert_close(guide.inclusion()["linear"], exact.inclusion()["input"])
        bound = ss.evaluate_bound(net, guide, x, y, num_draws=4000)
        assert bound.error < 0.05
        assert abs(bound.elbo - exact.log_marginal) < 4.5 * bound.error

    def test_training_finds_it(self):
        x, y = self.data(orthogonal=False)
        exact = linear_evidence(x, y, noise_scale=self.noise, inclusion=self.inclusion)
        options = ss.TrainingOptions(
            epochs=800, compile="trace", num_particles=4, gate_rate=0.05, dtype="float64"
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ss.errors.CollapseWarning)
            fit = ss.fit(self.network(), x, y, options, progress=False)
        bound = ss.evaluate_bound(fit.model, fit.guide, x, y)
        assert bound.elbo < exact.log_marginal + 4.5 * bound.error
        assert bound.elbo > exact.log_marginal - 2
        found, expected = fit.guide.inclusion()["linear"], exact.inclusion()["input"]
        assert ((found > 0.5) == (expected > 0.5)).all(), (found, expected)


class TestGuide:
    def test_kl_of_a_weight_counts_by_its_linear_gate_alone(self):
        net = network(ss.SSIG(inclusion=0.3))
        guide = shaken(net)
        found = ss.AnalyticELBO().terms(net, guide, X, X[:, 0]).kl["linear.weight"].detach()
        q = guide.linear.gate.logits.detach().sigmoid().repeat_interleave(torch.tensor(WIDTHS))
        loc, scale = guide.linear.weight.loc.detach(), guide.linear.weight.log_scale.detach().exp()
        each = 0.5 * (scale**2 + loc**2 - 1) - scale.log()
        torch.testing.assert_close(found, (q[:, None] * each).sum())

    @pytest.mark.parametrize("prior", PRIORS)
    def test_local_reparameterisation_has_mean_and_variance_of_the_weights_draws(
        self, prior, check_mean
    ):
        """Each of 4,000 particles has gates and scales of its own; the sums given those have these two moments."""
        net = network(PRIORS[prior], outputs=2)
        guide = shaken(net)

        def particles(local):
            pyro.set_rng_seed(5)
            with pyro.plate("particles", 4000, dim=-2):
                handler = LocalReparameterization() if local else nullcontext()
                with handler:
                    trace = poutine.trace(guide).get_trace()
                    with poutine.replay(trace=trace):
                        shared = net.sample_shared(X)
                        return net.layer("linear")(X, shared["global"]).detach()

        drawn, direct = particles(True), particles(False)
        check_mean(drawn - direct.mean(0), torch.zeros(()), sigmas=6)
        ratio = drawn.var(0) / direct.var(0)
        assert ((ratio > 0.7) & (ratio < 1.4)).all(), ratio

    @pytest.mark.parametrize("prior", PRIORS)
    def test_starts_from_deterministic_weights(self, prior):
        net = network(PRIORS[prior], outputs=3)
        guide = ss.StructuredGuide(net).double()
        weights = {g.name: torch.randn(g.num_rows, g.group_size) for g in net.description.groups}
        guide.start_from(weights)
        for name, weight in weights.items():
            torch.testing.assert_close(guide.mean_weights(name), weight.double())

    def test_the_predictors_penalty_takes_both_effects_together(self):
        net = network(ss.Gaussian(), input_inclusion=None, linear=True)
        x = X.float().repeat(20, 1)
        y = x[:, 2] + x[:, 6]
        options = ss.TrainingOptions(epochs=200, batch_size=len(x), mean_rate=0.05)
        weights = ss.fit_deterministic(net, x, y, options, predictor_penalty=0.3, progress=False)
        squares = weights["hidden1"][:, :-1].square().sum(0) + weights["linear"].square().sum(1)
        norms = [float(part.sum()) ** 0.5 for part in squares.split(list(WIDTHS))]
        assert min(norms[1], norms[3]) > 0.2
        assert max(norms[0], norms[2]) < 0.1

    def test_coupled_gates(self):
        net = network()
        guide = ss.CoupledGuide(net)
        assert guide.coupled == ("input", "hidden1", "linear")
        options = ss.TrainingOptions(epochs=5, num_particles=4, compile=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ss.errors.CollapseWarning)  # gates start at 1/2
            fit = ss.fit(net, X.float(), X[:, 0].float(), options, guide=guide, progress=False)
        assert fit.guide.inclusion()["linear"].shape == (4,)

    @pytest.mark.usefixtures("needs_same_sums")
    @pytest.mark.parametrize("kind", ["trace", False])
    def test_steps_of_every_kind_are_the_same(self, kind):
        options = ss.TrainingOptions(epochs=5, compile=kind)
        fit = ss.fit(network(), X.float(), X[:, 0].float(), options, progress=False)
        eager = ss.TrainingOptions(epochs=5, compile=False)
        other = ss.fit(network(), X.float(), X[:, 0].float(), eager, progress=False)
        for name, value in fit.guide.state_dict().items():
            torch.testing.assert_close(value, other.guide.state_dict()[name], rtol=0, atol=0)


class TestCut:
    @pytest.mark.parametrize("activation", ["silu", "sigmoid"])
    @pytest.mark.parametrize("kept", OPEN)
    @pytest.mark.parametrize("prior", PRIORS)
    def test_the_pruned_network_is_the_masked_one(self, prior, kept, activation):
        net = network(PRIORS[prior], outputs=2, activation=activation)
        guide = shaken(net)
        selection = selection_of(guide, OPEN[kept])
        found = ss.prune(net, guide, selection).network(X)
        expected = masked_output(guide, selection, X, net.phi)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)

    def test_pruned_draws_are_the_models(self):
        net = network()
        guide = shaken(net)
        selection = selection_of(guide, OPEN["both"])
        found = ss.prune(net, guide, selection, num_draws=3).network(X)
        assert found.shape == (3, len(X), 1)
        other = X.clone()
        other[:, 4:6] = torch.nan  # the third predictor is in neither
        torch.testing.assert_close(
            ss.prune(net, guide, selection, num_draws=3).network(other), found
        )

    def test_drawn_networks_predict_as_the_model_does(self):
        net = network()
        guide = shaken(net)
        draws = ss.draw_posterior(net, guide, 40, x=X, weights=True, seed=1)
        values = draws.latents
        assert 0 < float(values["linear.gate"].mean()) < 1
        w, v, b = (draws.weights[name] for name in ("hidden1", "output", "linear"))
        hidden = functional.silu(X @ w[..., :-1].mT + w[..., -1].unsqueeze(-2))
        f = hidden @ v[..., :-1].mT + v[..., -1].unsqueeze(-2) + X @ b
        torch.testing.assert_close(draws.mean, f.squeeze(-1), rtol=1e-10, atol=1e-10)

    def test_a_network_without_any_open_gate_is_a_constant(self):
        net = network()
        guide = shaken(net)
        nothing = {"input": [0], "hidden1": [], "linear": []}
        with pytest.raises(ss.errors.SelectionError, match="leaves a constant"):
            ss.prune(net, guide, selection_of(guide, nothing))

    @pytest.mark.parametrize(
        ("kept", "draws"), [("both", None), ("no hidden node", None), ("no hidden node", 3)]
    )
    def test_files_and_exports(self, kept, draws, tmp_path):
        # Some versions of onnxruntime have no float64 kernel of SiLU.
        net = network(outputs=2, activation="tanh")
        guide = shaken(net)
        selection = selection_of(guide, OPEN[kept])
        pruned = ss.prune(net, guide, selection, num_draws=draws).network
        ss.save_compact(pruned, tmp_path / "a.safetensors")
        again = ss.load_compact(tmp_path / "a.safetensors")
        torch.testing.assert_close(again(X), pruned(X), rtol=0, atol=0)
        assert again.kept["linear"].tolist() == [1, 3]
        assert ss.export_onnx(pruned, tmp_path / "a.onnx").largest_difference < 1e-8

    def test_a_given_number_of_nodes_is_of_the_layers(self):
        guide = shaken(network())
        selection = ss.select(guide.inclusion(), nodes=2)
        assert selection.counts["hidden1"] == 2
        median = ss.select(guide.inclusion())
        assert torch.equal(selection.kept["linear"], median.kept["linear"])


class TestShrinking:
    DUE = {"input": [1], "hidden1": [0, 3]}  # noqa: RUF012

    @pytest.fixture(params=PRIORS)
    def live(self, request):
        live = LiveNetwork(net := network(PRIORS[request.param]), shaken(net))
        live.close(self.DUE)
        live.narrow()
        return live

    @torch.no_grad()
    def test_bound_is_that_of_the_whole_with_the_predictor_out(self, live):
        """Its linear term leaves with it: gates cost log(1 - inclusion), weights nothing."""
        live.store()
        for module in (*live.guide.modules(), *live.whole_guide.modules()):
            if isinstance(module, LogNormalSite):  # KLs depend on the scales' draws
                module.log_scale.fill_(-30.0)
        columns = live.whole_model.description.inputs.columns.indices(live.kept)
        narrow = ss.AnalyticELBO().terms(live.model, live.guide, X[:, columns], X[:, 0]).kl
        whole = ss.AnalyticELBO().terms(live.whole_model, live.whole_guide, X, X[:, 0]).kl
        for name in ("linear.weight", "hidden1.weight", "output.weight"):
            torch.testing.assert_close(whole[name], narrow[name])
        for name in ("input", "linear"):
            closed = torch.tensor(-math.log1p(-0.2)).double()
            torch.testing.assert_close(whole[f"{name}.gate"], narrow[f"{name}.gate"] + closed)
        assert live.removed_kl == pytest.approx(-2 * math.log1p(-0.2) - 2 * math.log1p(-0.3))
        assert live.model.description.linear.prior_size == 2
        assert live.model.description.linear.widths == (1, 2, 1)

    def test_its_inclusion_is_nought(self, live):
        inclusion = live.inclusion()
        assert inclusion["input"][1] == inclusion["linear"][1] == 0
        assert (inclusion["linear"][[0, 2, 3]] > 0).all()

    def test_outputs_are_those_of_the_whole(self, live):
        live.store()
        columns = live.whole_model.description.inputs.columns.indices(live.kept)
        keep = {"input": [0, 2, 3], "hidden1": [1, 2, 4], "linear": [0, 2, 3]}
        expected = masked_output(
            live.whole_guide, selection_of(live.whole_guide, keep), X, live.model.phi
        )
        every = {name: list(range(len(p))) for name, p in live.guide.inclusion().items()}
        found = ss.prune(live.model, live.guide, selection_of(live.guide, every)).network
        torch.testing.assert_close(found(X[:, columns]), expected, rtol=1e-10, atol=1e-10)

    def test_a_predictor_is_due_when_both_its_gates_have_stayed_closed(self):
        history = History()
        history.inclusion = {
            "input": [np.array([0.01, 0.01, 0.9, 0.01])] * 2,
            "hidden1": [np.full(5, 0.9)] * 2,
            "linear": [np.array([0.01, 0.9, 0.01, 0.01])] * 2,
        }
        history.log_likelihood = history.kl = [0.0, 0.0]
        history.kl_weight = [1.0, 1.0]
        assert due_for_removal(history, network(), 0.05, 2) == {"input": [0, 3]}

    def test_a_run_removes_both_and_resumes_from_its_file(self, tmp_path):
        x = torch.randn(100, COLUMNS)
        y = x[:, 0] + 0.1 * torch.randn(100)
        options = ss.TrainingOptions(
            epochs=100, compile=False, gate_rate=0.3, batch_size=50, remove_below=0.2
        )
        fit = ss.fit(network(), x, y, options, progress=False)
        gone = {r.node for r in fit.history.removed if r.group == "input"}
        assert gone
        assert not any(r.group == "linear" for r in fit.history.removed)
        assert (fit.history.inclusion["linear"][-1][list(gone)] == 0).all()
        assert fit.guide.inclusion()["linear"][0] > 0.9
        ss.save_fit(fit, tmp_path / "fit.safetensors")
        again = ss.load_fit(tmp_path / "fit.safetensors")
        torch.testing.assert_close(
            ss.predict(again.model, again.guide, x[:5]).mean,
            ss.predict(fit.model, fit.guide, x[:5]).mean,
        )


class TestCollapse:
    def test_a_linear_model_is_no_collapse(self):
        description = network().description
        inclusion = {
            "input": torch.zeros(4),
            "hidden1": torch.zeros(5),
            "linear": torch.tensor([0.0, 0.9, 0.0, 0.0]),
        }
        assert collapsed_layers(description, inclusion) == []
        inclusion["linear"] = torch.zeros(4)
        assert collapsed_layers(description, inclusion) == ["hidden1", "linear"]


class TestTables:
    def test_one_row_a_predictor(self):
        net = network()
        guide = shaken(net)
        table = ss.inclusion_summary(guide)
        assert list(table["group"].unique()) == ["input", "hidden1"]
        rows = table[table["group"] == "input"]
        nonlinear, linear = (guide.inclusion()[n].numpy() for n in ("input", "linear"))
        np.testing.assert_allclose(rows["nonlinear"], nonlinear)
        np.testing.assert_allclose(rows["linear"], linear)
        either = 1 - (1 - nonlinear) * (1 - linear)
        np.testing.assert_allclose(rows["inclusion"], either)
        odds = np.log(either / (1 - either)) - np.log(0.36 / 0.64)
        np.testing.assert_allclose(rows["log_bayes_factor"].astype(float), odds, rtol=1e-9)
        squares = (guide.mean_weights("linear") ** 2).sum(1).split(list(WIDTHS))
        np.testing.assert_allclose(rows["effect"], [float(s.sum()) ** 0.5 for s in squares])

    def test_effects_of_single_columns_have_a_sign(self):
        net = network(input_widths=None)
        guide = shaken(net)
        effect = ss.inclusion_summary(guide)["effect"][:4]
        np.testing.assert_allclose(effect, guide.mean_weights("linear")[:, 0])

    def test_arviz_has_them_by_predictor(self):
        net = network(outputs=2)
        posterior = ss.to_arviz(net, shaken(net), num_draws=3, weights=True)["posterior"]
        assert posterior["linear.gate"].sizes["predictor"] == 4
        assert posterior["linear.slab_scale"].sizes["predictor"] == 4
        assert posterior["linear.weight"].sizes == {
            "chain": 1,
            "draw": 3,
            "linear_column": COLUMNS,
            "output_node": 2,
        }

    def test_plot_shows_either_and_each(self):
        guide = shaken(network())
        ax = plot_predictor_inclusion(guide, ax=Figure().subplots())
        rows = ss.inclusion_summary(guide).iloc[:4].sort_values("inclusion", ascending=False)
        np.testing.assert_allclose([bar.get_width() for bar in ax.patches], rows["inclusion"])
        marks = {line.get_label(): line.get_xdata() for line in ax.lines}
        np.testing.assert_allclose(marks["linear"], rows["linear"])
        np.testing.assert_allclose(marks["nonlinear"], rows["nonlinear"])

    def test_structures_name_them(self):
        names = Structures.of(network(hidden=(3,)).description).names
        assert names[:4] == ("x1", "x2", "x3", "x4")
        assert names[-4:] == ("x1 linear", "x2 linear", "x3 linear", "x4 linear")
