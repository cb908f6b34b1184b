import json
import math

import pytest
import torch

from pyro_ssbnn.data import Dataset, FeatureScaling, TargetScaling
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


def test_standardised_columns_have_mean_zero_and_mean_square_one(table):
    z = FeatureScaling.standardize(table).transform(table.x)
    assert torch.allclose(z.mean(0), torch.zeros(3), atol=1e-4)
    assert torch.allclose(z.square().mean(0), torch.ones(3), atol=1e-3)


def test_transform_is_x_minus_loc_over_scale_and_keeps_dtype():
    scaling = FeatureScaling(torch.tensor([1.0, -2.0]), torch.tensor([2.0, 4.0]))
    assert scaling.transform(torch.tensor([[3.0, 2.0]])).tolist() == [[1.0, 1.0]]
    assert scaling.transform(torch.zeros(5, 7, 2, dtype=torch.float64)).dtype == torch.float64
    with pytest.raises(DataError, match=r"shape \[\.\.\., 2\], got \[4, 3\]"):
        scaling.transform(torch.zeros(4, 3))


def test_constant_columns_are_all_named():
    x = torch.arange(12.0).reshape(4, 3)
    x[:, 2] = 7.1
    names = ("a", "b", "age")
    data = Dataset(x, torch.arange(4.0), names, "t", "regression")
    with pytest.raises(DataError, match=r"column 'age' \(3rd of 3\) is constant.*: drop it\."):
        FeatureScaling.standardize(data)
    x[:, 0] = 0.0
    with pytest.raises(DataError, match=r"'a' \(1st of 3\), column 'age'.* are constant.*them"):
        FeatureScaling.standardize(data)


def test_images_share_one_factor_although_pixels_are_constant(images):
    scaling = FeatureScaling.standardize(images)
    assert scaling.loc.tolist() == [0.0] * 4
    assert len(set(scaling.scale.tolist())) == 1
    assert float(scaling.transform(images.x).square().mean()) == pytest.approx(1.0)
    assert FeatureScaling.pixels(images, 0.5).transform(images.x).max() == 2.0


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_pixel_factor_must_be_positive(images, factor):
    with pytest.raises(DataError, match="positive, finite factor"):
        FeatureScaling.pixels(images, factor)


def test_black_images_are_refused():
    black = Dataset(
        torch.zeros(2, 4), torch.tensor([0, 1]), tuple("abcd"), "t", "binary", image_shape=(1, 2, 2)
    )
    with pytest.raises(DataError, match="every pixel of every image is zero"):
        FeatureScaling.standardize(black)


def test_identity_changes_nothing(table):
    assert torch.equal(FeatureScaling.identity(3).transform(table.x), table.x)


@pytest.mark.parametrize(
    ("loc", "scale", "message"),
    [
        ([0.0], [0.0], "positive scale"),
        ([0.0], [-1.0], "positive scale"),
        ([math.nan], [1.0], "finite"),
        ([0.0, 0.0], [1.0], r"shape \[p\], got \[2\] and \[1\]"),
    ],
)
def test_scaling_outside_its_domain_is_refused(loc, scale, message):
    with pytest.raises(DataError, match=message):
        FeatureScaling(torch.tensor(loc), torch.tensor(scale))


def test_feature_scaling_survives_json_exactly(table):
    scaling = FeatureScaling.standardize(table)
    again = FeatureScaling.from_dict(json.loads(json.dumps(scaling.to_dict())))
    assert torch.equal(again.loc, scaling.loc)
    assert torch.equal(again.scale, scaling.scale)
    with pytest.raises(DataError, match=r"FeatureScaling\.from_dict.*'scale' are missing"):
        FeatureScaling.from_dict({"loc": [0.0]})


def test_target_round_trip_and_moments(table):
    scaling = TargetScaling.fit(table)
    z = scaling.transform(table.y)
    assert float(z.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(z.square().mean()) == pytest.approx(1.0, abs=1e-5)
    torch.testing.assert_close(scaling.inverse(z), table.y.double())
    assert TargetScaling.from_dict(json.loads(json.dumps(scaling.to_dict()))) == scaling


def test_standard_deviations_and_log_densities_change_with_the_unit():
    scaling = TargetScaling(loc=10.0, scale=4.0)
    y, mean, sd = torch.tensor([13.0]), torch.tensor([0.5]), torch.tensor([0.7])
    scaled = torch.distributions.Normal(mean, sd).log_prob(scaling.transform(y))
    own = torch.distributions.Normal(scaling.inverse(mean), scaling.inverse_scale(sd)).log_prob(y)
    torch.testing.assert_close((scaled - scaling.log_scale).double(), own)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_differences_that_are_small_beside_the_mean_survive(dtype):
    """A month of unix times; in float32 the values there are, each an exact number, are told apart."""
    times = (1_700_000_000 + 8_640 * torch.arange(300, dtype=torch.float64)).to(dtype)
    data = Dataset(times[:, None], times, ("time",), "t", "regression")
    assert data.x.dtype == data.y.dtype == dtype
    own = times.double()
    exact = (own - own.mean()) / own.std(correction=0)
    scaled = FeatureScaling.standardize(data).transform(data.x)[:, 0]
    close = {"rtol": 4 * torch.finfo(dtype).eps, "atol": 4 * torch.finfo(dtype).eps}
    torch.testing.assert_close(scaled, exact.to(dtype), **close)
    target = TargetScaling.fit(data)
    torch.testing.assert_close(target.transform(data.y), exact.to(dtype), **close)


def test_a_target_far_from_zero_is_recovered_from_single_precision_predictions():
    y = 1e8 + torch.linspace(-10, 10, 21, dtype=torch.float64)
    scaling = TargetScaling.fit(Dataset(y[:, None], y, ("a",), "t", "regression"))
    predicted = scaling.inverse(scaling.transform(y).float())
    assert predicted.dtype == torch.float64
    torch.testing.assert_close(predicted, y, rtol=0, atol=1e-6 * float(y.std()))
    sd = scaling.inverse_scale(torch.tensor([0.5]))
    assert sd.dtype == torch.float64
    assert float(sd) == 0.5 * scaling.scale


def test_a_column_that_changes_by_rounding_alone_is_constant():
    x = torch.tensor([[0.3], [0.1 + 0.2], [0.3]], dtype=torch.float64)
    assert len(x.unique()) == 2
    with pytest.raises(DataError, match="changes by rounding alone"):
        FeatureScaling.standardize(Dataset(x, torch.arange(3.0), ("a",), "t", "regression"))


@pytest.mark.parametrize(
    ("task", "y"),
    [("classification", [0, 1, 2]), ("binary", [0, 1, 1]), ("count", [0, 5, 2])],
)
def test_labels_and_counts_are_not_scaled(task, y):
    data = Dataset(torch.eye(3), torch.tensor(y), ("a", "b", "c"), "t", task)
    scaling = TargetScaling.fit(data)
    assert scaling.is_identity
    assert scaling.log_scale == 0.0
    assert scaling.transform(data.y) is data.y
    assert scaling.inverse_scale(data.x) is data.x


def test_a_constant_target_is_refused():
    data = Dataset(torch.eye(3), torch.full((3,), 2.5), ("a", "b", "c"), "yield", "regression")
    with pytest.raises(DataError, match=r"target 'yield' is constant, it equals 2\.5 in all 3"):
        TargetScaling.fit(data)


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 0.0), (0.0, -1.0), (math.nan, 1.0)])
def test_target_scaling_outside_its_domain_is_refused(loc, scale):
    with pytest.raises(DataError, match="positive, finite scale"):
        TargetScaling(loc, scale)
