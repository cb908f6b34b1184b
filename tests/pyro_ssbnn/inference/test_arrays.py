"""Arrays, lists and frames where tensors may be: the same numbers, columns by their names; text is refused."""

import numpy as np
import pandas as pd
import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.errors import DataError

NAMES = ["a", "b", "c"]
OPTIONS = ss.TrainingOptions(epochs=2, compile=False)


@pytest.fixture
def net():
    return ss.MLP(3, [2], prior=ss.SSIG(0.9), likelihood=ss.GaussianLikelihood(), input_names=NAMES)


def forms(x):
    frame = pd.DataFrame(x.numpy(), columns=NAMES)
    found = {
        "array": x.numpy(),
        "list": x.tolist(),
        "frame": frame,
        "mixed up": frame[["c", "a", "b"]],
    }
    polars = pytest.importorskip("polars")
    return {**found, "polars": polars.from_pandas(frame)}


def test_every_form_gives_what_the_tensor_gives(net):
    x, y = torch.randn(20, 3), torch.randn(20)
    expected = ss.fit(net, x, y, OPTIONS, progress=False)
    mean = ss.predict(expected.model, expected.guide, x, num_draws=3).mean
    for name, form in forms(x).items():
        result = ss.fit(net, form, y.numpy(), OPTIONS, progress=False)
        again = ss.predict(result.model, result.guide, form, num_draws=3).mean
        torch.testing.assert_close(again, mean, rtol=1e-5, atol=1e-6, msg=name)
        draws = ss.draw_posterior(result.model, result.guide, 2, x=form)
        assert draws.mean.shape == (2, 20)


def test_the_callers_array_is_not_touched(net):
    x, y = np.random.default_rng(0).normal(size=(20, 3)), np.zeros(20)
    x.setflags(write=False)
    ss.fit(net, x, y, OPTIONS, progress=False)
    assert (y == 0).all()


def test_tables_with_text_are_told_where_to_go(net):
    frame = pd.DataFrame({"a": ["x", "y"], "b": [1.0, 2.0], "c": [1.0, 2.0]})
    with pytest.raises(DataError, match=r"fit: x holds object values.*pyro_ssbnn\.sklearn"):
        ss.fit(net, frame, [0.0, 1.0], OPTIONS, progress=False)
    with pytest.raises(DataError, match=r"x must be \[N, 3\]"):
        ss.fit(net, frame[["b", "c"]], [0.0, 1.0], OPTIONS, progress=False)
