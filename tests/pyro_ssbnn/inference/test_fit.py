"""Training: exact answers, repeatability, guards, resumption, and no synchronisation in the step."""

import os
import subprocess
import sys
import warnings

import pyro
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSGL,
    SSIG,
    AnalyticELBO,
    CategoricalLikelihood,
    Gaussian,
    GaussianLikelihood,
    StructuredGuide,
    TrainingOptions,
    fit,
)
from pyro_ssbnn.errors import (
    CollapseWarning,
    ConfigurationError,
    DataError,
    MissingKLError,
    NonFiniteLossError,
)
from pyro_ssbnn.inference.guards import FiniteGuard
from pyro_ssbnn.inference.step import EagerStep

SHORT = {"epochs": 3, "batch_size": 8, "kl_warmup": 0.0}


def regression(n=40, p=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, p, generator=generator)
    return x, x[:, 0] + 0.1 * torch.randn(n, generator=generator)


def small_net(prior=None, **options):
    options = {"likelihood": GaussianLikelihood(), **options}
    return MLP(3, [6], prior=prior or SSGHS(inclusion=0.5), **options)


def quiet_fit(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        return fit(*args, progress=False, **kwargs)


class TestConjugate:
    """No hidden layer, Gaussian slab, known noise: the posterior is Bayesian linear regression's."""

    NOISE = 0.5

    def fitted(self, x, y):
        model = MLP(
            x.shape[1], [], prior=Gaussian(), likelihood=GaussianLikelihood(scale=self.NOISE)
        )
        options = TrainingOptions(
            epochs=2000,
            batch_size=len(x),
            mean_rate=0.04,  # times 1/sqrt(fan-in), 0.02
            scale_rate=0.02,
            kl_warmup=0.0,
            num_particles=20,
            dtype="float64",
        )
        return fit(model, x, y, options, progress=False).guide.output.weight

    def exact(self, x, y):
        design = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
        precision = torch.eye(design.shape[1], dtype=x.dtype) + design.T @ design / self.NOISE**2
        return torch.linalg.solve(precision, design.T @ y / self.NOISE**2), precision

    def test_orthogonal_design_gives_the_exact_posterior(self):
        """Mean field is exact here: means and standard deviations of every coefficient."""
        design, _ = torch.linalg.qr(torch.randn(40, 4, dtype=torch.float64))
        ones = torch.ones(40, 1, dtype=torch.float64)
        design, _ = torch.linalg.qr(torch.cat([ones, design], 1))
        x = design[:, 1:] * 40**0.5
        y = (
            x @ torch.tensor([1.0, -2.0, 0.0, 0.3]).double()
            + 0.5
            + self.NOISE * torch.randn(40).double()
        )
        site = self.fitted(x, y)
        mean, precision = self.exact(x, y)
        sd = precision.diagonal().rsqrt()
        # Gradients stay noisy: what Adam's last rates leave of it is a twentieth of a posterior sd in the means,
        # and two percent in the scales.
        torch.testing.assert_close(site.loc[0].detach(), mean, rtol=0, atol=0.05 * sd.min().item())
        torch.testing.assert_close(site.log_scale[0].detach().exp(), sd, rtol=0.02, atol=0)

    def test_correlated_design_gives_the_exact_means_and_mean_field_scales(self):
        x = torch.randn(60, 3, dtype=torch.float64)
        x = x + x.sum(1, keepdim=True)
        y = x @ torch.tensor([0.5, -0.5, 0.2]).double() + self.NOISE * torch.randn(60).double()
        site = self.fitted(x, y)
        mean, precision = self.exact(x, y)
        sd = precision.diagonal().rsqrt()  # what mean field finds: conditional, not marginal
        torch.testing.assert_close(site.loc[0].detach(), mean, rtol=0, atol=0.1 * sd.min().item())
        torch.testing.assert_close(site.log_scale[0].detach().exp(), sd, rtol=0.02, atol=0)


def planted(seed, n=500, p=20):
    """Correlated design (0.5 between all), four real predictors."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(n, 1, generator=generator)
    x = 0.5**0.5 * (common + torch.randn(n, p, generator=generator))
    coefficient = torch.zeros(p)
    real = torch.randperm(p, generator=generator)[:4]
    coefficient[real] = torch.tensor([1.0, -1.0, 0.7, -0.7])
    y = x @ coefficient + torch.randn(n, generator=generator)
    return (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std(), sorted(real.tolist())


@pytest.mark.parametrize(
    "seed", [0, 1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 10))]
)
def test_planted_predictors_are_found_exactly(seed):
    x, y, real = planted(seed)
    model = MLP(20, [], prior=Gaussian(), likelihood=GaussianLikelihood(), input_inclusion=1 / 20)
    options = TrainingOptions(
        epochs=250,
        batch_size=100,
        mean_rate=0.13,  # times 1/sqrt(20)
        scale_rate=0.03,
        gate_rate=0.03,
        num_particles=10,  # the gates of null predictors close on small differences
        seed=seed,
    )
    inclusion = fit(model, x, y, options, progress=False).guide.inclusion()["input"]
    assert (inclusion > 0.5).nonzero().flatten().tolist() == real


class TestRepeatability:
    def test_same_seed_same_run_bit_by_bit(self):
        x, y = regression()
        runs = [quiet_fit(small_net(), x, y, TrainingOptions(**SHORT)) for _ in range(2)]
        for name, value in runs[0].guide.state_dict().items():
            assert torch.equal(value, runs[1].guide.state_dict()[name]), name
        assert runs[0].history.kl == runs[1].history.kl

    def test_another_seed_another_run(self):
        x, y = regression()
        a, b = (quiet_fit(small_net(), x, y, TrainingOptions(seed=s, **SHORT)) for s in (0, 1))
        assert not torch.equal(a.guide.hidden1.weight.loc, b.guide.hidden1.weight.loc)

    def test_the_callers_random_state_and_parameters_are_untouched(self):
        x, y = regression()
        pyro.param("mine", torch.ones(2))
        state = torch.get_rng_state()
        quiet_fit(small_net(), x, y, TrainingOptions(**SHORT))
        assert torch.equal(state, torch.get_rng_state())
        assert list(pyro.get_param_store().keys()) == ["mine"]

    @pytest.mark.parametrize("clip_norm", [None, 1.0])
    def test_resumed_equals_uninterrupted(self, clip_norm):
        x, y = regression()
        options = TrainingOptions(**{**SHORT, "epochs": 6, "clip_norm": clip_norm})
        whole = quiet_fit(small_net(), x, y, options)

        class StopError(Exception):
            pass

        kept = {}

        def stop(epoch, result):
            if epoch == 3:
                kept["fit"] = result
                raise StopError

        with pytest.raises(StopError):
            quiet_fit(small_net(), x, y, options, callback=stop)
        resumed = quiet_fit(kept["fit"].model, x, y, options, resume=kept["fit"])
        assert resumed.history.kl == whole.history.kl
        for name, value in whole.guide.state_dict().items():
            assert torch.equal(value, resumed.guide.state_dict()[name]), name


class TestGuards:
    def test_non_finite_likelihood_names_the_site(self):
        x, y = regression()
        model = small_net()
        guide = StructuredGuide(model)
        with torch.no_grad():
            guide.output.weight.loc.fill_(2e18)  # its KL, of order 1e37, is finite
        with pytest.raises(
            NonFiniteLossError, match=r"epoch 1 \(step 1 .* first in obs\..*clip_norm"
        ):
            quiet_fit(model, x, y, TrainingOptions(**SHORT), guide=guide)

    def test_non_finite_latent_names_the_site(self):
        x, y = regression()
        model = small_net()
        guide = StructuredGuide(model)
        with torch.no_grad():
            guide.hidden1.scales.scale_b.log_scale[2] = 50.0
        with pytest.raises(NonFiniteLossError, match=r"hidden1\.scale_b"):
            quiet_fit(model, x, y, TrainingOptions(**SHORT), guide=guide)

    def test_first_step_is_remembered(self):
        guard = FiniteGuard(epoch_steps=2, first_step=10)
        nan = float("nan")
        for terms in ([1.0, 2.0], [1.0, nan], [nan, nan]):
            guard.watch(("obs", "hidden1.weight"), torch.tensor([terms]))
        with pytest.raises(
            NonFiniteLossError, match=r"in epoch 6 \(step 12 of the run\), first in hidden1.weight"
        ):
            guard.check()

    def test_collapse_is_reported(self):
        x, y = regression()
        options = TrainingOptions(epochs=60, batch_size=40, gate_rate=0.5, kl_warmup=0.0)
        with pytest.warns(CollapseWarning, match="no node of hidden1 is active"):
            result = fit(small_net(SSIG(inclusion=1e-6)), 0 * x, y, options, progress=False)
        assert result.collapsed == ["hidden1"]

    def test_a_sound_fit_is_not_reported(self):
        x, y = regression()
        result = fit(small_net(), x, y, TrainingOptions(**SHORT), progress=False)
        assert result.collapsed == []

    def test_missing_kl_raises_rather_than_samples(self):
        class Foreign(pyro.distributions.LogNormal):
            pass

        def model(x):
            pyro.sample("a", pyro.distributions.HalfCauchy(torch.ones(())))

        def guide(x):
            pyro.sample("a", Foreign(torch.zeros(()), torch.ones(())))

        with pytest.raises(MissingKLError, match="site 'a': no closed-form KL from Foreign"):
            AnalyticELBO().loss(model, guide, torch.zeros(1))
        with pytest.raises(MissingKLError, match="neither observed nor sampled"):
            AnalyticELBO().loss(model, lambda x: None, torch.zeros(1))


class TestOptions:
    def test_elbo_rises(self):
        x, y = regression(200)
        options = TrainingOptions(epochs=60, batch_size=50)
        elbo = fit(small_net(SSIG(inclusion=0.5)), x, y, options, progress=False).history.elbo
        assert elbo[-5:].mean() > elbo[:5].mean() + 100  # 200 observations: half a nat each

    def test_history_has_one_row_an_epoch_and_adds_up(self):
        x, y = regression()
        history = quiet_fit(small_net(), x, y, TrainingOptions(**SHORT)).history
        frame = history.to_frame()
        assert list(frame.index) == [1, 2, 3]
        assert frame["elbo"].equals(frame["log_likelihood"] - frame["kl"])
        assert frame["active.hidden1"].tolist() == [6, 6, 6]

    def test_kl_warmup_rises_linearly_to_one(self):
        x, y = regression()
        options = TrainingOptions(epochs=8, batch_size=40, kl_warmup=0.5, gate_hold=(0.0, 0.0))
        weights = quiet_fit(small_net(), x, y, options).history.kl_weight
        assert weights == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1])

    def test_lengths_left_open_depend_on_the_data_alone(self):
        """10,000 steps, 2,000 of them warm-up, of 32 to 256 rows."""
        options = TrainingOptions()
        for num_data, batch, particles in ((100, 32, 4), (1000, 125, 3), (60_000, 256, 1)):
            assert options.gate_step(num_data) == 0.02 * batch / 256
            assert options.batch_rows(num_data) == batch
            assert options.particles(num_data) == particles
            steps = num_data // batch
            assert 0 <= options.num_epochs(num_data) * steps - 10_000 < steps
            assert options.epoch_steps(num_data) == steps
            assert options.warmup_steps(num_data) == 2000
        assert TrainingOptions(epochs=2).warmup_steps(60_000) == pytest.approx(0.6 * 234)
        assert TrainingOptions().warmup_steps(10_000_000) == 2000

    def test_means_move_in_units_of_their_fan_in(self):
        """Adam's first step moves every parameter by its rate."""
        x, y = regression()
        model = MLP(3, [16], prior=Gaussian(), likelihood=GaussianLikelihood())
        guide = StructuredGuide(model)
        start = {k: v.clone() for k, v in guide.state_dict().items()}
        options = TrainingOptions(epochs=1, batch_size=40, kl_warmup=0.0, mean_rate=0.01)
        quiet_fit(model, x, y, options, guide=guide)
        for name, fan_in in (("hidden1", 3), ("output", 16)):
            moved = getattr(guide, name).weight.loc - start[f"{name}.weight.loc"]
            torch.testing.assert_close(
                moved.abs().mean().item(), 0.01 / fan_in**0.5, rtol=1e-3, atol=0
            )

    def test_learning_rates_are_separate(self):
        x, y = regression()
        tiny = 1e-12
        options = TrainingOptions(**SHORT, mean_rate=tiny, scale_rate=tiny, gate_rate=0.05)
        model = small_net()
        guide = StructuredGuide(model)
        start = {k: v.clone() for k, v in guide.state_dict().items()}
        quiet_fit(model, x, y, options, guide=guide)
        moved = {k for k, v in guide.state_dict().items() if (v - start[k]).abs().max() > 1e-6}
        assert moved == {"hidden1.gate.logits"}

    def test_temperature_schedule_is_followed(self):
        x, y = regression()
        seen = []
        quiet_fit(
            small_net(),
            x,
            y,
            TrainingOptions(epochs=3, batch_size=40, temperature=(1.0, 0.25)),
            callback=lambda epoch, result: seen.append(result.guide.temperature.item()),
        )
        assert seen == pytest.approx([1.0, 0.5, 0.25])

    def test_early_stop_on_request_only(self):
        x, y = regression()
        options = {"epochs": 300, "batch_size": 40, "mean_rate": 1e-12, "scale_rate": 1e-12}
        options |= {"gate_rate": 1e-12, "kl_warmup": 0.0}
        stopped = quiet_fit(
            small_net(), x, y, TrainingOptions(**options, patience=5, min_delta=10.0)
        )
        assert len(stopped.history) == 20  # looked at once in twenty steps

    def test_float64_runs_in_float64(self):
        x, y = regression()
        guide = quiet_fit(small_net(), x, y, TrainingOptions(**SHORT, dtype="float64")).guide
        assert {p.dtype for p in guide.parameters()} == {torch.float64}

    def test_minibatch_loss_is_unbiased_for_the_whole(self, check_mean):
        """Scaled minibatch log-likelihoods average to the full one, given the latents."""
        x, y = (v.double() for v in regression(40))
        model = small_net()
        guide = StructuredGuide(model, initial_inclusion=1 - 1e-9, initial_scale=1e-9).double()
        with torch.no_grad():
            for site in (
                *guide.hidden1.scales.children(),
                *guide.get_submodule("global").children(),
                guide.noise.variance,
            ):
                site.log_scale.fill_(-20.0)
        whole = AnalyticELBO().terms(model, guide, x, y).log_likelihood["obs"]
        parts = [
            AnalyticELBO().terms(model, guide, x[i : i + 8], y[i : i + 8], num_data=40)
            for i in range(0, 40, 8)
        ]
        mean = torch.stack([p.log_likelihood["obs"] for p in parts]).mean()
        torch.testing.assert_close(mean, whole, rtol=1e-5, atol=0)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"epochs": 0}, "epochs must be at least 1"),
            ({"gate_rate": -1.0}, "gate_rate must be positive or None"),
            ({"kl_warmup": 2.0}, "kl_warmup must be a fraction"),
            ({"temperature": (0.5, 0.0)}, "two positive numbers"),
            ({"remove_below": 0.7}, "remove_below must be within"),
            ({"remove_after": 0}, "remove_after must be at least 1"),
            ({"dtype": "float16"}, "dtype must be 'float32'"),
            ({"clip_norm": 0.0}, "clip_norm must be positive"),
        ],
    )
    def test_bad_options_are_refused(self, options, message):
        with pytest.raises(ConfigurationError, match=message):
            TrainingOptions(**options)

    def test_unknown_or_absent_devices_are_refused(self):
        x, y = regression()
        with pytest.raises(ConfigurationError, match="nonsense"):
            quiet_fit(small_net(), x, y, TrainingOptions(device="nonsense"))
        if not torch.cuda.is_available():
            with pytest.raises(ConfigurationError, match="no CUDA here"):
                quiet_fit(small_net(), x, y, TrainingOptions(device="cuda"))

    @pytest.mark.parametrize("device", ["mps", "xpu", "meta"])
    def test_devices_on_which_nothing_was_tried_are_refused_by_name(self, device):
        x, y = regression()
        with pytest.raises(ConfigurationError, match=f"nothing has been tried on '{device}'"):
            quiet_fit(small_net(), x, y, TrainingOptions(device=device))


