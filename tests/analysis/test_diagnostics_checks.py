"""Every check says ok where all is well by construction, and warns where the fault is built in."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from pyro_ssbnn.analysis.diagnostics import Check, Report
from pyro_ssbnn.analysis.diagnostics.evidence import Evidence, gather
from pyro_ssbnn.analysis.diagnostics.importance import check_importance, check_leave_one_out
from pyro_ssbnn.analysis.diagnostics.predictive import (
    check_calibration,
    check_prior_predictive,
    check_replicates,
)
from pyro_ssbnn.analysis.diagnostics.prior import (
    check_power_scaling,
    check_prior_odds,
    power_scaled_draws,
)
from pyro_ssbnn.analysis.diagnostics.restarts import (
    check_node_agreement,
    check_prediction_agreement,
    check_predictor_agreement,
)
from pyro_ssbnn.analysis.diagnostics.selection import check_threshold, continued
from pyro_ssbnn.analysis.diagnostics.signal import check_signal, strongest_column
from pyro_ssbnn.analysis.diagnostics.training import (
    check_convergence,
    check_gate_rate,
    check_schedule,
)
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.guides import CLOSED_LOGIT
from pyro_ssbnn.inference import Fit, History, TrainingOptions
from pyro_ssbnn.inference.history import Reading
from pyro_ssbnn.likelihoods import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    GaussianLikelihood,
    PoissonLikelihood,
)
from pyro_ssbnn.posterior.draws import PosteriorDraws
from pyro_ssbnn.priors import SSGHS, SSGL, SSIG, Gaussian

N = 400


def with_history(build, elbo, kl_weight=None, inclusion=None, num_data=N, **options):
    """A fit with these ELBOs, nats per observation, and a network of a moment's making."""
    model, guide = build()
    elbo = np.asarray(elbo)
    history = History(
        log_likelihood=list(num_data * elbo + 1.0),
        kl=[1.0] * len(elbo),
        kl_weight=list(np.ones(len(elbo)) if kl_weight is None else kl_weight),
        seconds=list(np.arange(len(elbo), dtype=float)),
        inclusion=inclusion or {"hidden1": [np.full(4, 0.9, np.float32)] * len(elbo)},
    )
    chosen = TrainingOptions(**{"epochs": len(elbo), **options})
    return Fit(model, guide, chosen, history, num_data)


def noise(size, seed=0):
    return 0.01 * np.random.default_rng(seed).normal(size=size)


def test_convergence_tells_rising_falling_and_settled(build):
    flat, line = -1.0 + noise(400), np.linspace(0, 0.8, 400)  # a quarter of the run rises by 0.2
    assert check_convergence(with_history(build, flat)).verdict == "ok"
    rising = check_convergence(with_history(build, flat + line))
    assert rising.verdict == "warning"
    assert rising.values["rise"] == pytest.approx(0.2, abs=4 * rising.values["error"])
    falling = check_convergence(with_history(build, flat - line))
    assert falling.verdict == "warning"
    assert "falls" in falling.finding


def test_a_rise_below_what_matters_is_none(build):
    sure = -1.0 + 0.01 * noise(400) + np.linspace(0, 0.03, 400)  # 0.0075 a quarter, without noise
    assert check_convergence(with_history(build, sure)).verdict == "ok"


def test_a_rise_within_the_noise_is_none(build):
    noisy = -1.0 + 10 * noise(400) + np.linspace(0, 0.08, 400)
    check = check_convergence(with_history(build, noisy))
    assert check.values["error"] > 0.02
    assert check.verdict == "ok"


@pytest.mark.parametrize(
    ("last", "verdict"), [(-101.0, "ok"), (-80.0, "warning"), (-125.0, "warning"), (-96.0, "note")]
)
def test_convergence_goes_by_the_readings_of_the_bound_where_there_are_any(build, last, verdict):
    result = with_history(build, np.linspace(-9, -1, 100), num_data=100)  # single draws still rise
    for epoch, elbo in ((60.0, -400.0), (80.0, -100.0), (100.0, last)):
        result.history.bounds.append(Reading(epoch, elbo, 0.5))
    check = check_convergence(result)
    assert check.verdict == verdict
    assert check.values["rise"] == pytest.approx((last + 100.0) / 100)


