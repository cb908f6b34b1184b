"""The joint law of a perceptron's predictors: rivals share, tables agree with sets, nothing else changes."""

import itertools
import math
import warnings
from dataclasses import replace

import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.analysis.laplace import SetEvidence
from pyro_ssbnn.analysis.open_perceptron import OpenPerceptron
from pyro_ssbnn.analysis.predictor_law import in_reasonable_time
from pyro_ssbnn.analysis.set_search import _explained
from pyro_ssbnn.errors import ConfigurationError, DataError

RIVALS = ss.TrainingOptions(epochs=150, dtype="float64", seed=1)


def curve(x, sd=0.3):
    return torch.sin(2 * x) + sd * torch.randn_like(x)


def network(p, **options):
    return ss.MLP(
        p,
        [6],
        prior=ss.SSIG(inclusion=0.5),
        likelihood=ss.GaussianLikelihood(),
        **{"input_inclusion": 0.3, **options},
    )


def fitted(net, x, y, options=RIVALS):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ss.fit(net, x, y, options, progress=False)


@pytest.fixture(scope="module")
def rivals():
    """One curve of a predictor that stands there twice, and four that do nothing."""
    torch.manual_seed(0)
    x = torch.randn(150, 6).double()
    x[:, 1] = x[:, 0]
    y = curve(x[:, 0])
    return fitted(network(6, input_names=list("abcdef")), x, y), x, y


@pytest.fixture(scope="module")
def law(rivals):
    return ss.predictor_law(*rivals)


class TestRivals:
    def test_of_two_that_say_the_same_each_has_half(self, law):
        inclusion = law.inclusion()["input"]
        assert float(inclusion[0]) == pytest.approx(float(inclusion[1]), abs=0.02)
        assert 0.45 < float(inclusion[0]) < 0.8
        assert float(inclusion[2:].max()) < 0.3  # the prior's

    def test_one_of_them_is_in_for_sure(self, law):
        assert ss.set_inclusion(law, ["a", "b"]) > 0.999
        sets = ss.credible_sets(law)
        assert [one.members for one in sets] == [(0, 1)]
        assert ss.credible_set_summary(law)["members"].tolist() in ([("a", "b")], [("b", "a")])

    def test_the_guide_says_otherwise(self, rivals, law):
        guide = rivals[0].guide.inclusion()["input"]
        assert float(guide[:2].sum()) > float(law.inclusion()["input"][:2].sum()) + 0.2
        torch.testing.assert_close(law.fitted["input"], guide.double())


