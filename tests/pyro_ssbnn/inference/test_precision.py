"""Products rounded to bfloat16: what is rounded, what is not, and what it does to the bound."""

import pytest
import torch

from pyro_ssbnn import (
    MLP,
    SSGHS,
    SSIG,
    AnalyticELBO,
    CategoricalLikelihood,
    GaussianLikelihood,
    LeNet,
    ResNet,
    StructuredGuide,
    TrainingOptions,
    evaluate_bound,
    fit,
    fit_deterministic,
)
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference.step import EagerStep, TracedStep
from pyro_ssbnn.isolation import isolated

CLASSES = CategoricalLikelihood(3)
PRIOR = SSGHS(inclusion=0.3)
IMAGES = (1, 16, 16)
NETWORKS = {
    "mlp": lambda: MLP(256, [20, 10], prior=PRIOR, likelihood=CLASSES),
    "lenet": lambda: LeNet(IMAGES, prior=PRIOR, likelihood=CLASSES),
    "resnet": lambda: ResNet(
        IMAGES, 8, widths=(4, 4, 8), prior=SSIG(inclusion=0.3), likelihood=CLASSES
    ).train(),
}
UNIT = 2.0**-8  # rounding of one number to bfloat16


def estimates(kind, model, guide, rounded, local, particles=2):
    torch.manual_seed(1)
    x, y = torch.randn(24, 256), torch.arange(24) % 3
    elbo = AnalyticELBO(particles, local_reparameterization=local)
    step = kind(model, guide, elbo, 24, rounded=rounded)
    with isolated(0, x, grad=True):
        terms = step(x, y, torch.ones(()))
    return terms, torch.cat([p.grad.flatten() for p in guide.parameters()])


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_only_products_are_rounded(name, local, adds_alike):
    """Under the same draws the KL is the same bit by bit, log-likelihood and gradient are to rounding.

    Products of torch 2.8 round more.
    """
    model = NETWORKS[name]()
    guide = StructuredGuide(model)
    (terms, gradient), (rounded, near) = (
        estimates(EagerStep, model, guide, rounding, local) for rounding in (False, True)
    )
    assert rounded.dtype == near.dtype == torch.float32
    assert torch.equal(terms[1:], rounded[1:])
    assert terms[0] != rounded[0]
    assert rounded[0] == pytest.approx(float(terms[0]), rel=8 * UNIT)
    assert (near - gradient).norm() < (16 if adds_alike else 32) * UNIT * gradient.norm()


@pytest.mark.usefixtures("needs_same_sums")
@pytest.mark.parametrize(
    ("name", "particles", "rounded"),
    [("lenet", 1, True), ("resnet", 1, False), ("resnet", 2, True)],
)
def test_traced_steps_of_images_are_the_eager_ones_bit_by_bit(name, particles, rounded):
    found = []
    for kind in (EagerStep, TracedStep):
        torch.manual_seed(0)
        model = NETWORKS[name]()
        guide = StructuredGuide(model)
        terms, gradient = estimates(kind, model, guide, rounded, False, particles)
        found.append([terms, gradient, *model.state_dict().values()])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_running_statistics_of_rounded_maps_are_not_rounded():
    model = NETWORKS["resnet"]()
    estimates(EagerStep, model, StructuredGuide(model), True, False, 1)
    mean = model.stem.statistics.running_mean
    assert mean.dtype == torch.float32
    assert not torch.equal(mean, mean.bfloat16().float())


def test_a_fit_keeps_its_parameters_in_full_precision():
    x = torch.randn(64, 5)
    y = torch.sin(2 * x[:, 0]) + 0.1 * torch.randn(64)
    model = MLP(5, [16], prior=PRIOR, likelihood=GaussianLikelihood())
    bounds = []
    for precision in ("full", "bf16"):
        options = TrainingOptions(epochs=60, precision=precision, compile=False)
        fitted = fit(model, x, y, options, progress=False)
        assert all(p.dtype == torch.float32 for p in fitted.guide.parameters())
        bounds.append(evaluate_bound(fitted.model, fitted.guide, x, y))
    full, rounded = bounds
    assert rounded.elbo != full.elbo
    assert abs(rounded.elbo - full.elbo) < 4 * (full.error + rounded.error) + 0.02 * abs(full.elbo)


def test_deterministic_networks_are_rounded_too():
    x, y = torch.randn(40, 256), torch.arange(40) % 3
    weights = [
        fit_deterministic(
            NETWORKS["lenet"](), x, y, TrainingOptions(epochs=1, precision=chosen), progress=False
        )["conv1"]
        for chosen in ("full", "bf16")
    ]
    assert not torch.equal(*weights)
    assert torch.allclose(*weights, atol=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "half"}, "precision must be 'full', 'tf32' or 'bf16'"),
        ({"precision": "bf16", "dtype": "float64"}, "dtype must be 'float32' for bf16"),
    ],
)
def test_precisions_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        TrainingOptions(**options)


def test_tf32_is_refused_on_the_cpu_before_training():
    x, y = torch.randn(40, 256), torch.arange(40) % 3
    options = TrainingOptions(precision="tf32", device="cpu")
    with pytest.raises(ConfigurationError, match="'tf32': only CUDA has it"):
        fit(NETWORKS["mlp"](), x, y, options, progress=False)