def test_convergence_looks_at_full_kl_weight_only(build):
    weight = np.minimum(1.0, np.arange(1, 401) / 395)
    check = check_convergence(with_history(build, -1.0 + noise(400), weight))
    assert check.verdict == "warning"
    assert "too few" in check.finding


def test_an_interrupted_schedule_is_seen_although_the_bound_is_flat(build):
    flat = -1.0 + noise(100)
    whole = with_history(build, flat, gate_rate=0.05)
    assert check_schedule(whole).verdict == "ok"
    early = with_history(build, flat, epochs=400, gate_rate=0.05)
    assert check_convergence(early).verdict == "ok"
    check = check_schedule(early)
    assert check.verdict == "warning"
    assert check.values["rate_factor"] == 1.0
    assert check.values["planned"] == 400


def test_gates_that_cannot_travel_are_seen(build):
    # 100 epochs of 8 steps at rate r, the second half by a cosine: r * 8 * (50 + 50 * 0.505) = 5.9 at r = 0.0098
    flat = -1.0 + noise(100)
    at_once = {"kl_warmup": 0.0}
    slow = check_schedule(with_history(build, flat, gate_rate=0.009, **at_once))
    assert slow.verdict == "warning"
    check = check_schedule(with_history(build, flat, gate_rate=0.011, **at_once))
    assert check.verdict == "ok"
    assert check.values["travel"] == pytest.approx(0.011 * 8 * 75.25, rel=0.01)


def test_gates_that_ascend_travel_by_their_ascents_and_have_no_rate(build):
    flat = -1.0 + noise(100)
    result = with_history(build, flat, gate_method="ascent", gate_hold=(0.2, 0.4))
    check = check_schedule(result)
    assert check.verdict == "ok"
    assert check.values["travel"] == pytest.approx(result.schedule.ascent * result.schedule.ascents)
    moved = check_gate_rate(result)
    assert (moved.verdict, moved.values["ascents"]) == ("ok", result.schedule.ascents)


def test_gate_rates_beyond_adams_memory_are_seen(build):
    flat = -1.0 + noise(100)
    assert check_gate_rate(with_history(build, flat, gate_rate=0.25)).verdict == "ok"
    assert check_gate_rate(with_history(build, flat, gate_rate=0.5)).verdict == "warning"
    swing = [
        np.array([0.9, p, 0.01, 0.95], np.float32) for p in [0.95] * 40 + [0.05] * 30 + [0.95] * 30
    ]
    check = check_gate_rate(with_history(build, flat, inclusion={"hidden1": swing}, gate_rate=0.02))
    assert check.verdict == "note"
    assert check.values["swings"] == {"hidden1": 0.25}


def evidence(build, y, mean, predictive, scores, likelihood=None, held_out=True, **logits):
    x = logits.get("x", torch.randn(len(y), 3, generator=torch.Generator().manual_seed(1)))
    gates = {"hidden1": logits.get("hidden1", 3.0)}
    model, guide = build(likelihood=likelihood, inputs=x.shape[1], logits=gates)
    result = Fit(model, guide, TrainingOptions(), History(), len(y))
    draws = PosteriorDraws({}, torch.zeros(len(mean)), torch.zeros(len(mean)))
    draws.mean, draws.predictive, draws.log_likelihood = mean, predictive, scores
    return Evidence(result, x, y, draws, held_out, not held_out, 0)


def gaussian_evidence(build, ratio, **options):
    """Observations from N(0, 1), forecast by N(0, ratio^2)."""
    y = torch.randn(N)
    predictive = ratio * torch.randn(500, N)
    score = torch.distributions.Normal(0.0, ratio).log_prob(y).expand(500, N)
    return evidence(build, y, torch.zeros(500, N), predictive, score, **options)


