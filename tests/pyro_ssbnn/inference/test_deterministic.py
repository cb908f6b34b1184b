"""Deterministic counterparts: exact answers, and guides that start from them."""

import pytest
import torch
from torch.nn.functional import softplus

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSGL,
    SSIG,
    CategoricalLikelihood,
    Gaussian,
    GaussianLikelihood,
    GroupHorseshoe,
    LeNet,
    StructuredGuide,
    TrainingOptions,
    fit,
    fit_deterministic,
    prune,
    select,
)
from pyro_ssbnn.errors import ConfigurationError, NonFiniteLossError

PRIORS = [SSIG(inclusion=0.3), SSGL(inclusion=0.3), SSGHS(inclusion=0.3), SSGHS(0.3, cap=None)]


def everything(guide):
    inclusion = guide.inclusion()
    return select(inclusion, nodes={k: len(v) for k, v in inclusion.items()})


def plain_mlp(weights, x):
    """A perceptron with silu, from effective weights."""
    *hidden, output = weights.values()
    h = x
    for w in hidden:
        h = torch.nn.functional.silu(h @ w[:, :-1].T + w[:, -1])
    return h @ output[:, :-1].T + output[:, -1]


class TestFit:
    def ridge(self, optimizer):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(50, 4, generator=generator).double()
        y = x @ torch.tensor([1.0, -2.0, 0.0, 0.5]).double() + 0.3
        y = y + 0.1 * torch.randn(50, generator=generator).double()
        noise, decay = 0.7, 0.05
        model = MLP(
            4,
            [],
            prior=Gaussian(),
            likelihood=GaussianLikelihood(scale=noise),
            output_prior=GroupHorseshoe(),
        )
        options = TrainingOptions(
            epochs=1500, batch_size=50, dtype="float64", mean_rate=0.05, optimizer=optimizer
        )
        found = fit_deterministic(model, x, y, options, weight_decay=decay, progress=False)
        design = torch.cat([x, torch.ones(50, 1).double()], 1)
        gram = design.T @ design / (50 * noise**2) + decay * torch.eye(5).double()
        exact = torch.linalg.solve(gram, design.T @ y / (50 * noise**2))
        return found["output"][0], exact

    @pytest.mark.parametrize("optimizer", ["adam", "sgd"])
    def test_linear_network_is_ridge_regression(self, optimizer):
        """The penalty is on w itself, whatever the slab scale (here a horseshoe's): an exact answer."""
        found, exact = self.ridge(optimizer)
        torch.testing.assert_close(found, exact, rtol=0, atol=1e-6)

    def test_seed_decides_and_the_callers_state_is_untouched(self):
        x = torch.randn(40, 3)
        model = MLP(3, [5], prior=SSGHS(inclusion=0.3), likelihood=GaussianLikelihood())
        state = torch.get_rng_state()
        runs = [
            fit_deterministic(model, x, x[:, 0], TrainingOptions(epochs=2, seed=s), progress=False)
            for s in (0, 0, 1)
        ]
        assert torch.equal(state, torch.get_rng_state())
        assert torch.equal(runs[0]["hidden1"], runs[1]["hidden1"])
        assert not torch.equal(runs[0]["hidden1"], runs[2]["hidden1"])

    def test_bad_options_and_diverging_losses_are_refused(self):
        x = torch.randn(40, 3)
        model = MLP(3, [5], prior=SSIG(inclusion=0.3), likelihood=GaussianLikelihood())
        with pytest.raises(ConfigurationError, match="weight_decay must not be negative"):
            fit_deterministic(model, x, x[:, 0], weight_decay=-1.0)
        wild = TrainingOptions(epochs=300, optimizer="sgd", mean_rate=1e6)
        with pytest.raises(NonFiniteLossError, match="lower mean_rate"):
            fit_deterministic(model, x, x[:, 0], wild, progress=False)