class TestSearch:
    def test_it_finds_what_all_sets_say(self, rivals, law):
        fit, x, y = rivals
        open = OpenPerceptron(fit)
        evidence = SetEvidence(fit, open, x, y, 1.0)
        none, scores, table = torch.zeros(0, dtype=torch.bool), [], []
        for gates in itertools.product([False, True], repeat=6):
            mask = torch.tensor(gates)
            # As the search does, from what the fit has: the twin in place of the one that is in.
            scores.append(_score(fit, open, evidence, x, mask, none))
            table.append(mask.double())
        exact = torch.tensor(scores, dtype=torch.float64).softmax(0) @ torch.stack(table)
        torch.testing.assert_close(law.inclusion()["input"], exact, rtol=0, atol=0.02)

    def test_from_rivals_it_goes_to_those_that_act(self):
        """Twenty predictors that all correlate at 0.95; the fit is handed over with two others in place of the two."""
        torch.manual_seed(4)
        common, own = torch.randn(300, 1), torch.randn(300, 20)
        x = (0.95**0.5 * common + 0.05**0.5 * own).double()
        y = torch.sin(2 * x[:, 0]) + x[:, 1] + 0.1 * torch.randn(300).double()
        fit = fitted(network(20, input_inclusion=0.1), x, y)
        assert (fit.guide.inclusion()["input"] > 0.5).nonzero().flatten().tolist()[:2] == [0, 1]
        first, logits = fit.guide.hidden1.weight.loc, fit.guide.gate_logits("input")
        with torch.no_grad():
            for here, there in ((0, 15), (1, 16)):
                first[:, [here, there]] = first[:, [there, here]]
                logits[[here, there]] = logits[[there, here]]
        law = ss.predictor_law(fit, x, y)
        assert law.fitted["input"][15:17].min() > 0.5 > law.fitted["input"][:2].max()
        assert (law.inclusion()["input"] > 0.5).nonzero().flatten().tolist() == [0, 1]
        assert law.inclusion()["input"][:2].min() > 0.99

    def test_fewer_modes_are_found_where_fewer_are_asked_for(self, rivals):
        few = ss.predictor_law(*rivals, most=1)
        # The fit's own set, and those of one member more.
        assert len(few.sets) <= 7

    def test_prior_odds_multiply_those_of_the_evidence(self, rivals):
        """The same fit under another prior inclusion: odds of any two sets change by the prior odds alone."""
        fit, x, y = rivals
        laws = []
        for inclusion in (0.3, 0.1):
            model = network(6, input_inclusion=inclusion, input_names=list("abcdef"))
            guide = ss.StructuredGuide(model).double()
            guide.load_state_dict(fit.guide.state_dict())
            other = replace(fit, model=model.double(), guide=guide)
            law = ss.predictor_law(other, x, y)
            laws.append(dict(zip(law.sets, law.probability.log().tolist(), strict=True)))
        # Sets that matter under both priors, whose modes were found.
        near = [
            {one for one, value in law.items() if value > max(law.values()) - 4} for law in laws
        ]
        shared = near[0] & near[1]
        assert len(shared) >= 5
        added = math.log(0.3 / 0.7) - math.log(0.1 / 0.9)
        base = max(shared, key=laws[0].get)
        for one in shared:
            change = laws[0][one] - laws[0][base] - (laws[1][one] - laws[1][base])
            assert change == pytest.approx(added * (len(one) - len(base)), abs=0.02)

    def test_rows_are_drawn_where_there_are_more(self, rivals):
        fit, x, y = rivals
        part = ss.predictor_law(fit, x, y, max_rows=100, seed=3)
        again = ss.predictor_law(fit, x, y, max_rows=100, seed=3)
        torch.testing.assert_close(part.probability, again.probability, rtol=0, atol=0)
        assert ss.set_inclusion(part, ["a", "b"]) > 0.99

    def test_sets_come_most_probable_first_and_add_up(self, law):
        assert float(law.probability.sum()) == pytest.approx(1.0, abs=1e-12)
        assert bool((law.probability.diff() <= 0).all())
        assert len(set(law.sets)) == len(law.sets)


def _score(fit, open, evidence, x, mask, none):
    from dataclasses import replace

    fitted = fit.guide.inclusion()["input"] > 0.5
    first = open.mean.layers[0]
    weights, bias = _explained(first[:, :-1].mT, fitted, mask, x, first[:, -1])
    start = replace(
        open.mean, layers=(torch.cat([weights.mT, bias.unsqueeze(-1)], 1), *open.mean.layers[1:])
    )
    prior = fit.model.description.inputs.log_prior(mask.double())
    return evidence.mode(start, mask, none, -math.inf).evidence + float(prior)


