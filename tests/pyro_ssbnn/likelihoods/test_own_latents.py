"""A likelihood's own latents: declared once; guide, KL, removal, draws, predictions and files follow."""

import runpy
from dataclasses import dataclass
from pathlib import Path

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.infer import Trace_ELBO
from pyro.nn import PyroModule
from torch.distributions import kl_divergence
from torch.testing import assert_close

import pyro_ssbnn as ss
from pyro_ssbnn.errors import ConfigurationError, MissingKLError
from pyro_ssbnn.guides.likelihood import LatentsGuide

EXAMPLE = Path(__file__).parents[3] / "examples" / "student_t.py"
X = torch.randn(60, 3, generator=torch.Generator().manual_seed(2))
Y = X[:, 0]


@dataclass(frozen=True)
class OwnLatents(ss.Likelihood):
    """Normal with latents of a test's own: ``noise.scale`` counts, the others only have a prior."""

    def latent_sites(self, like):
        priors = self.priors(like)
        return {
            name: p if isinstance(p, ss.LatentSite) else ss.LatentSite(p)
            for name, p in priors.items()
        }

    def distribution(self, f, latents):
        return dist.Normal(f.squeeze(-1), latents.get("noise.scale", 0.5))

    def mean(self, f, latents):
        return f.squeeze(-1)


class ScaleAndShifts(OwnLatents):
    def priors(self, like):
        zero, one = like.new_zeros(()), like.new_ones(())
        return {
            "noise.scale": ss.LatentSite(dist.Gamma(2 * one, 4 * one), initial=0.5),
            "shift": dist.Normal(3 + zero, one).expand([2]).to_event(1),
        }


class HalfCauchyScale(OwnLatents):
    sampled = False

    def priors(self, like):
        return {
            "noise.scale": ss.LatentSite(
                dist.HalfCauchy(like.new_ones(())), sampled_kl=self.sampled
            )
        }


class SampledScale(HalfCauchyScale):
    sampled = True


class Share(OwnLatents):
    def priors(self, like):
        return {"noise.share": dist.Beta(like.new_tensor(2.0), like.new_tensor(2.0))}


def net(likelihood, **options):
    options = {"prior": ss.SSIG(inclusion=0.3), "activation": "tanh", **options}
    return ss.MLP(3, [4], likelihood=likelihood, **options)


class TestGuide:
    def test_families_starts_and_closed_forms(self):
        model = net(ScaleAndShifts())
        guide = ss.StructuredGuide(model)
        terms = ss.AnalyticELBO().terms(model, guide, X, Y)
        start = dist.LogNormal(torch.tensor(0.5).log(), 0.1)
        expected = kl_divergence(start, dist.Gamma(torch.tensor(2.0), torch.tensor(4.0)))
        assert_close(terms.kl["noise.scale"], expected)
        loc = guide.noise.shift.loc.detach()
        assert torch.allclose(loc, torch.full((2,), 3.0), atol=0.15)  # the prior's median
        q = dist.Normal(loc, 0.1)
        assert_close(terms.kl["shift"], kl_divergence(q, dist.Normal(3.0, 1.0)).sum())

    def test_every_parameter_is_trained_as_a_latent(self):
        guide = ss.StructuredGuide(net(ScaleAndShifts()))
        latents = {id(p) for p in guide.parameter_groups()["latents"]}
        assert {id(p) for p in guide.noise.parameters()} <= latents

    def test_a_support_without_a_guide_is_refused(self):
        with pytest.raises(ConfigurationError, match=r"'noise\.share'.*likelihood_guide\.register"):
            ss.StructuredGuide(net(Share()))

    def test_batch_dimensions_are_refused(self):
        with pytest.raises(ConfigurationError, match=r"no batch dimensions; got \[2\]"):
            ss.LatentSite(dist.Normal(torch.zeros(2), 1.0))

    def test_one_of_ones_own_is_registered(self):
        class ShareGuide(PyroModule):
            def __init__(self):
                super().__init__()
                self.log_shape = torch.nn.Parameter(torch.ones(2))

            def forward(self, prefix=""):
                pyro.sample(f"{prefix}noise.share", dist.Beta(*self.log_shape.exp()))

        class MyShare(Share):
            pass

        ss.likelihood_guide.register(MyShare, lambda likelihood: ShareGuide())
        model = net(MyShare(), prefix="mine")
        guide = ss.StructuredGuide(model)
        terms = ss.AnalyticELBO().terms(model, guide, X, Y)
        shape = torch.ones(2).exp()
        expected = kl_divergence(dist.Beta(*shape), dist.Beta(torch.tensor(2.0), torch.tensor(2.0)))
        assert_close(terms.kl["mine.noise.share"], expected)
        assert guide.noise.log_shape in set(guide.parameter_groups()["latents"])