class TestData:
    def test_bad_data_are_refused_before_anything_runs(self):
        x, y = regression()
        nan = x.clone()
        nan[3, 1] = float("nan")
        cases = [
            (x[:, :2], y, r"x must be \[N, 3\]"),
            (x, y[:5], "40 rows and y has 5"),
            (x[:1], y[:1], "at least two rows"),
            (nan, y, "1 missing or infinite values, the first in row 3 of column 'x2'"),
            (x, y[:, None], r"y must be \[N\]"),
            (x, torch.full_like(y, float("nan")), "missing or infinite"),
        ]
        for bad_x, bad_y, message in cases:
            with pytest.raises(DataError, match=message):
                quiet_fit(small_net(), bad_x, bad_y)

    def test_labels_must_start_at_zero(self):
        x, _ = regression()
        model = small_net(likelihood=CategoricalLikelihood(3))
        labels = torch.arange(40) % 3
        with pytest.raises(DataError, match=r"0\.\.2; found 1\.\.3\. .*pass y - 1"):
            quiet_fit(model, x, labels + 1)
        with pytest.raises(DataError, match="all labels are 0"):
            quiet_fit(model, x, 0 * labels)
        with pytest.raises(DataError, match="integer tensor"):
            quiet_fit(model, x, labels.float())


