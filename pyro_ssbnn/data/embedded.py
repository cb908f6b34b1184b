"""Two small data sets that come with scikit-learn, for examples and quick checks offline."""

import torch

from pyro_ssbnn.data.dataset import Dataset
from pyro_ssbnn.data.images import pixel_names


def digits() -> Dataset:
    """Give 1,797 handwritten digits of 8x8 pixels (UCI optical recognition of digits, test half).

    :returns: "classification" data; ``x [1797, 64]`` in 0..1 (grey level / 16), ``image_shape`` ``(1, 8, 8)``,
        columns "pixel[r,c]" from the top left, classes "0".."9".
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x = torch.from_numpy(images).to(torch.float32) / 16
    return Dataset(
        x,
        torch.from_numpy(labels).long(),
        pixel_names(("pixel",), 8, 8),
        "digit",
        "classification",
        image_shape=(1, 8, 8),
    )


def diabetes() -> Dataset:
    """Give the diabetes data of 442 patients (Efron et al. 2004, "Least angle regression").

    :returns: "regression" data; ``x [442, 10]`` in their own units, columns "age", "sex", "bmi", "bp", "s1".."s6";
        target "progression", a measure of disease progression after one year (25 to 346).
    """
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(as_frame=True, scaled=False)
    names = tuple(str(name) for name in bunch.data.columns)
    x = torch.from_numpy(bunch.data.to_numpy(dtype="float64", copy=True))
    y = torch.from_numpy(bunch.target.to_numpy(dtype="float64", copy=True))
    return Dataset(x, y, names, "progression", "regression")
