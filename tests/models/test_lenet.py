"""LeNet as a Pyro model: its counts, its formula, its contract with guide and ELBOs, training that shrinks, files."""

import math

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from torch.nn.functional import conv2d, max_pool2d, silu

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSGL,
    SSIG,
    AnalyticELBO,
    CategoricalLikelihood,
    Gaussian,
    GaussianLikelihood,
    LeNet,
    StructuredGuide,
    TheoryInclusion,
    TrainingOptions,
    draw_posterior,
    fit,
    load_fit,
    prune,
    save_fit,
)
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference.shrinking import LiveNetwork
from pyro_ssbnn.models import network_from_config
from pyro_ssbnn.posterior.draws import site_values, trace_draws
from pyro_ssbnn.structure.axes import put

SMALL = {"image_shape": (2, 14, 12), "filters": (4, 3), "hidden": (6, 5), "kernel_size": 3}
PRIORS = {
    "ss-ig": SSIG(inclusion=0.3),
    "ss-gl": SSGL(inclusion=(0.3, 0.2, 0.4, 0.1)),
    "ss-ghs": SSGHS(inclusion=0.3),
    "ss-ghs-random-cap": SSGHS(inclusion=0.3, cap=None),
    "gaussian": Gaussian(),
}
X = torch.randn(7, 2 * 14 * 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
Y = torch.arange(7) % 3


def network(prior, **options):
    return LeNet(**{**SMALL, "prior": prior, "likelihood": CategoricalLikelihood(3), **options})


@pytest.fixture(params=PRIORS)
def net(request):
    model = network(PRIORS[request.param])
    return model, StructuredGuide(model, initial_inclusion=0.6, initial_scale=0.2).double()


class TestCaffe:
    def test_weights_and_multiply_adds(self):
        """LeNet-5-Caffe has 1,071,880 parameters and 2,949,030 multiply-adds on 28 x 28 images, biases counted."""
        model = LeNet(prior=SSGHS(), likelihood=CategoricalLikelihood(10))
        groups = {g.name: g for g in model.description.groups}
        assert {k: (g.size, g.fan_in, g.positions) for k, g in groups.items()} == {
            "conv1": (20, 25, 24 * 24),
            "conv2": (50, 500, 8 * 8),
            "hidden1": (800, 800, 1),
            "hidden2": (500, 800, 1),
            "output": (10, 500, 1),
        }
        report = prune(model, StructuredGuide(model)).report
        for kept in ("", "_kept"):
            assert report.loc["total", f"weights{kept}"] == 1_071_880
            assert report.loc["total", f"multiply_adds{kept}"] == 2_949_030

    def test_initial_weights_follow_the_fan_in_of_a_filter(self):
        model = LeNet(filters=(20, 400), prior=SSGHS(), likelihood=CategoricalLikelihood(10))
        weights = StructuredGuide(model).mean_weights("conv2")[:, :-1]
        assert weights.var().item() == pytest.approx(2 / (20 * 25), rel=0.05)


def test_forward_is_the_formula():
    model = network(SSIG(inclusion=0.5))
    guide = StructuredGuide(model).double()
    values = site_values(poutine.trace(guide).get_trace())
    h = X.reshape(7, 2, 14, 12)
    for name, channels in (("conv1", 2), ("conv2", 4)):
        u, z = values[f"{name}.weight"], values[f"{name}.gate"]
        f = conv2d(h, u[:, :-1].reshape(-1, channels, 3, 3), u[:, -1])
        h = max_pool2d(silu(z[:, None, None] * f), 2)
    assert h.shape[1:] == (3, 2, 1)
    h = h.reshape(7, 6)
    for name in ("hidden1", "hidden2"):
        u = values[f"{name}.weight"]
        h = silu(values[f"{name}.gate"] * (h @ u[:, :-1].T + u[:, -1]))
    u = values["output.weight"]
    f = poutine.condition(model.network, data=values)(X)
    torch.testing.assert_close(f, h @ u[:, :-1].T + u[:, -1])


class TestContract:
    def test_sites_match_in_name_order_and_shape(self, net):
        model, guide = net
        guide_trace = poutine.trace(guide).get_trace(X, Y)
        model_trace = poutine.trace(model).get_trace(X, Y)
        latent = [s for s in model_trace.stochastic_nodes if s in guide_trace.nodes]
        assert list(guide_trace.stochastic_nodes) == latent
        for site in latent:
            assert guide_trace.nodes[site]["value"].shape == model_trace.nodes[site]["value"].shape

    @pytest.mark.parametrize("particles", [1, 3])
    def test_analytic_elbo_is_pyros_on_the_same_draw(self, net, particles):
        model, guide = net
        losses = []
        pyros = TraceMeanField_ELBO(particles, vectorize_particles=True, max_plate_nesting=1)
        for elbo in (pyros, AnalyticELBO(particles)):
            torch.manual_seed(4)
            losses.append(elbo.loss(model, guide, X, Y, num_data=30))
        assert losses[0] == pytest.approx(losses[1], rel=1e-12)

    def test_sampled_and_closed_form_kl_agree(self, net):
        model, guide = net
        means, errors = [], []
        for elbo in (
            Trace_ELBO(300, vectorize_particles=True, max_plate_nesting=1),
            AnalyticELBO(300),
        ):
            losses = torch.tensor([elbo.loss(model, guide, X, Y) for _ in range(8)]).double()
            means.append(losses.mean())
            errors.append(losses.var() / len(losses))
        assert abs(means[0] - means[1]) < 5 * sum(errors).sqrt()

    def test_every_parameter_gets_a_finite_gradient(self, net):
        model, guide = net
        for local in (False, True):
            guide.zero_grad()
            elbo = AnalyticELBO(8, local_reparameterization=local)
            elbo.loss_and_grads(model, guide, X, Y)
            for name, parameter in guide.named_parameters():
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all(), name
                assert (parameter.grad != 0).any(), name

    def test_a_plain_svi_script_trains_it(self, net):
        model, guide = net
        svi = SVI(model, guide, pyro.optim.Adam({"lr": 0.01}), Trace_ELBO())
        before = guide.conv1.weight.loc.detach().clone()
        assert math.isfinite(svi.step(X, Y))
        assert (guide.conv1.weight.loc != before).any()  # closed filters wait for another draw

    def test_posterior_draws_equal_a_loop(self, net):
        model, guide = net
        draws = draw_posterior(model, guide, 5, x=X, y=Y, weights=True)
        values = site_values(trace_draws(guide, 5))
        with pyro.plate("draws", 5, dim=-2):
            f = poutine.condition(model.network, data=values)(X)
        shared = [k for k in values if values[k].shape[-1] == 1 and ".global" in f".{k}"]
        for s in range(5):
            one = {k: v[s].squeeze() if k in shared else v[s] for k, v in values.items()}
            alone = poutine.condition(model.network, data=one)(X)
            torch.testing.assert_close(f[s], alone, rtol=0, atol=1e-11)
        assert draws.mean.shape == (5, 7, 3)
        assert draws.weights["conv2"].shape == (5, 3, 4 * 9 + 1)


class TestShrinking:
    DUE = {"conv1": [1], "conv2": [0, 2], "hidden1": [5]}  # noqa: RUF012

    def live(self, prior):
        model = network(prior)
        guide = StructuredGuide(model).double()
        with torch.no_grad():
            for parameter in guide.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
        live = LiveNetwork(model, guide)
        live.close({"conv1": [1], "conv2": [2]})
        live.narrow()
        live.close({"conv2": [0], "hidden1": [5]})
        live.narrow()
        return live

    def test_a_removed_filter_takes_its_consumers_columns_along(self):
        live = self.live(PRIORS["ss-ghs"])
        groups = live.model.description.groups
        assert [(g.size, g.fan_in, g.prior_size) for g in groups] == [
            (3, 18, 19),
            (1, 27, 37),
            (5, 2, 7),
            (5, 5, 7),
            (3, 5, 6),
        ]
        kept = live.whole_guide.conv2.weight.loc[1].reshape(-1)[[*range(9), *range(18, 37)]]
        assert torch.equal(live.guide.conv2.weight.loc[0], kept)

    @pytest.mark.parametrize("prior", ["ss-ig", "ss-gl", "ss-ghs-random-cap"])
    @torch.no_grad()
    def test_narrow_and_whole_network_have_the_same_output(self, prior):
        live = self.live(PRIORS[prior])
        draws = site_values(poutine.trace(live.guide).get_trace())
        whole = site_values(poutine.trace(live.whole_guide).get_trace())
        for group in live.whole_model.description.groups:
            for site in (s for s in whole if s.startswith(f"{group.name}.")):
                if "global" in site:
                    whole[site] = draws[site]
                else:
                    axes = (group.rows, group.columns) if "weight" in site else (group.rows,)
                    put(whole[site], draws[site], axes, live.kept)
        for site in (s for s in whole if s.startswith("global")):
            whole[site] = draws[site]
        for name, closed in self.DUE.items():
            whole[f"{name}.gate"][closed] = 0.0
        expected = poutine.condition(live.whole_model.network, data=whole)(X)
        actual = poutine.condition(live.model.network, data=draws)(X)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-11)

    def test_fit_loses_filters_and_goes_on_from_a_file(self, tmp_path):
        """Which of two corners is lit: one filter suffices, the spare ones close and leave."""
        generator = torch.Generator().manual_seed(0)
        y = torch.arange(120) % 2
        image = 0.1 * torch.randn(120, 1, 8, 8, generator=generator)
        image[y == 0, :, :3, :3] += 1.5
        image[y == 1, :, -3:, -3:] += 1.5
        x = image.flatten(1)
        model = LeNet(
            (1, 8, 8),
            (6,),
            (8,),
            prior=SSGHS(inclusion=0.02),
            likelihood=CategoricalLikelihood(2),
            kernel_size=3,
        )
        options = TrainingOptions(
            epochs=90, batch_size=40, mean_rate=0.1, scale_rate=0.05, gate_rate=0.2, kl_warmup=0.3
        )
        result = fit(model, x, y, options, progress=False)
        assert {r.group for r in result.history.removed} == {"conv1", "hidden1"}
        pruned = prune(result.model, result.guide, num_draws=8)
        gone = {r.node for r in result.history.removed if r.group == "conv1"}
        assert gone.isdisjoint(pruned.network.kept["conv1"].tolist())
        accuracy = (pruned.network(x).softmax(-1).mean(0).argmax(-1) == y).float().mean()
        assert accuracy > 0.95
        save_fit(result, tmp_path / "fit.safetensors")
        loaded = load_fit(tmp_path / "fit.safetensors")
        assert loaded.model.to_config() == model.to_config()
        for name, value in result.guide.state_dict().items():
            assert torch.equal(value, loaded.guide.state_dict()[name]), name
        longer = TrainingOptions(**{**options.to_config(), "epochs": 62})
        resumed = fit(loaded.model, x, y, longer, resume=loaded, progress=False)
        assert np.isfinite(resumed.history.elbo[-1])


