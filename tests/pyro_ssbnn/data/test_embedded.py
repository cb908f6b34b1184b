import torch

from pyro_ssbnn.data import Preprocessing, diabetes, digits


def test_digits_are_images_between_zero_and_one():
    data = digits()
    assert tuple(data.x.shape) == (1797, 64)
    assert (float(data.x.min()), float(data.x.max())) == (0.0, 1.0)
    assert data.image_shape == (1, 8, 8)
    assert data.feature_names[9] == "pixel[1,1]"
    assert data.class_names == tuple("0123456789")
    assert bool((data.x[:, 0] == 0).all())
    scaled = Preprocessing.fit(data).apply(data)
    assert torch.allclose(scaled.x.square().mean(), torch.tensor(1.0))


def test_diabetes_is_in_its_own_units():
    data = diabetes()
    assert tuple(data.x.shape) == (442, 10)
    assert data.feature_names[:4] == ("age", "sex", "bmi", "bp")
    assert data.target_name == "progression"
    assert (float(data.y.min()), float(data.y.max())) == (25.0, 346.0)
    assert 18 < float(data.x[:, 0].mean()) < 60


def test_each_call_gives_its_own_tensors():
    first = diabetes()
    first.x.zero_()
    assert float(diabetes().x.abs().sum()) > 0
