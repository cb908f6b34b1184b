"""Several fits as one posterior: moments of a mixture, one fit alone, files, refusals."""

import copy
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.errors import CheckpointError, ConfigurationError
from pyro_ssbnn.inference.several import combine_fits, fit_several
from pyro_ssbnn.inference.stacking import left_out_densities
from pyro_ssbnn.posterior.parts import allotted, parts_of

X = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
Y = X[:, 0]
SHORT = ss.TrainingOptions(epochs=2, batch_size=15, kl_warmup=0.0, screen=False)
WEIGHTS = (0.25, 0.75)


def net(**options):
    given = {"input_inclusion": 0.4, **options}
    return ss.MLP(3, [4], prior=ss.SSIG(inclusion=0.5), likelihood=ss.GaussianLikelihood(), **given)


def made(seed, model=None, inclusion=0.8):
    """A fit as if it had been trained: a guide at starting values of its own."""
    torch.manual_seed(seed)
    model = net() if model is None else model
    guide = ss.StructuredGuide(model, initial_inclusion=inclusion, initial_scale=0.5)
    return ss.Fit(model, guide, replace(SHORT, seed=seed), ss.History(), len(X))


@pytest.fixture
def mixture():
    return ss.Mixture((made(0, inclusion=0.6), made(1, inclusion=0.9)), WEIGHTS)


def parts(mixture, num_draws, seed=0):
    return parts_of(mixture.model, mixture.guide, num_draws, seed)


def equal_tensors(one, other):
    for name, value in vars(one).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, getattr(other, name)), name


