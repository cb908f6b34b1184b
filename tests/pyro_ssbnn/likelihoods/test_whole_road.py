"""Every likelihood goes the whole road: closed KLs, traced fit, file, draws, predictions, pruning, checks."""

import math
from dataclasses import replace

import pytest
import torch
from pyro import poutine
from torch.distributions import kl_divergence
from torch.testing import assert_close

import pyro_ssbnn as ss
from pyro_ssbnn.errors import ConfigurationError, DataError

N = 60
X = torch.randn(N, 3, generator=torch.Generator().manual_seed(2))
NOISE = torch.rand(N, generator=torch.Generator().manual_seed(3))
COUNTS = (3 * NOISE + X[:, 0].exp()).round()
TIMES = (X[:, 0] + NOISE.log()).exp()
EVENT = (NOISE < 0.7).float()
GRADES = torch.bucketize(X[:, 0].contiguous(), torch.tensor([-1.0, 0.0, 1.0]))
CASES = [
    (ss.NegativeBinomialLikelihood(), COUNTS),
    (ss.NegativeBinomialLikelihood(zero_inflation=True, unit=2.0, largest=500.0), COUNTS),
    (ss.PoissonLikelihood(exposure=True), torch.stack([COUNTS, 1 + NOISE], 1)),
    (ss.StudentTLikelihood(), X[:, 0] + NOISE),
    (ss.HeteroscedasticLikelihood(), X[:, 0] + NOISE),
    (ss.OrdinalLikelihood(4), GRADES),
    (ss.OrdinalLikelihood(2), GRADES // 2),
    (ss.WeibullLikelihood(), torch.stack([TIMES, EVENT], 1)),
    (ss.LogNormalLikelihood(), torch.where(EVENT > 0, TIMES, -TIMES)),
]
each = pytest.mark.parametrize(("likelihood", "y"), CASES, ids=lambda v: getattr(v, "name", ""))
SHORT = ss.TrainingOptions(epochs=3, batch_size=20, kl_warmup=0.0, compile="trace")
EAGER = replace(SHORT, compile=False)  # tracing takes longer than so few steps


def net(likelihood):
    return ss.MLP(3, [4], prior=ss.SSIG(inclusion=0.9), likelihood=likelihood)


@each
def test_the_whole_road(likelihood, y, tmp_path):
    result = ss.fit(net(likelihood), X, y, SHORT, progress=False)
    model, guide = result.model, result.guide
    ss.save_fit(result, tmp_path / "fit")
    again = ss.load_fit(tmp_path / "fit")
    assert again.model.likelihood == likelihood
    quantiles = () if likelihood.predicts_classes else (0.05, 0.95)
    found = ss.predict(model, guide, X, y, quantiles=quantiles, num_draws=30)
    draws = ss.draw_posterior(model, guide, 30, x=X, y=y)
    assert_close(found.mean, draws.mean.double().mean(0), rtol=1e-4, atol=1e-4)
    numbers = draws.mean.numel() + draws.predictive.numel() + draws.log_likelihood.numel()
    with pytest.raises(ConfigurationError, match="more than most_bytes"):
        ss.draw_posterior(model, guide, 30, x=X, y=y, most_bytes=4 * numbers - 1)
    mixture = draws.log_likelihood.double().logsumexp(0) - math.log(30)
    assert_close(found.log_density, mixture, rtol=1e-3, atol=1e-3)
    reloaded = ss.predict(again.model, again.guide, X, y, num_draws=30)
    assert_close(reloaded.log_density, found.log_density)
    pruned = ss.prune(model, guide, ss.select(guide.inclusion(), nodes=4), num_draws=30)
    compact = ss.predict_compact(
        pruned.network, likelihood, X, y, latents=draws.latents, quantiles=quantiles
    )
    assert compact.log_density.isfinite().all()
    assert compact.mean.shape == found.mean.shape
    data = ss.to_arviz(model, guide, num_draws=5, x=X, y=y)
    assert data["observed_data"]["obs"].sizes["obs_id"] == N
    assert data["log_likelihood"]["obs"].shape == (1, 5, N)
    for name in likelihood.latent_names:
        assert data["posterior"][name].sizes["draw"] == 5


@pytest.mark.usefixtures("needs_same_sums")
@pytest.mark.parametrize(
    ("likelihood", "y"), [CASES[i] for i in (1, 5, 7)], ids=lambda v: getattr(v, "name", "")
)
def test_the_step_is_the_same_traced_and_eager(likelihood, y):
    fits = [
        ss.fit(
            net(likelihood),
            X,
            y,
            ss.TrainingOptions(**{**vars(SHORT), "compile": how}),
            progress=False,
        )
        for how in ("trace", "off")
    ]
    assert fits[0].history.log_likelihood == fits[1].history.log_likelihood


@each
def test_no_latents_kl_is_estimated(likelihood, y):
    model = net(likelihood)
    guide = ss.StructuredGuide(model)
    model_sites = poutine.trace(model).get_trace(X).nodes
    guide_sites = poutine.trace(guide).get_trace().nodes
    for name, site in likelihood.latent_sites(torch.zeros(())).items():
        assert not site.sampled_kl
        closed = kl_divergence(guide_sites[name]["fn"], model_sites[name]["fn"])
        q, p = guide_sites[name]["fn"], model_sites[name]["fn"]
        drawn = q.sample((20_000,))
        ratio = q.log_prob(drawn) - p.log_prob(drawn)
        error = ratio.std() / len(ratio) ** 0.5
        assert abs(ratio.mean() - closed) < 4.5 * error + 1e-5


@pytest.mark.parametrize("case", [CASES[0], CASES[2], CASES[5], CASES[7]], ids=lambda c: c[0].name)
def test_diagnose(case):
    likelihood, y = case
    result = ss.fit(net(likelihood), X, y, EAGER, progress=False)
    report = ss.diagnose(result, X, y, num_draws=100)
    names = {check.name for check in report.checks}
    assert {"calibration", "replicates", "signal", "prior predictive"} <= names
    if isinstance(likelihood, ss.WeibullLikelihood):
        assert "of the times are censored" in report["replicates"].finding


def test_onnx_gives_both_outputs(tmp_path):
    pytest.importorskip("onnxruntime")
    import onnxruntime

    result = ss.fit(net(CASES[4][0]), X, CASES[4][1], EAGER, progress=False)
    network = ss.prune(
        result.model, result.guide, ss.select(result.guide.inclusion(), nodes=4)
    ).network
    path = tmp_path / "net.onnx"
    ss.export_onnx(network, path)
    (f,) = onnxruntime.InferenceSession(str(path)).run(None, {"x": X.numpy()})
    assert f.shape == (N, 2)
    assert_close(torch.as_tensor(f), network(X), rtol=1e-4, atol=1e-5)


class TestWeights:
    """A row of weight w counts as w rows."""

    TARGETS = (
        (ss.GaussianLikelihood(weighted=True), X[:, 0]),
        (ss.GaussianLikelihood(num_targets=2, weighted=True), X[:, :2]),
        (ss.BernoulliLikelihood(weighted=True), EVENT),
        (ss.CategoricalLikelihood(4, weighted=True), GRADES),
        (ss.NegativeBinomialLikelihood(weighted=True, exposure=True), CASES[2][1]),
        (ss.WeibullLikelihood(weighted=True), CASES[7][1]),
    )
    each = pytest.mark.parametrize(
        ("likelihood", "y"), TARGETS, ids=lambda v: getattr(v, "name", "")
    )
    counts = torch.arange(N) % 3

    def doubled(self, y):
        """Targets with weights 0, 1, 2 beside them, and rows repeated so often."""
        beside = torch.column_stack([y.float(), self.counts.float()])
        once = torch.column_stack([y.float(), torch.ones(N)])
        return beside, once.repeat_interleave(self.counts, 0)

    @each
    def test_training_and_bound(self, likelihood, y):
        model = net(likelihood)
        values = {
            k: v["value"]
            for k, v in poutine.trace(model).get_trace(X).nodes.items()
            if v["type"] == "sample" and not k.startswith("_") and k not in ("obs", "data")
        }
        beside, repeated = self.doubled(y)
        scores = []
        for x, target in ((X, beside), (X.repeat_interleave(self.counts, 0), repeated)):
            trace = poutine.trace(poutine.condition(model, data=values)).get_trace(x, target)
            trace.compute_log_prob()
            scores.append(trace.nodes["obs"]["log_prob_sum"])
        assert_close(*scores)
        guide = ss.StructuredGuide(model)
        bounds = [
            ss.evaluate_bound(model, guide, x, target, num_draws=16).log_likelihood
            for x, target in ((X, beside), (X.repeat_interleave(self.counts, 0), repeated))
        ]
        assert math.isclose(*bounds, rel_tol=1e-4)

    @each
    def test_a_fit_and_its_predictions(self, likelihood, y):
        beside, _ = self.doubled(y)
        result = ss.fit(net(likelihood), X, beside, EAGER, progress=False)
        scored = [
            ss.predict(result.model, result.guide, X, target, num_draws=10).log_density
            for target in (beside, y)
        ]
        assert torch.equal(*scored)  # of one observation, whatever its weight

    def test_deterministic_starts_heed_them(self):
        likelihood = ss.GaussianLikelihood(scale=1.0, weighted=True)
        y = torch.column_stack([torch.arange(N) % 2.0, 1 + 2 * (torch.arange(N) % 2.0)])
        model = ss.MLP(3, [], prior=ss.SSIG(inclusion=0.5), likelihood=likelihood)
        options = ss.TrainingOptions(epochs=100, compile=False)
        weights = ss.fit_deterministic(model, torch.zeros(N, 3), y, options, progress=False)
        assert abs(float(weights["output"][0, -1]) - 0.75) < 0.01  # 30 ones of weight 3, 30 zeros

    @pytest.mark.parametrize(
        ("y", "message"),
        [
            (X[:, 0], r"with weights y must be \[N, 2\].*column_stack"),
            (torch.column_stack([X[:, 0], -NOISE]), "not negative"),
            (torch.column_stack([X[:, 0], 0 * NOISE]), "not all zero"),
        ],
    )
    def test_others_are_refused(self, y, message):
        with pytest.raises(DataError, match=message):
            ss.fit(net(self.TARGETS[0][0]), X, y, SHORT, progress=False)