class TestLaw:
    def test_tables_and_sets_say_the_same(self, law):
        gates = law.gates("input")
        for chosen in ([0], [1, 2], [0, 1, 5]):
            direct = float(law.probability[gates[:, chosen].any(1)].sum())
            assert ss.set_inclusion(law, chosen) == pytest.approx(direct, abs=1e-9)
        tables = law.tables("input")
        assert sorted(m for table in tables for m in table.members) == list(range(6))

    def test_select_takes_its_inclusion(self, law):
        assert ss.select_fdr(law.inclusion(), level=0.1).counts["input"] <= 2

    def test_summary_has_both_laws(self, rivals, law):
        table = law.summary()
        assert list(table.index) == list("abcdef")
        assert table["inclusion"].to_numpy() == pytest.approx(law.inclusion()["input"].numpy())
        assert table["fitted"].to_numpy() == pytest.approx(
            rivals[0].guide.inclusion()["input"].numpy()
        )
        assert table["prior_inclusion"].to_numpy() == pytest.approx(0.3)
        assert "PredictorLaw of 6 predictors" in repr(law)

    def test_the_number_of_predictors_is_that_of_the_sets(self, law):
        numbers = law.gates("input").sum(-1)
        mass = torch.zeros(7, dtype=torch.float64).index_add(0, numbers, law.probability)
        torch.testing.assert_close(ss.model_size(law)["input"], mass, rtol=0, atol=1e-9)

    def test_the_plot_has_its_inclusion_and_its_sets(self, law):
        ax = ss.plots.plot_predictor_inclusion(law)
        widths = sorted(bar.get_width() for bar in ax.patches)
        assert widths == pytest.approx(sorted(law.inclusion()["input"].tolist()))
        assert any("set 1: " in text.get_text() for text in ax.texts)

    def test_with_linear_terms_either_gate_lets_a_predictor_in(self, law):
        one, both = (("input", 0),), (("input", 0), ("linear", 1))
        fitted = {"input": torch.zeros(6), "linear": torch.zeros(6)}
        mass = torch.tensor([0.75, 0.25]).double()
        joint = ss.PredictorLaw(law.description, (one, both), mass, {}, fitted)
        expected = torch.tensor([1.0, 0.25, 0, 0, 0, 0]).double()
        torch.testing.assert_close(joint.inclusion()["input"], expected)
        torch.testing.assert_close(joint.of_gates()["linear"], expected * torch.arange(6).ne(0))
        assert ss.set_inclusion(joint, [1, 2]) == pytest.approx(0.25)

    def test_linear_terms_have_gates_of_their_own(self):
        torch.manual_seed(1)
        x = torch.randn(150, 3).double()
        y = x[:, 0] + curve(x[:, 1])
        fit = fitted(network(3, linear=True), x, y)
        table = ss.predictor_law(fit, x, y).summary()
        assert table.loc["x1", "linear"] > 0.95
        assert table.loc["x2", "nonlinear"] > 0.95
        assert (table[["inclusion"]].to_numpy()[:2] > 0.99).all()
        assert table.loc["x3", "inclusion"] < 0.3

    def test_a_beta_prior_is_that_of_all_gates_together(self):
        torch.manual_seed(2)
        x = torch.randn(120, 4).double()
        y = curve(x[:, 0])
        fit = fitted(network(4, input_inclusion=ss.BetaInclusion(1, 4)), x, y)
        law = ss.predictor_law(fit, x, y)
        assert float(law.inclusion()["input"][0]) > 0.99
        assert float(law.inclusion()["input"][1:].max()) < 0.3

    def test_unknown_groups_are_refused(self, law):
        with pytest.raises(
            ConfigurationError, match="a law of the predictors, 'input'; got 'hidden1'"
        ):
            law.tables("hidden1")

    def test_sets_must_be_of_the_network(self, law):
        with pytest.raises(ConfigurationError, match="input has no member 9"):
            ss.PredictorLaw(law.description, ((("input", 9),),), torch.ones(1), {}, law.fitted)
        with pytest.raises(ConfigurationError, match="one probability a set"):
            ss.PredictorLaw(law.description, (), torch.ones(1), {}, law.fitted)


