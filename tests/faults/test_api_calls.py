"""Calls of the Python API with arguments of wrong kinds: the package's own errors, never one of torch's."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch

import pyro_ssbnn as ss

X = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
Y = X[:, 0].clone()
NAN = X.clone()
NAN[3, 1] = torch.nan
OWN = tuple(getattr(ss.errors, name) for name in ss.errors.__all__ if name.endswith("Error"))
OPTIONS = ss.TrainingOptions(epochs=2, compile=False)
WILD = (None, "a", 2.5, -1, 0, float("nan"), float("inf"), 10**12, [], {}, True, object())


def net(**options):
    common = {"prior": ss.SSIG(inclusion=0.5), "likelihood": ss.GaussianLikelihood()}
    return ss.MLP(**{"num_inputs": 3, "hidden": [4], **common, **options})


@pytest.fixture(scope="module")
def fitted():
    return ss.fit(net(), X, Y, OPTIONS, progress=False)


BAD_X = {
    "none": None,
    "text": "a",
    "vector": X[:, 0],
    "deep": X[None],
    "wide": torch.zeros(40, 5),
    "empty": X[:0],
    "nan": NAN,
    "infinite": X / 0,
    "complex": X + 0j,
    "sparse": X.to_sparse(),
    "meta": X.to("meta"),
}
TAKES_X = {
    "fit": lambda r, x: ss.fit(net(), x, Y, OPTIONS, progress=False),
    "fit_deterministic": lambda r, x: ss.fit_deterministic(net(), x, Y, OPTIONS, progress=False),
    "predict": lambda r, x: ss.predict(r.model, r.guide, x),
    "evaluate_bound": lambda r, x: ss.evaluate_bound(r.model, r.guide, x, Y),
    "fine_tune": lambda r, x: ss.fine_tune(r, x, Y, progress=False),
}
BAD_Y = {"texts": ["a"] * 40, "short": Y[:5], "wide": X[:, :2], "nan": NAN[:, 1]}
CALLS = {
    "options": [lambda r, v: ss.fit(net(), X, Y, v, progress=False)],
    "model": [
        lambda r, v: ss.fit(v, X, Y, OPTIONS, progress=False),
        lambda r, v: ss.StructuredGuide(v),
    ],
    "hidden": [lambda r, v: net(hidden=v), lambda r, v: net(hidden=[v])],
    "prior": [lambda r, v: net(prior=v), lambda r, v: net(likelihood=v)],
    "num_inputs": [lambda r, v: net(num_inputs=v)],
    "draws": [
        lambda r, v: ss.predict(r.model, r.guide, X, num_draws=v),
        lambda r, v: ss.draw_posterior(r.model, r.guide, v),
        lambda r, v: ss.evaluate_bound(r.model, r.guide, X, Y, num_draws=v),
    ],
    "selection": [
        lambda r, v: ss.select(v),
        lambda r, v: ss.select_fdr(v),
        lambda r, v: ss.select(r.guide.inclusion(), threshold=v),
        lambda r, v: ss.select_fdr(r.guide.inclusion(), level=v),
        lambda r, v: ss.predict(r.model, r.guide, X, seed=v),
        lambda r, v: ss.predict(r.model, r.guide, X, quantiles=v),
    ],
    "files": [
        lambda r, v: ss.load_fit(v),
        lambda r, v: ss.load_compact(v),
        lambda r, v: ss.save_fit(v, "x"),
    ],
    "tables": [lambda r, v: ss.inclusion_summary(v), lambda r, v: ss.inclusion_summary(r.guide, v)],
}
# What these calls take as it is.
ALLOWED = {
    "options": [None],
    "hidden": [[], 10**12],
    "selection": [0, True, 10**12, {}, []],
    "num_inputs": [10**12],
    "tables": [None],
}
FIELDS = {
    **dict.fromkeys(
        ("epochs", "batch_size", "num_particles", "patience"), ("a", 2.5, -1, True, 2**70)
    ),
    "scale_rate": ("a", None, float("nan"), float("inf"), 1e300, -1),
    "mean_rate": ("a", float("nan"), float("inf"), 1e300, -1),
    **dict.fromkeys(
        ("gate_rate", "clip_norm", "latent_rate"), ("a", float("nan"), float("inf"), 0)
    ),
    **dict.fromkeys(
        ("temperature", "milestones"), (1, "ab", (float("inf"),) * 2, None, ("a", "b"))
    ),
    **dict.fromkeys(("hard_gates", "compile", "optimizer", "dtype"), (3, [], object())),
    "seed": ("a", 2.5, -1, 2**32),
    "remove_after": (1.5, "a", None),
    "min_delta": (float("nan"), "a"),
}


def taken(calls):
    """Names of the calls that end without an error of the package's own, and with what they end."""
    found = {}
    for name, call in calls.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                call()
                found[name] = "no error"
            except OWN as error:
                if len(str(error)) >= 1_000:
                    found[name] = "a dump of a tensor"
            except Exception as error:
                found[name] = repr(error)
    return found


def test_wrong_predictors(fitted, tell):
    calls = {
        (name, kind): partial(call, fitted, x)
        for name, call in TAKES_X.items()
        for kind, x in BAD_X.items()
    }
    assert taken(calls) == {}
    tell(f"{len(calls)} calls with wrong predictors: all refused by the package's own errors")


def test_wrong_targets(fitted, tell):
    calls = {}
    for kind, y in BAD_Y.items():
        calls["fit", kind] = partial(ss.fit, net(), X, y, OPTIONS, progress=False)
        calls["predict", kind] = partial(ss.predict, fitted.model, fitted.guide, X, y)
    assert taken(calls) == {}
    tell(f"{len(calls)} calls with wrong targets: all refused")


def test_wrong_arguments(fitted, tell):
    calls = {}
    for name, several in CALLS.items():
        allowed = ALLOWED.get(name, [])
        for place, call in enumerate(several):
            for value in WILD:
                if any(value is a or (type(value) is type(a) and value == a) for a in allowed):
                    continue
                calls[name, place, repr(value)] = partial(call, fitted, value)
    assert taken(calls) == {}
    tell(f"{len(calls)} calls with arguments of wrong kinds: all refused")


def test_wrong_options(tell):
    calls = {
        (name, repr(value)): partial(ss.TrainingOptions, **{name: value})
        for name, values in FIELDS.items()
        for value in values
    }
    assert taken(calls) == {}
    tell(f"{len(calls)} wrong values of TrainingOptions: all refused")


def test_numbers_of_other_libraries_become_pythons_own():
    options = ss.TrainingOptions(
        epochs=np.int64(3), mean_rate=np.float32(0.5), device=torch.device("cpu"), milestones=[0.5]
    )
    assert options.to_config()["epochs"] == 3
    assert type(options.epochs) is int
    assert type(options.mean_rate) is float
    assert options.device == "cpu"
    assert options.milestones == (0.5,)


def test_what_no_memory_holds_is_refused_before_anything_is_made():
    with pytest.raises(ss.errors.ConfigurationError, match=r"GiB of memory; there are \d+"):
        ss.StructuredGuide(net(hidden=[10**6] * 3))
    with pytest.raises(ss.errors.ConfigurationError, match="GiB of memory"):
        ss.fit(net(hidden=[10**8 * 5]), X, Y, OPTIONS, progress=False)
