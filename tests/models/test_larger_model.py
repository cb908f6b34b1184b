"""Networks inside a larger Pyro model: with a likelihood of the model's own, and several of them side by side."""

import re
from pathlib import Path

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceMeanField_ELBO
from pyro.nn import PyroModule
from torch.testing import assert_close

from pyro_ssbnn import (
    MLP,
    SSGHS,
    AnalyticELBO,
    CategoricalLikelihood,
    CoupledGuide,
    GaussianLikelihood,
    LeNet,
    StructuredGuide,
    TrainingOptions,
    draw_posterior,
    fit,
    fit_deterministic,
    load_fit,
    predict,
    prune,
    save_fit,
    to_arviz,
)
from pyro_ssbnn.errors import ConfigurationError, MissingKLError
from pyro_ssbnn.exact import SamplerOptions, sample_exact
from pyro_ssbnn.guides.likelihood import LatentsGuide

X = torch.randn(40, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = X[:, 0] - X[:, 3]


def mlp(inputs=4, prefix=None, likelihood=None, **options):
    likelihood = GaussianLikelihood() if likelihood is None else likelihood
    options = {"prior": SSGHS(inclusion=0.3), "input_inclusion": 0.5, **options}
    return MLP(inputs, [3], likelihood=likelihood, prefix=prefix, **options).double()


class OwnNoise(PyroModule):
    """The network of an MLP under a Gaussian likelihood written out, and its guide."""

    def __init__(self, guide_class=StructuredGuide):
        super().__init__()
        self.net = mlp()
        self.guide = guide_class(self.net, likelihood=False).double()
        self.noise_guide = LatentsGuide(self.net.likelihood).double()

    def forward(self, x, y):
        f = self.net.network(x)
        prior = dist.InverseGamma(x.new_tensor(1.0), x.new_tensor(1e-3))
        variance = pyro.sample("noise.variance", prior)
        with pyro.plate("rows", len(x)):
            pyro.sample("y", dist.Normal(f.squeeze(-1), variance.sqrt()), obs=y)

    def joint_guide(self, x, y):
        self.guide()
        self.noise_guide()


class TestOwnLikelihood:
    @pytest.mark.parametrize("guide", [StructuredGuide, CoupledGuide])
    @pytest.mark.parametrize("elbo", [AnalyticELBO, TraceMeanField_ELBO, Trace_ELBO])
    def test_the_bound_is_that_of_the_network_with_its_likelihood(self, guide, elbo):
        own = OwnNoise(guide)
        whole = guide(own.net).double()
        whole.load_state_dict(
            {**own.guide.state_dict(), **own.noise_guide.state_dict(prefix="noise.")}
        )
        losses = []
        with torch.no_grad():
            for model, joint in ((own, own.joint_guide), (own.net, whole)):
                pyro.set_rng_seed(5)
                losses.append(elbo().loss(model, joint, X, Y))
        assert losses[0] == pytest.approx(losses[1], rel=1e-12)

    def test_all_elbos_agree(self, check_mean):
        own = OwnNoise()
        with torch.no_grad():
            elbos = Trace_ELBO(100, vectorize_particles=True), AnalyticELBO(100)
            draws = torch.tensor(
                [[e.loss(own, own.joint_guide, X, Y) for e in elbos] for _ in range(60)]
            )
        check_mean(draws[:, 0] - draws[:, 1], torch.zeros(()))

    def test_a_guide_with_the_networks_likelihood_is_refused(self):
        own = OwnNoise()
        whole = StructuredGuide(own.net).double()

        def larger(x, y):
            f = own.net.network(x)
            with pyro.plate("rows", len(x)):
                pyro.sample("y", dist.Normal(f.squeeze(-1), 1.0), obs=y)

        with pytest.raises(MissingKLError, match=r"'noise\.variance' of the guide is in no prior"):
            AnalyticELBO().loss(larger, whole, X, Y)

    def test_predictions_need_the_likelihoods_posterior(self):
        own = OwnNoise()
        assert draw_posterior(own.net, own.guide, 3).latents["input.gate"].shape == (3, 4)
        for utility in (predict, lambda *args: draw_posterior(*args[:2], 3, x=X)):
            with pytest.raises(ConfigurationError, match="likelihood=False"):
                utility(own.net, own.guide, X)

    def test_the_option_stays_with_narrowed_guides(self):
        own = OwnNoise()
        kept = {"hidden1": torch.tensor([0, 2])}
        narrowed = own.guide.narrowed(own.net.narrowed(kept), kept)
        assert narrowed.noise is None


class TestPrefix:
    def test_stands_before_every_site_and_plate(self):
        net = mlp(prefix="left")
        named, bare, guide = (
            {
                name
                for name, site in pyro.poutine.trace(fn).get_trace(X, Y).nodes.items()
                if site["type"] == "sample"
            }
            for fn in (net, mlp(), StructuredGuide(net))
        )
        assert named == {f"left.{name}" for name in bare}
        assert guide < named

    @pytest.mark.parametrize("prefix", ["", "a b", "left.", "1"])
    def test_must_be_a_name(self, prefix):
        with pytest.raises(ConfigurationError, match="prefix: expected a Python name"):
            mlp(prefix=prefix)

    def test_changes_nothing_but_names(self, tmp_path):
        options = TrainingOptions(
            gate_hold=(0.0, 0.0),
            epochs=60,
            gate_rate=0.3,
            kl_warmup=0,
            remove_below=0.5,
            remove_after=1,
        )
        fits = []
        for prefix in (None, "of.mine"):
            net = mlp(prefix=prefix).float()
            fits.append(fit(net, X.float(), Y.float(), options, progress=False))
        bare, named = fits
        assert named.history.removed
        assert bare.history.removed == named.history.removed
        for a, b in zip(bare.guide.parameters(), named.guide.parameters(), strict=True):
            assert torch.equal(a, b)
        save_fit(named, tmp_path / "fit")
        again = load_fit(tmp_path / "fit")
        assert again.model.description == named.model.description
        draws = [draw_posterior(f.model, f.guide, 4, x=X, weights=True) for f in (bare, again)]
        assert {f"of.mine.{name}" for name in draws[0].latents} == set(draws[1].latents)
        assert_close(draws[0].mean, draws[1].mean)
        assert_close(draws[0].weights, draws[1].weights)
        assert_close(draws[0].log_prior, draws[1].log_prior)
        summaries = [predict(f.model, f.guide, X, Y, num_draws=3) for f in (bare, again)]
        assert_close(summaries[0].log_density, summaries[1].log_density)
        for draws in (None, 3):
            cuts = [prune(f.model, f.guide, num_draws=draws).network(X.float()) for f in fits]
            assert_close(*cuts)
        posterior = to_arviz(again.model, again.guide, x=X, y=Y)["posterior"]
        assert posterior["of.mine.hidden1.slab_scale"].dims[2:] == ("of.mine.hidden1_node",)
        assert posterior["of.mine.noise.variance"].dims == ("chain", "draw")

    def test_deterministic_fits_are_equal(self):
        weights = [
            fit_deterministic(mlp(prefix=p).float(), X.float(), Y.float(), progress=False,
                              options=TrainingOptions(epochs=3))
            for p in (None, "left")
        ]  # fmt: skip
        assert_close(*weights)

    def test_of_an_image_network(self):
        net = LeNet(
            (1, 8, 8), [2], [3], kernel_size=3, prior=SSGHS(inclusion=0.3), prefix="eye",
            likelihood=CategoricalLikelihood(3),
        )  # fmt: skip
        x, y = torch.randn(6, 64), torch.arange(6) % 3
        terms = AnalyticELBO().terms(net, StructuredGuide(net), x, y)
        assert set(terms.log_likelihood) == {"eye.obs"}
        assert {"eye.conv1.gate", "eye.hidden1.weight", "eye.global.scale_a"} < set(terms.kl)
        twin = net.from_config(net.to_config())
        assert twin.description == net.description

    def test_exact_posteriors_are_equal(self):
        x, y = X[:8, :2], Y[:8]
        options = SamplerOptions(chains=2, warmup=20, num_draws=6, temperatures=1)
        bare, named = (
            sample_exact(mlp(2, prefix=prefix), x, y, options) for prefix in (None, "left")
        )
        assert_close(bare.inclusion(), named.inclusion())
        assert_close(bare.predict(x, y).log_likelihood, named.predict(x, y).log_likelihood)


class Sum(PyroModule):
    """Two networks on different predictors, added up."""

    def __init__(self):
        super().__init__()
        self.left, self.right = mlp(2, "left"), mlp(2, "right")

    def forward(self, x, y=None):
        f = self.left.network(x[:, :2]) + self.right.network(x[:, 2:])
        with pyro.plate("rows", len(x)):
            return pyro.sample("y", dist.Normal(f.squeeze(-1), 0.3), obs=y)


class TestTwoNetworks:
    def test_the_bound_of_two_outputs_is_the_sum_of_the_bounds(self):
        left, right = mlp(prefix="left"), mlp(prefix="right", likelihood=GaussianLikelihood(0.5))
        guides = [StructuredGuide(net).double() for net in (left, right)]

        def model():
            left(X, Y)
            right(X, -Y)

        def guide():
            for each in guides:
                each()

        pyro.set_rng_seed(2)
        with torch.no_grad():
            together = AnalyticELBO().loss(model, guide)
            pyro.set_rng_seed(2)
            alone = AnalyticELBO().loss(left, guides[0], X, Y)
            alone += AnalyticELBO().loss(right, guides[1], X, -Y)
        assert together == pytest.approx(alone, rel=1e-12)

    @pytest.mark.parametrize("elbo", [AnalyticELBO, Trace_ELBO])
    def test_svi_trains_both(self, elbo):
        model = Sum()
        options = {"likelihood": False, "initial_inclusion": 0.9}
        guides = [StructuredGuide(n, **options).double() for n in (model.left, model.right)]

        def guide(x, y=None):  # two guides beside each other: their names differ in the store
            for each in guides:
                each()

        svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.05}), elbo(num_particles=2))
        losses = [float(svi.step(X, Y)) for _ in range(60)]
        assert sum(losses[-20:]) < 0.7 * sum(losses[:20])
        for net, each, columns in zip(
            (model.left, model.right), guides, ([0, 1], [2, 3]), strict=True
        ):
            draws = draw_posterior(net, each, 5)
            assert all(name.startswith(net.prefix) for name in draws.latents)
            network = prune(net, each, num_draws=2).network
            assert network(X[:, columns]).shape == (2, 40, 1)
        drawn = Predictive(model, guide=guide, num_samples=50)(X)["y"]
        assert torch.corrcoef(torch.stack([drawn.mean(0), Y]))[0, 1] > 0.7

    def test_without_prefixes_pyro_refuses_the_second(self):
        nets = mlp(), mlp()

        def model():
            for net in nets:
                net(X, Y)

        with pytest.raises(RuntimeError, match="Multiple sample sites named"):
            pyro.poutine.trace(model).get_trace()


@pytest.mark.parametrize(
    "steps", [100, pytest.param(400, marks=pytest.mark.slow)], ids=["few steps", "as written"]
)
def test_the_documented_model_learns(steps):
    """The slow one finds what was planted."""
    text = (Path(__file__).parents[2] / "docs" / "larger_model.md").read_text(encoding="utf-8")
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S):
        exec(
            compile(block.replace("range(400)", f"range({steps})"), "larger_model.md", "exec"),
            names,
        )
    assert len(names["losses"]) == steps
    assert sum(names["losses"][-50:]) < 0.7 * sum(names["losses"][:50])
    assert names["pruned"](names["x_house"]).shape == (300, 1)
    if steps < 400:
        return
    inclusion = names["guide"].house.inclusion()["input"]
    assert inclusion.argmax() == 1
    offsets = names["guide"].median.detach()
    planted = 0.5 * (torch.arange(6) - 2.5)
    assert torch.allclose(offsets - offsets.mean(), planted, atol=0.2)