@pytest.mark.parametrize(("ratio", "verdict"), [(0.3, "warning"), (1.0, "ok"), (3.0, "warning")])
def test_calibration_and_replicates_see_a_wrong_scale(build, ratio, verdict):
    given = gaussian_evidence(build, ratio)
    check = check_calibration(given)
    assert check.verdict == verdict
    assert check.values["scale_ratio"] == pytest.approx(ratio, rel=0.2)
    assert check_replicates(given).verdict == verdict
    if verdict != "ok":
        assert ("narrow" if ratio < 1 else "wide") in check.finding


def test_training_rows_are_judged_without_themselves(build):
    # theta ~ posterior of a Normal mean from the two rows it is judged on, noise known: in-sample u's huddle at 1/2
    y = torch.tensor([-0.5, 0.5])
    theta = torch.randn(20_000, 1) / math.sqrt(2)
    score = torch.distributions.Normal(theta, 1.0).log_prob(y)
    predictive = theta + torch.randn(20_000, 2)
    own = evidence(build, y, theta.expand(-1, 2), predictive, score, held_out=False)
    # without row 0 the flat prior leaves N(y_1, 1) for theta: weights 1 / p(y_0 | theta) make exactly that
    mean = own.row_weights @ theta.double().numpy()
    np.testing.assert_allclose(mean[:, 0], [0.5, -0.5], atol=0.1)
    assert np.ptp(evidence(build, y, theta.expand(-1, 2), predictive, score).row_weights) == 0


@pytest.mark.parametrize(("sharpen", "verdict"), [(1.0, "ok"), (4.0, "warning")])
def test_calibration_of_classes(build, sharpen, verdict):
    f = torch.randn(N, 3)
    y = torch.distributions.Categorical(logits=f).sample()
    p = (sharpen * f).softmax(-1).expand(200, N, 3)
    predictive = torch.distributions.Categorical(p).sample()
    score = p.gather(-1, y.expand(200, N).unsqueeze(-1)).squeeze(-1).log()
    given = evidence(build, y, p, predictive, score, CategoricalLikelihood(3))
    assert check_calibration(given).verdict == verdict


@pytest.mark.parametrize("likelihood", [BernoulliLikelihood(), PoissonLikelihood()])
def test_discrete_targets_that_follow_the_forecast_pass(build, likelihood):
    f = torch.randn(N, 1)
    forecast = likelihood.distribution(f, {})
    y, predictive = forecast.sample(), forecast.sample([300])
    mean, score = likelihood.mean(f, {}).expand(300, N), forecast.log_prob(y).expand(300, N)
    given = evidence(build, y, mean, predictive, score, likelihood)
    for check in (check_calibration(given), check_replicates(given), check_signal(given)):
        assert check.verdict == "ok", check


def test_collapse_is_a_warning_only_where_there_is_signal(build):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(N, 3, generator=generator)
    verdicts = []
    for y in (x[:, 0] + 0.3 * torch.randn(N), torch.randn(N)):
        empty = torch.zeros(100, N)
        given = evidence(build, y, empty, empty, empty, x=x, hidden1=-5.0)
        assert given.result.collapsed == ["hidden1"]
        verdicts.append(check_signal(given).verdict)
    assert verdicts == ["warning", "note"]


def test_a_predictor_of_a_rare_class_is_seen_where_a_forest_sees_nothing(build):
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(3000, 20, generator=generator)
    y = (torch.rand(3000, generator=generator) < (-4.2 + 0.7 * x[:, 3]).sigmoid()).float()
    mean = torch.full((20, 3000), float(y.mean()))
    given = evidence(build, y, mean, mean, mean, BernoulliLikelihood(), x=x, hidden1=-5.0)
    found = check_signal(given)
    assert found.verdict == "warning"
    assert found.values["share"] < 0.02
    assert "x4 alone" in found.finding