class TestDevices:
    @pytest.mark.parametrize("local", [True, False])
    @pytest.mark.parametrize(
        "prior", [SSIG(), SSGL(), SSGHS(), SSGHS(cap=None)], ids=lambda p: p.name
    )
    def test_a_step_on_the_meta_device_never_synchronises(self, prior, local):
        """On ``meta`` every .item(), and every mixing with a CPU tensor, raises."""
        model = MLP(4, [5, 3], prior=prior, likelihood=GaussianLikelihood(), input_inclusion=0.3)
        guide = StructuredGuide(model).to("meta")
        x, y = torch.zeros(8, 4, device="meta"), torch.zeros(8, device="meta")
        elbo = AnalyticELBO(local_reparameterization=local)
        step = EagerStep(model, guide, elbo, num_data=80)
        guard = FiniteGuard(epoch_steps=10)
        with pyro.validation_enabled(False):
            terms = step(x, y, torch.ones((), device="meta"))
        guard.watch((*step.observed, *step.latent), terms.unsqueeze(0))
        assert terms.device.type == "meta"
        for parameter in guide.parameters():
            assert parameter.grad.device.type == "meta"

    def test_the_test_would_notice_a_synchronisation(self):
        with pytest.raises(RuntimeError, match="meta"):
            torch.zeros((), device="meta").item()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch's own, of its compiler