class TestDraws:
    def test_each_fit_has_its_share(self):
        assert allotted([0.25, 0.75], 40) == [10, 30]
        assert allotted([0.5, 0.3, 0.2], 9) == [4, 3, 2]
        assert allotted([1 / 3] * 3, 9) == [3, 3, 3]
        assert allotted([0.999, 0.001], 100) == [100, 0]
        weights = np.random.default_rng(0).dirichlet(np.ones(6))
        numbers = np.array(allotted(weights, 101))
        assert numbers.sum() == 101
        assert (np.abs(numbers - 101 * weights) < 1).all()

    def test_moments_are_those_of_the_mixture(self, mixture):
        """Weighted means, and the law of total variance."""
        found = ss.predict(mixture.model, mixture.guide, X, Y, num_draws=40)
        each = [
            ss.predict(p.model, p.guide, X, Y, num_draws=p.num_draws, seed=p.seed)
            for p in parts(mixture, 40)
        ]
        w = torch.tensor(WEIGHTS, dtype=torch.float64).unsqueeze(-1)
        means, variances, epistemic = (
            torch.stack([getattr(e, name) for e in each])
            for name in ("mean", "variance", "epistemic_variance")
        )
        mean = (w * means).sum(0)
        between = (w * (means - mean).square()).sum(0)
        assert between.max() > 1e-3
        torch.testing.assert_close(found.mean, mean)
        torch.testing.assert_close(found.variance, (w * variances).sum(0) + between)
        torch.testing.assert_close(found.epistemic_variance, (w * epistemic).sum(0) + between)
        density = torch.stack([e.log_density for e in each])
        torch.testing.assert_close(found.log_density, (w.log() + density).logsumexp(0))

    def test_quantiles_are_those_of_the_mixture(self, mixture):
        """At its 0.3 quantile the fits' own distribution functions average to 0.3."""
        found = ss.predict(mixture.model, mixture.guide, X, quantiles=(0.3,), num_draws=40)
        at = found.quantiles[0]
        below = []
        for p in parts(mixture, 40):
            draws = ss.draw_posterior(p.model, p.guide, p.num_draws, x=X, seed=p.seed)
            f, scale = draws.mean.double(), draws.latents["noise.variance"].double().sqrt()
            below.append(torch.distributions.Normal(f, scale.unsqueeze(-1)).cdf(at))
        torch.testing.assert_close(
            torch.cat(below).mean(0), torch.full_like(at, 0.3), atol=1e-6, rtol=0
        )

    def test_draws_say_whose_they_are_and_score_under_all(self, mixture):
        draws = ss.draw_posterior(mixture.model, mixture.guide, 40, x=X, y=Y)
        assert draws.member.tolist() == [0] * 10 + [1] * 30
        second = parts(mixture, 40)[1]
        own = ss.draw_posterior(second.model, second.guide, 30, x=X, y=Y, seed=second.seed)
        assert torch.equal(draws.log_likelihood[10:], own.log_likelihood)
        assert torch.equal(draws.log_prior[10:], own.log_prior)
        assert (draws.log_q[10:] >= np.log(0.75) + own.log_q - 1e-9).all()

    def test_a_fit_mixed_with_itself_is_itself(self):
        """Every density is the fit's, log q too: the second's is found by replaying the first's draws."""
        one = made(0)
        twice = ss.Mixture((one, copy.deepcopy(one)), (0.3, 0.7))
        mixed = ss.draw_posterior(twice.model, twice.guide, 10)
        first = ss.draw_posterior(one.model, one.guide, 3)
        torch.testing.assert_close(mixed.log_q[:3], first.log_q)
        torch.testing.assert_close(twice.guide.inclusion()["input"], one.guide.inclusion()["input"])
        table = ss.inclusion_summary(twice.guide)
        alone = ss.inclusion_summary(one.guide).loc[table.index]
        for name in ("inclusion", "log_bayes_factor", "norm"):
            np.testing.assert_allclose(table[name], alone[name], rtol=1e-6)

    def test_one_fit_is_that_fit(self):
        one = made(3)
        alone = ss.Mixture((one,), (1.0,))
        assert alone.guide is one.guide
        found = ss.predict(alone.model, alone.guide, X, Y, num_draws=20)
        equal_tensors(found, ss.predict(one.model, one.guide, X, Y, num_draws=20))
        pd.testing.assert_frame_equal(
            ss.inclusion_summary(alone.guide), ss.inclusion_summary(one.guide)
        )

    def test_running_statistics_are_each_fits_own(self):
        fits = []
        for seed, shift in ((0, 0.0), (1, 3.0)):
            torch.manual_seed(seed)
            model = ss.ResNet(
                (1, 4, 4),
                8,
                prior=ss.SSIG(inclusion=0.4),
                likelihood=ss.CategoricalLikelihood(3),
                widths=[2, 2, 2],
            )
            for name, value in model.state_dict().items():
                if name.endswith("mean"):
                    value += shift
            fits.append(made(seed, model))
        mixture = ss.Mixture(tuple(fits), (0.5, 0.5))
        x = torch.randn(6, 16)
        found = ss.predict(mixture.model, mixture.guide, x, num_draws=8)
        each = [
            ss.predict(p.model, p.guide, x, num_draws=4, seed=p.seed).mean
            for p in parts(mixture, 8)
        ]
        torch.testing.assert_close(found.mean, (each[0] + each[1]) / 2)
        wrong = ss.predict(
            fits[0].model, fits[1].guide, x, num_draws=4, seed=parts(mixture, 8)[1].seed
        )
        assert not torch.allclose(wrong.mean, each[1])