def test_tests_of_single_columns_keep_their_level_where_the_noise_depends_on_the_column():
    random = np.random.default_rng(0)
    p_values = []
    for _ in range(400):
        x = random.normal(size=(200, 5))
        p_values.append(
            strongest_column(x, (x[:, :1] ** 2 + 0.5) * random.normal(size=(200, 1)))[0]
        )
    below = np.mean(np.array(p_values) < 0.2)
    assert abs(below - 0.2) < 4 * math.sqrt(0.16 / 400)


def test_k_hat_is_information_not_alarm(build):
    y = torch.randn(50)
    given = evidence(build, y, *[torch.zeros(1000, 50)] * 3, held_out=False)
    assert check_importance(given).verdict == "ok"  # equal ratios: the guide is the posterior
    wide = replace(given.draws, log_q=-20 * torch.randn(1000).abs())
    check = check_importance(replace(given, draws=wide))
    assert check.values["k_hat"] > 0.7
    assert check.verdict == "note"


def test_leave_one_out_says_when_it_cannot_be_read(build):
    y = torch.randn(50)
    blank = torch.zeros(1000, 50)
    calm = evidence(build, y, blank, blank, 0.1 * torch.randn(1000, 50), held_out=False)
    assert check_leave_one_out(calm).verdict == "ok"
    wild = evidence(build, y, blank, blank, -30 * torch.randn(1000, 50) ** 2, held_out=False)
    check = check_leave_one_out(wild)
    assert check.verdict == "note"
    assert check.values["share_above"] > 0.9
    assert (np.ptp(wild.row_weights, axis=1) == 0).mean() > 0.9  # such rows keep equal weights


def test_threshold_names_the_undecided(build):
    logit = [math.log(p / (1 - p)) for p in (0.05, 0.35, 0.65, 0.95)]
    result = Fit(*build(logits={"hidden1": torch.tensor(logit)}), TrainingOptions(), History(), N)
    check = check_threshold(result)
    assert check.verdict == "note"
    assert check.values["selected"] == {"hidden1": [3, 2, 2, 2, 1]}
    assert check.values["undecided"] == ["hidden1[1] (0.35)", "hidden1[2] (0.65)"]


def test_prior_odds_flip_what_lies_within_their_factor(build):
    logits = torch.tensor([0.5, -0.6, 0.8, CLOSED_LOGIT])  # log 2 = 0.69
    check = check_prior_odds(
        Fit(*build(logits={"hidden1": logits}), TrainingOptions(), History(), N)
    )
    assert len(check.values["changed"]) == 2
    assert check.values["nearest"] == "hidden1[0]"
    assert check.values["nearest_factor"] == pytest.approx(math.exp(0.5))


def test_reweighting_draws_by_prior_odds_moves_every_logit_by_their_logarithm(build):
    # what check_prior_odds takes as exact, by importance sampling of draws
    logits = torch.tensor([0.5, -0.6, 1.5, -1.0])
    model, guide = build(prior=SSIG(inclusion=0.2), logits={"hidden1": logits})
    result = Fit(model, guide, TrainingOptions(), History(), N)
    draws = gather(
        result, torch.randn(5, 3), torch.randn(5), num_draws=20_000, held_out=True, seed=0
    )
    gates = draws.draws.latents["hidden1.gate"].double()
    weights = (math.log(2) * gates.sum(1)).softmax(0)
    found = (weights[:, None] * gates).sum(0)
    size = 1 / (weights**2).sum()
    exact = torch.sigmoid(logits.double() + math.log(2))
    assert ((found - exact).abs() < 4 * (exact * (1 - exact) / size).sqrt()).all()


def test_power_scaled_weights_leave_out_what_follows_the_prior(build):
    model, guide = build(prior=SSIG(inclusion=0.2), logits={"hidden1": CLOSED_LOGIT})
    result = Fit(model, guide, TrainingOptions(), History(), N)
    quantities, priors = power_scaled_draws(result, torch.randn(4, 3), num_draws=2000, seed=0)
    assert set(priors) == {"gates", "weights", "noise"}
    assert set(quantities) >= {"mean[3]", "hidden1.open", "noise.variance"}
    # only the five weights of the output are open; each term is 1/2 - u^2 / 2 with u from the guide
    site = guide.output.weight
    u2 = site.loc.detach() ** 2 + (2 * site.log_scale.detach()).exp()
    expected = float((0.5 - u2 / 2).sum())
    assert priors["weights"].mean() == pytest.approx(
        expected, abs=4 * priors["weights"].std() / 2000**0.5
    )
    assert (quantities["hidden1.open"] == 0).all()