def test_nothing_else_changes(rivals):
    fit, x, y = rivals
    before = {name: value.clone() for name, value in fit.guide.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    ss.predictor_law(fit, x, y, max_rows=80)
    assert torch.equal(torch.rand(3), expected)
    after = fit.guide.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_float32_fits_have_the_same_law(rivals):
    _, x, y = rivals
    fit = fitted(network(6), x.float(), y.float(), ss.TrainingOptions(epochs=150, seed=1))
    law = ss.predictor_law(fit, x.float(), y.float())
    assert law.probability.dtype == torch.float64
    inclusion = law.inclusion()["input"]
    assert float(inclusion[0]) == pytest.approx(float(inclusion[1]), abs=0.02)
    assert ss.set_inclusion(law, [0, 1]) > 0.999


def test_time_goes_by_rows_and_squared_weights(rivals):
    """Six nodes of two predictors at most, a bias each, and the output: few. All of a wide network: many."""
    assert in_reasonable_time(rivals[0], 20_000)
    x, y = torch.randn(30, 10), torch.randn(30)
    net = ss.MLP(
        10,
        [64, 32],
        prior=ss.SSIG(inclusion=0.5),
        likelihood=ss.GaussianLikelihood(),
        input_inclusion=0.5,
    )
    fit = fitted(net, x, y, ss.TrainingOptions(epochs=1))
    weights = 64 * 11 + 32 * 65 + 33
    enough = (2**29 - weights**3) // weights**2  # none is left for rows
    assert enough < 0
    assert not in_reasonable_time(fit, 30)
    with torch.no_grad():
        fit.guide.gate_logits("hidden1")[20:] = -9.0
        fit.guide.gate_logits("hidden2")[10:] = -9.0
    weights = 20 * 11 + 10 * 21 + 11
    enough = (2**29 - weights**3) // weights**2
    assert in_reasonable_time(fit, enough)
    assert not in_reasonable_time(fit, enough + 1)


class TestRefused:
    def test_a_network_without_hidden_layers_has_its_law_in_the_guide(self):
        x, y = torch.randn(30, 2), torch.randn(30)
        net = ss.MLP(
            2,
            [],
            prior=ss.SSIG(inclusion=0.5),
            likelihood=ss.GaussianLikelihood(),
            input_inclusion=0.5,
        )
        fit = fitted(net, x, y, ss.TrainingOptions(epochs=1))
        with pytest.raises(ConfigurationError, match="own guide has the joint law"):
            ss.predictor_law(fit, x, y)

    def test_predictors_without_gates(self):
        x, y = torch.randn(30, 2), torch.randn(30)
        fit = fitted(network(2, input_inclusion=None), x, y, ss.TrainingOptions(epochs=1))
        with pytest.raises(ConfigurationError, match="carry no gates; give input_inclusion"):
            ss.predictor_law(fit, x, y)

    def test_more_weights_than_fit_into_memory(self):
        x, y = torch.randn(30, 150), torch.randn(30)
        once = ss.TrainingOptions(epochs=1, screen=False)
        net = ss.MLP(
            150,
            [70],
            prior=ss.SSIG(inclusion=0.5),
            likelihood=ss.GaussianLikelihood(),
            input_inclusion=0.5,
        )
        fit = fitted(net, x, y, once)
        assert bool((fit.guide.inclusion()["input"] > 0.5).all())
        # 70 nodes of 150 predictors and a bias, and an output of 70 nodes and a bias.
        with pytest.raises(ConfigurationError, match="this fit has 10,641"):
            ss.predictor_law(fit, x, y)

    def test_scales_beyond_double_precision(self, rivals):
        _, x, y = rivals
        x = x.clone()
        x[:, 2] *= 1e9
        fit = fitted(network(6), x, y, replace(RIVALS, epochs=30))
        with pytest.raises(DataError, match="Fit to standardised ones"):
            ss.predictor_law(fit, x, y)

    def test_other_rows(self, rivals):
        fit, x, y = rivals
        with pytest.raises(DataError):
            ss.predictor_law(fit, x[:, :3], y)

    def test_what_is_no_fit(self, rivals):
        with pytest.raises(
            ConfigurationError,
            match=r"what fit returned \(of several mixture\.best\)",
        ):
            ss.predictor_law(rivals[0].guide, rivals[1], rivals[2])

    @pytest.mark.parametrize("option", [{"most": 0}, {"max_rows": 0}])
    def test_numbers_below_one(self, rivals, option):
        with pytest.raises(ConfigurationError, match="at least 1"):
            ss.predictor_law(*rivals, **option)