class TestTables:
    def test_predictors_are_averaged_and_their_spread_is_told(self, mixture):
        table = ss.inclusion_summary(mixture.guide)
        assert list(table.index) == ["x1", "x2", "x3"]  # no nodes: they do not correspond
        np.testing.assert_allclose(table["inclusion"], 0.25 * 0.6 + 0.75 * 0.9, rtol=1e-6)
        np.testing.assert_allclose(table[["lowest", "highest"]], [[0.6, 0.9]] * 3, rtol=1e-6)
        gamma = 0.25 * 0.6 + 0.75 * 0.9
        expected = np.log(gamma / (1 - gamma)) - np.log(0.4 / 0.6)
        np.testing.assert_allclose(table["log_bayes_factor"], expected, rtol=1e-5)

    def test_linear_terms_are_in_the_row_of_their_predictor(self):
        model = net(linear=True)
        fits = tuple(made(s, model, inclusion=p) for s, p in ((0, 0.6), (1, 0.9)))
        table = ss.inclusion_summary(ss.Mixture(fits, WEIGHTS).guide)
        either = 0.25 * (1 - 0.4**2) + 0.75 * (1 - 0.1**2)
        np.testing.assert_allclose(table["inclusion"], either, rtol=1e-6)
        np.testing.assert_allclose(table["linear"], 0.25 * 0.6 + 0.75 * 0.9, rtol=1e-6)
        effects = np.stack([ss.inclusion_summary(f.guide).loc[table.index, "effect"] for f in fits])
        weights = np.array([0.25 * 0.6, 0.75 * 0.9])
        np.testing.assert_allclose(table["effect"], weights @ effects / weights.sum(), rtol=1e-5)

    def test_numbers_of_nodes_follow_the_law_of_total_variance(self, mixture):
        table = ss.layer_summary(mixture.guide).loc["hidden1"]
        means, variances = np.array([4 * 0.6, 4 * 0.9]), np.array([4 * 0.24, 4 * 0.09])
        w = np.array(WEIGHTS)
        assert table["expected_active"] == pytest.approx(w @ means)
        variance = w @ variances + w @ (means - w @ means) ** 2
        assert table["sd_active"] == pytest.approx(np.sqrt(variance), rel=1e-6)
        assert (table["fewest_active"], table["most_active"]) == (4, 4)

    def test_sizes_and_sets_are_averages(self, mixture):
        sizes = ss.model_size(mixture.guide)["hidden1"]
        each = [ss.model_size(one.guide)["hidden1"] for one in mixture.fits]
        torch.testing.assert_close(sizes, 0.25 * each[0] + 0.75 * each[1])
        found = ss.set_inclusion(mixture.guide, ["x1", "x3"])
        assert found == pytest.approx(0.25 * (1 - 0.4**2) + 0.75 * (1 - 0.1**2), rel=1e-6)

    def test_arviz_has_one_chain_of_the_mixture(self, mixture):
        data = ss.to_arviz(mixture.model, mixture.guide, x=X, y=Y, num_draws=40)
        assert data["posterior"].sizes["chain"] == 1
        assert data["sample_stats"]["member"].sum() == 30
        exact = data["constant_data"]
        np.testing.assert_allclose(exact["input.inclusion"], 0.825, rtol=1e-6)
        np.testing.assert_allclose(exact["weight"], WEIGHTS)
        assert "hidden1.inclusion" not in exact
        mean = data["posterior_predictive"]["obs"].mean(("chain", "draw")).to_numpy()
        draws = ss.draw_posterior(mixture.model, mixture.guide, 40, x=X)
        np.testing.assert_allclose(mean, draws.predictive.mean(0).numpy(), atol=1e-5)

    def test_summary_has_a_row_for_each(self, mixture):
        table = mixture.summary()
        assert table["seed"].tolist() == [0, 1]
        assert table["active hidden1"].tolist() == [4, 4]
        assert "weights by given" in repr(mixture)
        assert mixture.best is mixture.fits[1]

    def test_single_nodes_are_asked_of_a_fit(self, mixture):
        with pytest.raises(ConfigurationError, match="nodes of different fits do not correspond"):
            ss.slab_norms(mixture.guide, "hidden1")
        with pytest.raises(ConfigurationError, match="selection must be left out for a mixture"):
            ss.inclusion_summary(mixture.guide, ss.select(mixture.guide.inclusion()))
        ungated = ss.Mixture(tuple(made(s, net(input_inclusion=None)) for s in (0, 1)), WEIGHTS)
        with pytest.raises(ConfigurationError, match="only predictors can be averaged"):
            ss.inclusion_summary(ungated.guide)


class TestPruning:
    def test_draws_of_each_fit_keep_what_it_selects(self, mixture):
        """The network for the union predicts what the pruned fits do, one after the other."""
        with torch.no_grad():
            mixture.fits[0].guide.hidden1.gate.logits[0] = -3.0
            mixture.fits[1].guide.hidden1.gate.logits[1] = -3.0
            mixture.fits[1].guide.input.logits[2] = -3.0
        pruning = ss.prune(mixture.model, mixture.guide, num_draws=8)
        expected = [
            ss.prune(p.model, p.guide, num_draws=p.num_draws, seed=p.seed).network(X)
            for p in parts(mixture, 8)
        ]
        assert [len(e) for e in expected] == [2, 6]
        torch.testing.assert_close(pruning.network(X), torch.cat(expected))
        assert pruning.selection.counts == {"input": 3, "hidden1": 4}

    def test_one_set_of_weights_is_that_of_one_fit(self, mixture):
        with pytest.raises(ConfigurationError, match=r"num_draws=100.*mixture\.best"):
            ss.prune(mixture.model, mixture.guide)
        best = mixture.best
        assert ss.prune(best.model, best.guide).network(X).shape == (30, 1)

    def test_a_fit_that_would_keep_no_member_is_told_by_name(self, mixture):
        """Not seen in the union, to which the other fit gives members."""
        with torch.no_grad():
            mixture.fits[1].guide.hidden1.gate.logits.fill_(-3.0)
        with pytest.raises(ss.errors.SelectionError, match="hidden1 would keep no member"):
            ss.prune(mixture.model, mixture.guide, num_draws=8)