def test_power_scaling_notes_a_prior_that_rules(build):
    model, guide = build(prior=SSGL(inclusion=0.2), logits={"hidden1": 0.0})
    result = Fit(model, guide, TrainingOptions(), History(), N)
    check = check_power_scaling(result, torch.randn(10, 3), num_draws=500)
    assert check.verdict == "note"
    assert set(check.values) == {"weights", "scales", "noise"}


def fits_of(build, inclusions):
    fits = []
    for gamma in inclusions:
        logits = torch.logit(torch.tensor(gamma))
        model, guide = build(logits={"input": logits}, input_inclusion=0.3)
        elbo = with_history(build, -1.0 + noise(20)).history
        fits.append(Fit(model, guide, TrainingOptions(), elbo, N))
    return fits


def test_predictors_on_which_restarts_disagree_are_named(build):
    agree = fits_of(build, [[0.9, 0.02, 0.03], [0.95, 0.03, 0.02], [0.97, 0.1, 0.04]])
    assert check_predictor_agreement(agree).verdict == "ok"
    border = fits_of(build, [[0.9, 0.4, 0.03], [0.95, 0.6, 0.02]])
    assert check_predictor_agreement(border).verdict == "note"
    opposed = fits_of(build, [[0.9, 0.1, 0.03], [0.95, 0.5, 0.02], [0.97, 0.9, 0.04]])
    check = check_predictor_agreement(opposed)
    assert check.verdict == "warning"
    said = "Over 3 restarts inclusion of x2 varies from 0.10 to 0.90: do not interpret it."
    assert check.finding == said


def chains(build, means, scale=1.0, likelihood=None):
    """Restarts whose predictive means lie at ``means``, noise of this scale."""
    parts = []
    for seed, mean in enumerate(means):
        generator = torch.Generator().manual_seed(seed)
        at = torch.full((300, 50), float(mean)) + 0.05 * torch.randn(300, 50, generator=generator)
        predictive = at + scale * torch.randn(300, 50, generator=generator)
        part = evidence(build, torch.zeros(50), at, predictive, -(at**2), likelihood)
        parts.append(part)
    return parts


def test_disagreement_is_the_information_about_the_restart(build):
    fits = fits_of(build, [[0.9, 0.1, 0.1]] * 3)
    check = check_prediction_agreement(fits, chains(build, [0, 0, 0]))
    assert check.verdict == "ok"
    assert check.values["r_hat_predictive_mean_median"] < 1.05
    apart = check_prediction_agreement(fits, chains(build, [-1, 0, 1]))
    assert apart.verdict == "warning"
    assert apart.values["cost"] == pytest.approx(0.5 * math.log(2), abs=0.02)  # B = W = 1
    assert apart.values["r_hat_predictive_mean_median"] > 2
    small = check_prediction_agreement(fits, chains(build, [-1, 0, 1], scale=5.0))
    assert small.verdict == "note"
    assert small.values["cost"] == pytest.approx(0.5 * math.log(1 + 1 / 25), abs=0.005)


def test_disagreement_of_classes_is_mutual_information(build):
    fits = fits_of(build, [[0.9, 0.1, 0.1]] * 2)
    parts = chains(build, [0, 0], likelihood=BernoulliLikelihood())
    for part, p in zip(parts, (0.1, 0.9), strict=True):
        part.draws.mean = torch.full((300, 50), p)
    h = -(0.1 * math.log(0.1) + 0.9 * math.log(0.9))
    check = check_prediction_agreement(fits, parts)
    assert check.values["cost"] == pytest.approx(math.log(2) - h, rel=1e-6)
    assert check.verdict == "warning"