class TestSampledKL:
    def test_none_is_sampled_unasked(self):
        model = net(HalfCauchyScale())
        with pytest.raises(MissingKLError, match=r"noise\.scale.*LogNormal.*HalfCauchy"):
            ss.AnalyticELBO().terms(model, ss.StructuredGuide(model), X, Y)

    def test_on_request_the_bound_is_pyros(self, check_mean):
        model = net(SampledScale())
        guide = ss.StructuredGuide(model)
        elbos = ss.AnalyticELBO(200), Trace_ELBO(200, vectorize_particles=True)
        with torch.no_grad():
            draws = torch.tensor([[e.loss(model, guide, X, Y) for e in elbos] for _ in range(40)])
        check_mean(draws[:, 0] - draws[:, 1], torch.zeros(()))
        terms = ss.AnalyticELBO().terms(model, guide, X, Y)
        terms.kl["noise.scale"].backward()
        assert guide.noise.scale.loc.grad != 0


class TestDraws:
    def test_have_the_latents_shapes(self):
        model = net(ScaleAndShifts())
        guide = ss.StructuredGuide(model)
        draws = ss.draw_posterior(model, guide, 5, x=X, y=Y)
        assert draws.latents["noise.scale"].shape == (5,)
        assert draws.latents["shift"].shape == (5, 2)
        f, scale = draws.mean, draws.latents["noise.scale"].unsqueeze(-1)
        assert_close(draws.log_likelihood, dist.Normal(f, scale).log_prob(Y))

    def test_values_are_found_under_the_prefix(self):
        likelihood = ScaleAndShifts()
        values = {"a.noise.scale": torch.ones(()), "a.shift": torch.zeros(2), "a.obs": Y}
        assert set(likelihood.latents_of(values, "a.")) == {"noise.scale", "shift"}
        with pytest.raises(ConfigurationError, match=r"no values of \['shift'\]"):
            likelihood.latents_of({"noise.scale": torch.ones(())})


def test_gaussian_noise_goes_the_same_road():
    guide = LatentsGuide(ss.GaussianLikelihood(num_targets=2))
    assert_close(guide.variance.loc.detach(), torch.full((2,), 0.25).log())
    assert set(guide.state_dict()) == {"variance.loc", "variance.log_scale"}
    assert not list(LatentsGuide(ss.GaussianLikelihood(scale=0.1)).parameters())


def test_the_example_learns_tails_and_scale_through_a_removal_and_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for its picture
    names = runpy.run_path(str(EXAMPLE))
    result, net, x, y = (names[k] for k in ("result", "net", "x", "y"))
    assert result.history.removed
    draws = names["draws"]
    assert 1.5 < draws.latents["noise.df"].mean() < 6  # planted: 3
    assert 0.14 < draws.latents["noise.scale"].mean() < 0.28  # planted: 0.2
    assert names["error"] < 0.12
    ss.save_fit(result, tmp_path / "fit")
    again = ss.load_fit(tmp_path / "fit")
    assert again.model.likelihood == net.likelihood
    assert_close(again.guide.state_dict(), result.guide.state_dict())
    before, after = (
        ss.predict(f.model, f.guide, x[:50], y[:50], num_draws=20) for f in (result, again)
    )
    assert_close(before.log_density, after.log_density)
    assert before.log_density.isfinite().all()
    pruned = ss.prune(net, result.guide).network
    assert (pruned(x).squeeze(-1) - names["signal"]).square().mean().sqrt() < 0.15