class TestFiles:
    def test_a_mixture_comes_back_whole(self, mixture, tmp_path):
        scored = replace(mixture, rule="stacking", scores=(-1.5, -1.25))
        path = tmp_path / "mixture.safetensors"
        ss.save_mixture(scored, path)
        again = ss.load_mixture(path)
        assert (again.weights, again.rule, again.scores) == (WEIGHTS, "stacking", (-1.5, -1.25))
        for one, other in zip(scored.fits, again.fits, strict=True):
            assert one.options == other.options
            for name, value in one.guide.state_dict().items():
                assert torch.equal(value, other.guide.state_dict()[name])
        found = ss.predict(again.model, again.guide, X, Y, num_draws=12)
        equal_tensors(found, ss.predict(mixture.model, mixture.guide, X, Y, num_draws=12))

    def test_another_file_is_refused(self, mixture, tmp_path):
        ss.save_fit(mixture.fits[0], tmp_path / "fit.safetensors")
        with pytest.raises(CheckpointError, match="holds a saved fit, where a mixture"):
            ss.load_mixture(tmp_path / "fit.safetensors")
        with pytest.raises(ConfigurationError, match="what fit_several or combine_fits returned"):
            ss.save_mixture(mixture.fits[0], tmp_path / "other.safetensors")


class TestCombining:
    def test_rows_are_scored_in_pieces_of_any_size(self, monkeypatch):
        fits = [made(0), made(1)]
        whole = left_out_densities(fits, X, Y, num_draws=100, seed=0)
        monkeypatch.setattr("pyro_ssbnn.inference.stacking._NUMBERS", 7 * 300)
        pieces = left_out_densities(fits, X, Y, num_draws=100, seed=0)
        assert whole.shape == (30, 2)
        np.testing.assert_allclose(pieces, whole, rtol=1e-5)

    def test_rules(self):
        fits = [made(0), made(1)]
        assert combine_fits(fits, X, Y, weights="equal").weights == (0.5, 0.5)
        assert combine_fits(fits, X, Y, weights=WEIGHTS).rule == "given"
        for rule in ("stacking", "bounds"):
            found = combine_fits(fits, X, Y, weights=rule, num_draws=100)
            assert sum(found.weights) == pytest.approx(1.0)
            assert (found.rule, len(found.scores)) == (rule, 2)

    def test_a_fit_that_explains_the_data_takes_all(self):
        """One mean weight away from y = x1, beside one that says the opposite."""
        good, bad = made(0, inclusion=0.999), made(1, inclusion=0.999)
        for one, sign in ((good, 1.0), (bad, -3.0)):
            model = one.model
            values = {"hidden1": torch.zeros(4, 4), "output": torch.zeros(1, 5)}
            values["hidden1"][0, 0], values["output"][0, 0] = 1.0, sign
            one.guide.start_from(values)
            with torch.no_grad():
                for group in model.description.groups:
                    getattr(one.guide, group.name).weight.log_scale.fill_(-4.0)
        for rule in ("stacking", "bounds"):
            assert combine_fits([bad, good], X, Y, weights=rule, num_draws=100).weights[1] > 0.999

    @pytest.mark.parametrize(
        ("fits", "message"),
        [
            ([], "fits must be"),
            ([made(0), 3], "fit 2 must be a Fit"),
            (
                [made(0), made(1, net(input_inclusion=0.3))],
                "input.inclusion is 0.4 in the first fit and 0.3 in fit 2",
            ),
            ([made(0), replace(made(1), num_data=29)], "to 30 rows and fit 2 to 29"),
        ],
    )
    def test_what_does_not_belong_together_is_refused(self, fits, message):
        with pytest.raises(ConfigurationError, match=message):
            combine_fits(fits, X, Y)

    @pytest.mark.parametrize("weights", ["loo", (0.5,), (0.5, 0.6), (1.5, -0.5), (0.5, "x")])
    def test_unknown_weights_are_refused(self, weights):
        with pytest.raises(ConfigurationError, match="combine_fits: weights must be"):
            combine_fits([made(0), made(1)], X, Y, weights=weights)

    def test_other_rows_are_refused(self):
        with pytest.raises(ConfigurationError, match="fits are to 30 rows, x has 20"):
            combine_fits([made(0), made(1)], X[:20], Y[:20])