class TestCompiled:
    """Half a minute of compilation."""

    def test_same_estimate_in_distribution(self):
        x, y = regression()
        model = small_net()
        torch.manual_seed(0)
        guide = StructuredGuide(model)
        from pyro_ssbnn.inference.step import CompiledStep

        weight = torch.ones(())
        samples = []
        with pyro.validation_enabled(False):
            for kind in (EagerStep, CompiledStep):
                step = kind(model, guide, AnalyticELBO(local_reparameterization=True), 40)
                rows = []
                for _ in range(1000):
                    terms = step(x, y, weight)
                    gradients = [p.grad.flatten() for p in guide.parameters()]
                    rows.append(torch.cat([terms, *gradients]))
                samples.append(torch.stack(rows).double())
        a, b = samples
        error = ((a.var(0) + b.var(0)) / 1000).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() <= 5 * error + 1e-4 * a.mean(0).abs() + 1e-6).all()

    def test_repeatable_bit_by_bit_also_from_the_cache(self):
        x, y = regression()
        options = TrainingOptions(**SHORT, compile=True)
        runs = [quiet_fit(small_net(), x, y, options) for _ in range(2)]
        for name, value in runs[0].guide.state_dict().items():
            assert torch.equal(value, runs[1].guide.state_dict()[name]), name