def test_record_makes_the_network_again():
    model = network(PRIORS["ss-gl"], activation="relu", padding=1)
    again = network_from_config(model.to_config())
    assert again.to_config() == model.to_config()
    assert again.description == model.description


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_shape": (28, 28)}, "three positive numbers"),
        ({"filters": ()}, "at least one convolution"),
        ({"hidden": (0,)}, "every width must be at least 1"),
        ({"image_shape": (1, 4, 4)}, "spans 3 pixels does not fit on a map of 1 x 1"),
        ({"image_shape": (1, 8, 8), "filters": (2, 2)}, "conv2 has 1 x 1 pixels"),
        ({"prior": SSIG(inclusion=TheoryInclusion(50))}, "known for perceptrons only"),
        ({"prior": SSIG(inclusion=(0.1, 0.2))}, "2 probabilities for 4 hidden layers"),
        ({"output_prior": SSIG()}, "carries no gates"),
        ({"activation": "sin"}, "activation must be one of"),
        ({"likelihood": GaussianLikelihood(), "kernel_size": 0}, "kernel_size"),
    ],
)
def test_bad_networks_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        network(**{"prior": SSIG(inclusion=0.1), **options})


def test_networks_that_convolve_draw_weights_unless_told_otherwise():
    prior = SSGHS(inclusion=0.1)
    perceptron = MLP(3, [4], prior=prior, likelihood=GaussianLikelihood())
    convolves, dense = network(prior).description, perceptron.description
    assert [TrainingOptions().draws_locally(d) for d in (convolves, dense)] == [False, True]
    for choice in (True, False):
        options = TrainingOptions(local_reparameterization=choice)
        assert options.draws_locally(convolves) is options.draws_locally(dense) is choice