class TestFitting:
    def test_fits_are_those_of_their_seeds(self, process_unchanged):
        model = net()
        with process_unchanged():
            mixture = fit_several(
                model, X, Y, replace(SHORT, seed=5), fits=2, weights="equal", progress=False
            )
        assert [f.options.seed for f in mixture.fits] == [5, 6]
        alone = ss.fit(net(), X, Y, replace(SHORT, seed=6), progress=False)
        for name, value in mixture.fits[1].guide.state_dict().items():
            assert torch.equal(value, alone.guide.state_dict()[name])

    def test_a_fit_that_fails_is_named(self):
        def maker(model):
            maker.calls += 1
            if maker.calls == 2:
                raise ConfigurationError("no guide today")
            return ss.StructuredGuide(model)

        maker.calls = 0
        with pytest.raises(ConfigurationError, match=r"^the fit of seed 1: no guide today"):
            fit_several(net(), X, Y, SHORT, fits=3, guide=maker, progress=False)

    def test_bad_arguments_are_refused_before_anything_is_fitted(self, monkeypatch):
        monkeypatch.setattr("pyro_ssbnn.inference.several.fit", None)
        model = net()
        for arguments, message in (
            ({"fits": 0}, "fits must be at least 1"),
            ({"weights": "best"}, "weights must be one of stacking"),
            ({"weights": (1.0,)}, "weights must be 4 numbers"),
            ({"guide": ss.StructuredGuide(model)}, "guide must be what makes a guide"),
        ):
            with pytest.raises(ConfigurationError, match=message):
                fit_several(model, X, Y, SHORT, **arguments)
        with pytest.raises(ss.errors.DataError, match="x must be"):
            fit_several(model, X[:, :2], Y, SHORT)

    def test_a_mixture_is_not_trained(self, mixture):
        with pytest.raises(ConfigurationError, match="not trained"):
            mixture.guide(X, Y)
        with pytest.raises(ConfigurationError, match="not trained"):
            ss.fit(net(), X, Y, SHORT, guide=mixture.guide, progress=False)

    def test_diagnose_judges_the_mixture(self):
        mixture = fit_several(net(), X, Y, SHORT, fits=2, progress=False)
        report = ss.diagnose(mixture, X, Y, num_draws=100)
        assert "2 restarts" in report["predictors"].finding
        assert report["predictions"].verdict != "warning"

    @pytest.mark.slow
    def test_processes_give_the_same_numbers(self):
        """Two processes that import the package: half a minute."""
        one, two = (
            fit_several(net(), X, Y, SHORT, fits=2, progress=False, n_jobs=n) for n in (1, 2)
        )
        assert one.weights == two.weights
        for a, b in zip(one.fits, two.fits, strict=True):
            for name, value in a.guide.state_dict().items():
                assert torch.equal(value, b.guide.state_dict()[name])

    @pytest.mark.slow
    def test_a_dask_cluster_gives_the_same_numbers(self):
        """A cluster of two processes on this machine: half a minute."""
        joblib, distributed = pytest.importorskip("joblib"), pytest.importorskip("distributed")

        def maker(model):
            guide = ss.StructuredGuide(model)
            guide.made_in = os.getpid()
            return guide

        cluster = distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        )
        with cluster, distributed.Client(cluster), joblib.parallel_config("dask"):
            there = fit_several(net(), X, Y, SHORT, fits=2, guide=maker, progress=False)
        here = fit_several(net(), X, Y, SHORT, fits=2, guide=maker, progress=False)
        assert os.getpid() not in {one.guide.made_in for one in there.fits}
        assert here.weights == there.weights
        for a, b in zip(here.fits, there.fits, strict=True):
            for name, value in a.guide.state_dict().items():
                assert torch.equal(value, b.guide.state_dict()[name])


def test_a_guide_of_several_is_told_with_its_weights(mixture):
    assert repr(mixture.guide) == "MixtureGuide of 2 members, weights 0.250, 0.750"