def test_elbo_works_in_pyros_svi_and_as_a_module():
    x, y = (v.double() for v in regression())
    model = small_net()
    guide = StructuredGuide(model).double()
    svi = pyro.infer.SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), AnalyticELBO())
    before = svi.evaluate_loss(x, y)
    for _ in range(50):
        svi.step(x, y)
    assert svi.evaluate_loss(x, y) < before
    torch.manual_seed(1)
    module = AnalyticELBO()(model, guide)
    loss = module(x, y)
    torch.manual_seed(1)
    assert loss.item() == pytest.approx(TraceMeanField_ELBO().loss(model, guide, x, y))


@pytest.mark.slow
def test_what_was_compiled_outlives_the_process(tmp_path):
    """A second process, with the same network, takes the compiled step from torch's cache on the disk."""
    code = """
import os, torch, pyro_ssbnn as ss
torch.set_num_threads(1)
net = ss.MLP(3, [4], prior=ss.SSIG(inclusion=0.5), likelihood=ss.GaussianLikelihood())
x = torch.linspace(-1, 1, 120).reshape(40, 3)
before = sum(os.times()[:4])
ss.fit(net, x, x[:, 0], ss.TrainingOptions(epochs=1, compile=True), progress=False)
print(sum(os.times()[:4]) - before)
"""
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    first, second = (
        float(
            subprocess.run(
                [sys.executable, "-W", "ignore", "-c", code],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for _ in range(2)
    )
    assert (
        second < first / 3
    )  # CPU seconds, the compiler's own processes included: 1 for 10 or more
