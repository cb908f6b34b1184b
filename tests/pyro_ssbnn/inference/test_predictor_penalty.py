"""The group lasso on predictors of deterministic networks: exact answers, limits, refusals."""

import pytest
import torch
from sklearn.linear_model import Lasso

from pyro_ssbnn import (
    MLP,
    SSIG,
    CategoricalLikelihood,
    Gaussian,
    GaussianLikelihood,
    LeNet,
    TrainingOptions,
    fit_deterministic,
)
from pyro_ssbnn.errors import ConfigurationError


def sparse_data():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(200, 6, generator=generator).double()
    y = 1.5 * x[:, 0] - 0.5 * x[:, 1] + 0.5 * torch.randn(200, generator=generator).double()
    return x, y


def fitted(model, x, y, penalty, epochs=800):
    options = TrainingOptions(epochs=epochs, batch_size=len(x), dtype="float64", mean_rate=0.02)
    return fit_deterministic(
        model, x, y, options, weight_decay=0.0, predictor_penalty=penalty, progress=False
    )


def test_a_linear_networks_is_the_lasso():
    """Known noise sigma: |y - f|^2 / (2 N sigma^2) + kappa |w|_1 is scikit-learn's lasso of alpha = kappa sigma^2.

    Adam steps back and forth across a kink by its last rate at most, here 0.02 / sqrt(6) / 100 = 8e-5 a weight.
    """
    x, y = sparse_data()
    sigma, kappa = 0.5, 0.8
    model = MLP(6, [], prior=Gaussian(), likelihood=GaussianLikelihood(scale=sigma))
    found = fitted(model, x, y, kappa)["output"][0]
    exact = Lasso(alpha=kappa * sigma**2, tol=1e-12).fit(x.numpy(), y.numpy())
    assert (exact.coef_ == 0).sum() >= 3
    expected = torch.tensor([*exact.coef_, exact.intercept_])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_groups_are_the_weights_that_read_a_predictor():
    """They vanish together: predictors without effect lose their weights to every node, those that matter keep them."""
    x, y = sparse_data()
    model = MLP(6, [8], prior=SSIG(inclusion=0.5), likelihood=GaussianLikelihood())
    norms = fitted(model, x, y, 0.3)["hidden1"][:, :-1].norm(dim=0)
    free = fitted(model, x, y, 0.0)["hidden1"][:, :-1].norm(dim=0)
    assert norms[:2].min() > 0.05
    assert norms[2:].max() < 0.005
    assert free[2:].min() > 0.05


def test_a_penalty_beyond_every_gradient_closes_all_predictors():
    """At w = 0 the gradient of the linear model's loss is x'y / (N sigma^2): above its largest entry w = 0 is best."""
    x, y = sparse_data()
    y = y - y.mean()
    model = MLP(6, [], prior=Gaussian(), likelihood=GaussianLikelihood(scale=1.0))
    largest = float(((x - x.mean(0)).T @ y / len(x)).abs().max())
    closed = fitted(model, x, y, 1.1 * largest)["output"][0, :-1]
    opened = fitted(model, x, y, 0.9 * largest)["output"][0, :-1]
    assert closed.abs().max() < 1e-3
    assert opened.abs().max() > 0.05


def test_what_cannot_be_penalised_is_refused():
    x, y = sparse_data()
    model = MLP(6, [3], prior=SSIG(inclusion=0.5), likelihood=GaussianLikelihood())
    with pytest.raises(ConfigurationError, match="predictor_penalty must not be negative"):
        fit_deterministic(model, x, y, predictor_penalty=-0.1)
    images = LeNet(
        (1, 12, 12), [2], [3], prior=SSIG(inclusion=0.5), likelihood=CategoricalLikelihood(2)
    )
    pixels, labels = torch.zeros(4, 144), torch.tensor([0, 1, 0, 1])
    with pytest.raises(ConfigurationError, match="first layer convolves"):
        fit_deterministic(images, pixels, labels, predictor_penalty=0.1)