def test_a_fit_far_below_the_best_restart_warns(build):
    fits = fits_of(build, [[0.9, 0.1, 0.1]] * 2)
    fits[1].history.log_likelihood = [v + 0.3 * N for v in fits[1].history.log_likelihood]
    check = check_prediction_agreement(fits, chains(build, [0, 0]))
    assert check.verdict == "warning"
    assert "seed" in check.advice


def test_nodes_are_compared_without_their_labels(build):
    fits, parts = [], []
    for order in ([3.0, -3.0, -4.0, -5.0], [-4.0, -5.0, 3.0, -3.0]):
        model, guide = build(logits={"hidden1": torch.tensor(order)})
        fits.append(Fit(model, guide, TrainingOptions(), History(), N))
        x, y = torch.randn(5, 3), torch.randn(5)
        parts.append(gather(fits[-1], x, y, num_draws=200, held_out=True, seed=len(parts)))
    check = check_node_agreement(fits, parts)
    assert check.verdict == "ok"
    assert check.values["hidden1"]["largest_difference_of_sorted_inclusion"] == 0
    assert check.values["hidden1"]["r_hat_of_open_gates"] == pytest.approx(1.0, abs=0.05)


def test_the_prior_predictive_sees_scales_that_cannot_be(build):
    x, y = torch.randn(100, 3), torch.randn(100)

    def verdict(likelihood, y=y, prior=None):
        model, guide = build(likelihood=likelihood, prior=prior or SSGHS(inclusion=0.5))
        return check_prior_predictive(Fit(model, guide, TrainingOptions(), History(), 100), x, y)

    assert verdict(GaussianLikelihood()).verdict == "ok"
    assert verdict(GaussianLikelihood(scale=5.0)).verdict == "warning"
    assert "mean" in verdict(GaussianLikelihood(), y + 5000).finding
    wild = verdict(PoissonLikelihood(), y.abs().round(), SSIG(scale=30.0, inclusion=0.5))
    assert wild.verdict == "note"  # rates beyond the floating point range, no error
    assert (
        verdict(CategoricalLikelihood(3), (y > 0).long(), SSIG(scale=0.1, inclusion=0.5)).verdict
        == "ok"
    )
    saturated = verdict(BernoulliLikelihood(), (y > 0).float(), Gaussian(scale=100.0))
    assert saturated.verdict == "note"


def test_a_continuation_leaves_the_fit_as_it_was(build):
    import pyro_ssbnn as ss

    x, y = torch.randn(60, 3), torch.randn(60)
    result = ss.fit(build()[0], x, y, TrainingOptions(epochs=4), progress=False)
    before = {k: v.clone() for k, v in result.guide.state_dict().items()}
    other = continued(result, x, y, share=0.5, temperature=1.0)
    assert len(other.history) == 2
    assert float(other.guide.temperature) == pytest.approx(1.0)
    assert all(torch.equal(v, before[k]) for k, v in result.guide.state_dict().items())
    assert not torch.equal(other.guide.hidden1.weight.loc, result.guide.hidden1.weight.loc)


def test_a_report_is_trustworthy_without_warnings():
    checks = (Check("a", "ok", "Well."), Check("b", "note", "Known.", "Read.", {"k": float("nan")}))
    report = Report(checks)
    assert report.trustworthy
    assert not Report((*checks, Check("c", "warning", "Bad."))).trustworthy
    assert json.loads(report.to_json())["checks"][1]["values"] == {"k": None}
    assert list(report.to_frame()["verdict"]) == ["ok", "note"]
    assert report["b"].advice == "Read."
    assert "Known. Read." in str(report)
    with pytest.raises(KeyError, match="no check is called 'z'"):
        report["z"]


def test_a_fit_without_a_history_cannot_have_converged(build):
    model, guide = build([2])
    with pytest.raises(ConfigurationError, match="holds no history; fit the network first"):
        check_convergence(Fit(model, guide, TrainingOptions(), History(), 10))
