import json
import math

import pytest
import torch

from pyro_ssbnn.data import Dataset, PixelScaling, TargetScaling
from pyro_ssbnn.errors import DataError


@pytest.fixture
def table():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(50, 3, generator=generator) * torch.tensor([1e-3, 1.0, 1e4]) + 5.0
    return Dataset(x, x @ torch.tensor([1.0, 2.0, 1e-4]), ("a", "b", "c"), "t", "regression")


@pytest.fixture
def images():
    x = torch.zeros(4, 4)
    x[:, 1] = torch.tensor([0.0, 1.0, 0.5, 1.0])
    return Dataset(
        x, torch.tensor([0, 1, 0, 1]), tuple("abcd"), "t", "classification", image_shape=(1, 2, 2)
    )


def test_target_round_trip_and_moments(table):
    scaling = TargetScaling.fit(table.y, "regression")
    z = scaling.transform(table.y)
    assert float(z.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(z.square().mean()) == pytest.approx(1.0, abs=1e-5)
    torch.testing.assert_close(scaling.inverse(z), table.y.double())
    assert TargetScaling.from_dict(json.loads(json.dumps(scaling.to_dict()))) == scaling


def test_standard_deviations_and_log_densities_change_with_the_unit():
    scaling = TargetScaling(loc=10.0, scale=4.0)
    y, mean, sd = torch.tensor([13.0]), torch.tensor([0.5]), torch.tensor([0.7])
    scaled = torch.distributions.Normal(mean, sd).log_prob(scaling.transform(y))
    own = torch.distributions.Normal(scaling.inverse(mean), 4.0 * sd).log_prob(y)
    torch.testing.assert_close((scaled + scaling.log_slope(y)).double(), own)


def test_a_target_far_from_zero_is_recovered_from_single_precision_predictions():
    y = 1e8 + torch.linspace(-10, 10, 21, dtype=torch.float64)
    scaling = TargetScaling.fit(y, "regression")
    predicted = scaling.inverse(scaling.transform(y).float())
    assert predicted.dtype == torch.float64
    torch.testing.assert_close(predicted, y, rtol=0, atol=1e-6 * float(y.std()))


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 0.0), (0.0, -1.0), (math.nan, 1.0)])
def test_target_scaling_outside_its_domain_is_refused(loc, scale):
    with pytest.raises(DataError, match="positive, finite scale"):
        TargetScaling(loc, scale)


@pytest.mark.parametrize(
    ("task", "y"),
    [("classification", [0, 1, 2]), ("binary", [0, 1, 1]), ("count", [0, 5, 2])],
)
def test_labels_and_counts_are_not_scaled(task, y):
    y = torch.tensor(y)
    scaling = TargetScaling.fit(y, task)
    assert scaling.is_identity
    assert (scaling.log_slope(y) == 0).all()
    assert scaling.transform(y) is y
    assert scaling.inverse(y) is y


def test_a_constant_target_is_refused():
    with pytest.raises(DataError, match=r"target 'yield' is constant, it equals 2\.5 in all 3"):
        TargetScaling.fit(torch.full((3,), 2.5), "regression", "yield")


def test_images_share_one_factor_although_pixels_are_constant(images):
    scaling = PixelScaling.fit(images)
    assert float(scaling.encode(images.x).square().mean()) == pytest.approx(1.0)
    assert PixelScaling(0.5).encode(images.x).max() == 2.0
    assert PixelScaling.from_dict(json.loads(json.dumps(scaling.to_dict()))) == scaling


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_pixel_factor_must_be_positive(factor):
    with pytest.raises(DataError, match="positive, finite factor"):
        PixelScaling(factor)


def test_black_images_are_refused():
    black = Dataset(
        torch.zeros(2, 4), torch.tensor([0, 1]), tuple("abcd"), "t", "binary", image_shape=(1, 2, 2)
    )
    with pytest.raises(DataError, match="every pixel of every image is zero"):
        PixelScaling.fit(black)
