"""Transformed targets: Yeo and Johnson's map, its inverse and slope; moments and densities in own units."""

import json
import math

import numpy as np
import pytest
import torch
from sklearn.preprocessing import PowerTransformer

import pyro_ssbnn as ss
from pyro_ssbnn.data import TargetScaling
from pyro_ssbnn.data.own_units import own_units
from pyro_ssbnn.data.transforms import Transform
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.posterior.ensemble import posterior_ensemble

Y = torch.tensor([-300.0, -2.5, -1e-3, 0.0, 1e-3, 0.7, 15.0, 4e4], dtype=torch.float64)
MAPS = [Transform("yeo-johnson", p) for p in (0.0, 0.3, 1.0, 1.7, 2.0)]


@pytest.mark.parametrize("g", MAPS, ids=str)
def test_yeo_johnson_is_scikit_learns_and_undone(g):
    known = PowerTransformer(standardize=False)
    known.lambdas_ = np.array([g.power])
    known.n_features_in_, known._scaler = 1, None
    expected = known.transform(Y.numpy()[:, None])[:, 0]
    np.testing.assert_allclose(g(Y).numpy(), expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(g.inverse(g(Y)), Y, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("g", [*MAPS, Transform("log"), Transform()], ids=str)
def test_the_slope_is_the_derivative(g):
    y = (Y[Y > 0] if g.name == "log" else Y).clone().requires_grad_()
    (slope,) = torch.autograd.grad(g(y).sum(), y)
    torch.testing.assert_close(g.log_slope(y.detach()), slope.log())


@pytest.mark.parametrize("g", [*MAPS, Transform("log")], ids=str)
def test_predictions_far_from_the_data_are_finite(g):
    far = torch.tensor([-1e6, 1e6], dtype=torch.float64)
    found = g.inverse(far)
    assert found.isfinite().all()
    assert found.square().isfinite().all()
    assert found[0] < found[1]


def test_the_power_is_that_of_maximum_likelihood():
    y = np.random.default_rng(0).gamma(2.0, 3.0, 500)
    known = PowerTransformer().fit(y[:, None])
    g = Transform.fit("yeo-johnson", torch.from_numpy(y))
    assert g.power == pytest.approx(float(known.lambdas_[0]), abs=1e-3)
    scaling = TargetScaling.fit(torch.from_numpy(y), "regression", transform="yeo-johnson")
    expected = known.transform(y[:, None])[:, 0]
    np.testing.assert_allclose(scaling.transform(torch.from_numpy(y)), expected, atol=2e-3)
    again = TargetScaling.from_dict(json.loads(json.dumps(scaling.to_dict())))
    assert again == scaling


def test_what_cannot_be_transformed_is_refused():
    with pytest.raises(DataError, match=r"not positive.*Take yeo-johnson"):
        TargetScaling.fit(torch.tensor([1.0, -2.0, 3.0]), "regression", transform="log")
    with pytest.raises(ConfigurationError, match="one of none, log, yeo-johnson"):
        Transform("root")
    with pytest.raises(DataError, match="only measurements"):
        TargetScaling.fit(torch.tensor([0, 1]), "binary", transform="log")
    net = ss.MLP(1, [], prior=ss.Gaussian(), likelihood=ss.StudentTLikelihood())
    ensemble = posterior_ensemble(net, ss.StructuredGuide(net), 5, seed=0, rows=3)
    with pytest.raises(ConfigurationError, match="log goes with Gaussian"):
        own_units(ensemble, TargetScaling(0.0, 1.0, Transform("log")))


class TestOwnUnits:
    """A linear network with known noise: y' under a draw is Normal around f, y is LogNormal."""

    X = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    TARGET = TargetScaling(1.5, 0.4, Transform("log"))

    @pytest.fixture
    def ensembles(self):
        net = ss.MLP(2, [], prior=ss.Gaussian(), likelihood=ss.GaussianLikelihood(scale=0.6))
        plain = posterior_ensemble(net, ss.StructuredGuide(net), 30, seed=0, rows=6)
        return plain, own_units(plain, self.TARGET)

    def test_means_and_variances_are_averages_of_each_draws_lognormal(self, ensembles):
        plain, own = ensembles
        loc, scale = 1.5 + 0.4 * plain.means(self.X), 0.4 * 0.6
        means = (loc + scale**2 / 2).exp()
        variances = math.expm1(scale**2) * means.square()
        torch.testing.assert_close(own.means(self.X), means)
        found = own.summary(self.X)
        torch.testing.assert_close(found.mean, means.mean(0))
        total = variances.mean(0) + means.var(0, correction=0)
        torch.testing.assert_close(found.variance, total)

    def test_quantiles_are_transformed_and_densities_integrate_to_one(self, ensembles):
        plain, own = ensembles
        levels = (0.05, 0.5, 0.95)
        expected = self.TARGET.inverse(plain.summary(self.X, quantiles=levels).quantiles)
        torch.testing.assert_close(own.summary(self.X, quantiles=levels).quantiles, expected)
        log_y = torch.linspace(
            -5, 9, 1_001, dtype=torch.float64
        )  # over log y the density is smooth
        row, y = self.X[:1].expand(len(log_y), -1), log_y.exp()
        density = own.summary(row, y).log_density.exp() * y
        assert float(torch.trapezoid(density, log_y)) == pytest.approx(1, abs=1e-5)
        mean = float(torch.trapezoid(density * y, log_y))
        assert mean == pytest.approx(float(own.summary(self.X[:1]).mean[0]), rel=1e-5)

    def test_an_affine_target_is_moved_and_stretched(self, ensembles):
        plain, _ = ensembles
        own = own_units(plain, TargetScaling(10.0, 3.0)).summary(self.X, torch.full((6,), 11.0))
        base = plain.summary(self.X, torch.full((6,), 1 / 3))
        torch.testing.assert_close(own.mean, 10 + 3 * base.mean)
        torch.testing.assert_close(own.variance, 9 * base.variance)
        torch.testing.assert_close(own.log_density, base.log_density - math.log(3))