class TestStart:
    @pytest.mark.parametrize("prior", PRIORS, ids=["ig", "gl", "ghs", "random-cap"])
    def test_mean_network_is_the_deterministic_one(self, prior):
        torch.manual_seed(0)
        model = MLP(
            4,
            [5, 3],
            prior=prior,
            likelihood=GaussianLikelihood(),
            input_inclusion=0.4,
            output_prior=GroupHorseshoe(),
        )
        guide = StructuredGuide(model).double()
        before = {k: v.clone() for k, v in guide.state_dict().items()}
        weights = {
            g.name: torch.randn(g.size, g.group_size).double() for g in model.description.groups
        }
        guide.start_from(weights)
        x = torch.randn(7, 4).double()
        f = prune(model, guide, everything(guide)).network(x)
        torch.testing.assert_close(f, plain_mlp(weights, x), rtol=1e-12, atol=1e-12)
        for name, value in guide.state_dict().items():
            if not name.endswith("weight.loc"):
                assert torch.equal(value, before[name]), name

    def test_trained_weights_of_a_convolutional_network_predict_as_they_did(self):
        """Through the package's own deterministic training, which must have fitted the labels."""
        generator = torch.Generator().manual_seed(0)
        y = torch.arange(60) % 3
        x = (
            torch.randn(60, 64, generator=generator)
            + 2 * torch.randn(3, 64, generator=generator)[y]
        )
        model = LeNet(
            (1, 8, 8),
            [4],
            [6],
            kernel_size=3,
            prior=SSGHS(inclusion=0.3),
            likelihood=CategoricalLikelihood(3),
        )
        options = TrainingOptions(epochs=30, batch_size=20, mean_rate=0.03)
        guide = StructuredGuide(model)
        guide.start_from(fit_deterministic(model, x, y, options, progress=False))
        f = prune(model, guide, everything(guide)).network(x)
        assert (f.argmax(1) == y).all()
        assert torch.nn.functional.cross_entropy(f, y) < 0.1

    def test_a_short_fit_goes_further_from_a_warm_start(self):
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(300, 3, generator=generator)
        y = softplus(3 * x[:, 0]) - (2 * x[:, 1]).sin()
        y = (y - y.mean()) / y.std()
        model = MLP(3, [16], prior=SSIG(inclusion=0.3), likelihood=GaussianLikelihood())
        options = TrainingOptions(epochs=10, batch_size=30, kl_warmup=0.0)
        weights = fit_deterministic(
            model, x, y, TrainingOptions(epochs=60, batch_size=30), progress=False
        )
        torch.manual_seed(0)
        guide = StructuredGuide(model)
        guide.start_from(weights)
        warm = fit(model, x, y, options, guide=guide, progress=False).history.elbo[-1]
        cold = fit(model, x, y, options, progress=False).history.elbo[-1]
        assert warm > cold + 30  # a tenth of a nat an observation

    def test_weights_that_do_not_fit_are_refused(self):
        model = MLP(4, [5], prior=SSIG(inclusion=0.3), likelihood=GaussianLikelihood())
        guide = StructuredGuide(model)
        good = {"hidden1": torch.zeros(5, 5), "output": torch.zeros(1, 6)}
        cases = [
            ({"hidden1": good["hidden1"]}, r"layers \['hidden1', 'output'\]; got \['hidden1'\]"),
            ({**good, "hidden2": good["output"]}, "got .*hidden2"),
            ({**good, "hidden1": torch.zeros(5, 4)}, r"hidden1 must be \[5, 5\].*got \[5, 4\]"),
            ({**good, "output": torch.full((1, 6), float("nan"))}, "output hold values"),
        ]
        for weights, message in cases:
            with pytest.raises(ConfigurationError, match=message):
                guide.start_from(weights)


def test_the_norm_of_a_steps_gradient_is_cut():
    """One step of plain gradient descent moves the weights by the rate times the largest norm allowed."""
    net = MLP(3, [4], prior=SSIG(inclusion=0.5), likelihood=GaussianLikelihood(scale=0.1))
    x, y = torch.randn(20, 3), 10 * torch.randn(20)
    moved = []
    for norm in (1e-9, 0.5):  # the first is where it starts from
        options = TrainingOptions(
            **{"epochs": 1, "batch_size": 20, "optimizer": "sgd", "momentum": 0.0},
            **{"mean_rate": 0.01, "clip_norm": norm, "decay_after": 1.0},
        )
        weights = fit_deterministic(net, x, y, options, weight_decay=0.0, progress=False)
        moved.append(torch.cat([w.flatten() for w in weights.values()]))
    assert float((moved[1] - moved[0]).norm()) == pytest.approx(0.01 * 0.5, rel=1e-3)
