"""Prior inclusion by predictor, and under a Beta prior: the network's groups, engine, exact answers and files."""

import math

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import Trace_ELBO

import pyro_ssbnn as ss
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.exact import Structures, linear_evidence
from pyro_ssbnn.inference.correlated_blocks import correlated_blocks
from pyro_ssbnn.inference.shrinking import LiveNetwork
from pyro_ssbnn.models import network_from_config

BETA = ss.BetaInclusion(0.8, 2.0)
EACH = (0.1, 0.6, 0.3, 0.9, 0.05)
KINDS = pytest.mark.parametrize("inclusion", [BETA, EACH], ids=["beta", "each"])


def network(inclusion=BETA, hidden=(), **options):
    return ss.MLP(
        5,
        list(hidden),
        prior=ss.SSIG(inclusion=0.4) if hidden else ss.Gaussian(),
        output_prior=ss.Gaussian(scale=0.5),
        likelihood=ss.GaussianLikelihood(scale=1.0),
        activation="tanh",
        input_inclusion=inclusion,
        **options,
    )


def data(p=5, rows=40, correlation=0.7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    options = {"generator": generator, "dtype": torch.float64}
    common, own = torch.randn(rows, 1, **options), torch.randn(rows, p, **options)
    x = correlation**0.5 * common + (1 - correlation) ** 0.5 * own
    return x, 0.6 * x[:, 0] - 0.4 * x[:, -1] + torch.randn(rows, **options)


def settled(inclusion, x, y, blocks=None, monkeypatch=None):
    net = ss.MLP(
        x.shape[1],
        [],
        prior=ss.Gaussian(),
        output_prior=ss.Gaussian(scale=0.5),
        likelihood=ss.GaussianLikelihood(scale=1.0),
        input_inclusion=inclusion,
    )
    if blocks is not None:
        monkeypatch.setattr(
            "pyro_ssbnn.inference.settling.correlated_blocks",
            lambda x, columns: correlated_blocks(x, columns, blocks, blocks),
        )
    guide = ss.BlockGuide(net).double()
    ss.settle(net, guide, x, y)
    return net, guide


class TestGroup:
    def test_prior_of_one_member(self):
        assert network().description.inputs.prior_inclusion.tolist() == pytest.approx([2 / 7] * 5)
        found = network(EACH).description.inputs
        assert found.prior_inclusion.tolist() == pytest.approx(EACH)
        assert found.prior_logit.tolist() == pytest.approx(np.log(EACH) - np.log1p(-np.array(EACH)))

    @KINDS
    def test_all_sets_together(self, inclusion):
        structures = Structures.of(network(inclusion).description)
        prior = structures.log_prior().exp()
        assert float(prior.sum()) == pytest.approx(1)
        expected = network(inclusion).description.inputs.prior_inclusion
        assert torch.allclose(prior @ structures.table, expected)

    @KINDS
    def test_what_is_left_when_members_close(self, inclusion):
        """The prior of the others is that given that these are closed; their own is what the chain rule leaves."""
        whole, kept = network(inclusion).description, torch.tensor([0, 1, 4])
        left = whole.narrowed({"input": kept}).inputs
        structures = Structures.of(whole)
        closed = (structures.table[:, [2, 3]] == 0).all(-1)
        rows = structures.table[closed][:, kept]
        log_closed = whole.inputs.log_closed([2, 3])
        assert torch.allclose(structures.log_prior()[closed], left.log_prior(rows) + log_closed)

    @KINDS
    def test_expected_odds(self, inclusion):
        group = network(inclusion).description.inputs
        gamma = torch.tensor([0.2, 0.9, 0.5, 0.01, 0.7]).double()
        structures = Structures.of(network(inclusion).description)
        table, score = structures.table, structures.log_prior()
        mass = torch.where(table.bool(), gamma, 1 - gamma)
        for j, found in enumerate(group.expected_logit(gamma)):
            others = mass[:, [i for i in range(5) if i != j]].prod(-1)
            sign = 2 * table[:, j] - 1
            assert float(found) == pytest.approx(float((sign * others * score).sum()))

    def test_words(self):
        groups = [network(kind).description.inputs for kind in (BETA, EACH, 0.25)]
        assert [g.prior_in_words for g in groups] == ["Beta(0.8, 2)", "0.05 to 0.9", "0.25"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("inclusion", "message"),
        [
            ((0.1, 0.2), "5 numbers, one a predictor"),
            ((0.1, 0.2, 0.3, 0.4, 1.0), "strictly between 0 and 1"),
            ("0.1", "strictly between 0 and 1"),
        ],
    )
    def test_inclusion(self, inclusion, message):
        with pytest.raises(ConfigurationError, match=message):
            network(inclusion)

    @pytest.mark.parametrize("a", [0.0, -1.0, math.inf, "1", True, 1e10])
    def test_beta(self, a):
        with pytest.raises(ConfigurationError, match="BetaInclusion: a must be"):
            ss.BetaInclusion(a)

    def test_record(self):
        record = network().to_config()
        with pytest.raises(ConfigurationError, match="its record"):
            network_from_config({**record, "input_inclusion": {"gamma": {"a": 1}}})
        with pytest.raises(ConfigurationError, match="bad record"):
            network_from_config({**record, "input_inclusion": {"beta": {"c": 1}}})


class TestExact:
    @KINDS
    def test_settled_in_one_block(self, inclusion):
        x, y = data()
        net, guide = settled(inclusion, x, y)
        exact = linear_evidence(x, y, noise_scale=1.0, inclusion=inclusion, slab_scale=0.5)
        assert torch.allclose(guide.inclusion()["input"], exact.inclusion()["input"], atol=1e-9)
        bound = ss.evaluate_bound(net, guide, x, y, num_draws=2000)
        assert bound.elbo == pytest.approx(exact.log_marginal, abs=4 * bound.error + 1e-9)

    @KINDS
    def test_blocks_are_at_their_optimum(self, inclusion, monkeypatch):
        """Of blocks of one: each gate's fixed point, by expectations over all values of the others."""
        x, y = data()
        net, guide = settled(inclusion, x, y, 1, monkeypatch)
        assert guide.to_config()["blocks"] == [[j] for j in range(5)]
        gamma, mean = guide.inclusion()["input"], guide.mean_weights("output")[0, :-1]
        centred = torch.eye(40).double() - 0.25 / (1 + 0.25 * 40)  # the bias integrated out
        left = y - x @ (gamma * mean)
        prior = net.description.inputs.expected_logit(gamma)
        for j in range(5):
            around = left + x[:, j] * gamma[j] * mean[j]
            precision = x[:, j] @ centred @ x[:, j] + 4
            explained = (x[:, j] @ centred @ around) ** 2 / precision
            fixed_point = prior[j] + 0.5 * (explained - precision.log()) + math.log(2)
            assert float(guide.inclusion_logits("input")[j]) == pytest.approx(
                float(fixed_point), abs=1e-4
            )

    def test_sure_of_its_probability_it_is_a_fixed_number(self):
        x, y = data()
        found = [
            settled(inclusion, x, y)[1].inclusion()["input"]
            for inclusion in (ss.BetaInclusion(3e7, 7e7), 0.3)
        ]
        assert torch.allclose(*found, atol=1e-6)

    def test_prior_learns_how_many_matter(self):
        """With many real effects beside it, a weak one counts for more."""
        x, y = data(rows=200, correlation=0.0)
        beta = ss.BetaInclusion(1, 9)
        found = []
        for effect in (0.0, 1.0):
            z = y + effect * (x[:, 1] + x[:, 2])
            exact = linear_evidence(x, z, noise_scale=1.0, inclusion=beta, slab_scale=0.5)
            _, guide = settled(beta, x, z)
            assert torch.allclose(guide.inclusion()["input"], exact.inclusion()["input"], atol=1e-9)
            found.append(float(exact.inclusion()["input"][3]))
        assert found[1] > 1.5 * found[0]


class TestEngine:
    @KINDS
    def test_bounds_of_pyro_agree(self, inclusion):
        net = network(inclusion, [3], linear=True)
        x, y = data()
        guide = ss.StructuredGuide(net, initial_inclusion=0.4).double()
        with torch.no_grad():
            guide.input.logits.copy_(torch.linspace(-2, 2, 5))
        found = []
        for elbo in (
            ss.AnalyticELBO(4000),
            Trace_ELBO(4000, vectorize_particles=True, max_plate_nesting=1),
        ):
            pyro.set_rng_seed(1)
            found.append(elbo.loss(net, guide, x, y))
        assert found[0] == pytest.approx(found[1], abs=1.5)

    @KINDS
    def test_kl_of_members_that_left(self, inclusion):
        net = network(inclusion, [3], linear=True)
        guide = ss.StructuredGuide(net).double()
        x, y = data()
        live = LiveNetwork(net, guide)
        live.close({"input": [1, 3], "hidden1": [0]})

        def gate_kl(model, guide, x):
            pyro.set_rng_seed(0)
            with torch.no_grad():
                terms = ss.AnalyticELBO().terms(model, guide, x, y)
            return float(sum(kl for site, kl in terms.kl.items() if site.endswith("gate")))

        whole = gate_kl(net, guide, x)
        live.narrow()
        left = gate_kl(live.model, live.guide, x[:, [0, 2, 4]])
        assert whole == pytest.approx(left + live.removed_kl, abs=1e-6)

    @KINDS
    @pytest.mark.parametrize("compile", [False, "trace"])
    def test_fit_and_files(self, inclusion, compile, tmp_path):
        x, y = data()
        net = network(inclusion, [3], linear=True, linear_inclusion=inclusion)
        options = ss.TrainingOptions(epochs=8, compile=compile, kl_warmup=0.1)
        fit = ss.fit(net, x, y, options, progress=False)
        ss.save_fit(fit, tmp_path / "fit.safetensors")
        again = ss.load_fit(tmp_path / "fit.safetensors")
        assert again.model.description.inputs.inclusion == inclusion
        assert again.model.description.linear.inclusion == inclusion
        assert again.history.kl == fit.history.kl
        table = ss.inclusion_summary(again.guide)
        prior = net.description.inputs.prior_inclusion.numpy()
        assert table["prior_inclusion"][:5].tolist() == pytest.approx(1 - (1 - prior) ** 2)

    def test_nodes(self):
        """Of every hidden layer a probability of its own."""
        net = ss.MLP(3, [4, 5], prior=ss.SSIG(inclusion=BETA), likelihood=ss.GaussianLikelihood())
        again = network_from_config(net.to_config())
        assert [g.inclusion for g in again.description.gated_layers] == [BETA, BETA]
        assert again.prior == net.prior

    def test_fixed_points_take_the_expected_odds(self):
        """A network whose weights are the prior's has no evidence: its gates' fixed points are the prior's odds."""
        net = network(hidden=[3])
        guide = ss.StructuredGuide(net, initial_inclusion=0.3).double()
        with torch.no_grad():
            guide.hidden1.weight.loc.zero_()
            guide.hidden1.weight.log_scale.zero_()
            guide.output.weight.loc.zero_()
            guide.output.weight.log_scale.fill_(-20.0)
        x, y = data()
        evidence = ss.gate_evidence(net, guide, x, y, num_draws=8)["input"]
        expected = net.description.inputs.expected_logit(torch.full((5,), 0.3).double())
        assert torch.allclose(evidence.fixed_point, expected, atol=1e-5)
        assert torch.allclose(evidence.log_bayes_factor, expected - math.log(0.8 / 2.0), atol=1e-5)


class TestTables:
    def test_rate(self):
        """Posterior of the shared probability: mean and variance over the sets of the exact answer."""
        x, y = data()
        _, guide = settled(BETA, x, y)
        row = ss.layer_summary(guide).loc["input"]
        exact = linear_evidence(x, y, noise_scale=1.0, inclusion=BETA, slab_scale=0.5)
        number = exact.structures.table.sum(-1)
        a, b = 0.8 + number, 2.0 + 5 - number
        mean = a / (a + b)
        second = mean * (a + 1) / (a + b + 1)
        expected = float(exact.probability @ mean)
        assert row["prior_expected"] == pytest.approx(5 * 2 / 7)
        assert row["inclusion_rate"] == pytest.approx(expected)
        variance = float(exact.probability @ second) - expected**2
        assert row["sd_inclusion_rate"] == pytest.approx(variance**0.5)

    def test_credible_sets(self):
        x, y = data(rows=200, correlation=0.95)
        for inclusion in (BETA, EACH):
            _, guide = settled(inclusion, x, y)
            (one, *_) = ss.credible_sets(guide)
            prior = Structures.of(guide.description)
            inside = prior.table[:, list(one.members)].any(-1)
            expected = float(prior.log_prior().exp()[inside].sum())
            assert one.prior_probability == pytest.approx(expected)

    @KINDS
    def test_arviz(self, inclusion, check_mean):
        x, y = data()
        net, guide = settled(inclusion, x, y)
        found = ss.to_arviz(net, guide, num_draws=4000)
        prior = found["constant_data"]["input.prior_inclusion"]
        assert prior.dims == (() if inclusion is BETA else ("predictor",))
        if inclusion is BETA:
            row = ss.layer_summary(guide).loc["input"]
            drawn = torch.from_numpy(found["posterior"]["input.inclusion_rate"].values[0])
            check_mean(drawn, row["inclusion_rate"])
            assert float(drawn.std()) == pytest.approx(row["sd_inclusion_rate"], rel=0.1)
