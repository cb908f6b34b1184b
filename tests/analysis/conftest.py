"""Small guides whose parameters are set by hand; no window, no figure left open, matplotlib's settings untouched."""

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch

from pyro_ssbnn.guides import StructuredGuide
from pyro_ssbnn.likelihoods import GaussianLikelihood
from pyro_ssbnn.models import MLP
from pyro_ssbnn.priors import SSGHS

matplotlib.use("Agg")


@pytest.fixture
def build():
    """``build(hidden, prior=..., logits={group: values}, ...)`` makes a network and a guide with these gate logits."""

    def make(hidden=(4,), prior=None, likelihood=None, inputs=3, logits=None, **options):
        model = MLP(
            inputs,
            list(hidden),
            prior=prior or SSGHS(inclusion=0.1),
            likelihood=likelihood or GaussianLikelihood(),
            **options,
        )
        guide = StructuredGuide(model)
        for name, values in (logits or {}).items():
            site = guide.input if name == "input" else getattr(guide, name).gate
            site.logits.data = torch.as_tensor(values).expand(site.logits.shape).clone()
        return model, guide

    return make


@pytest.fixture
def untouched_pyplot():
    """No figure before and after, and matplotlib's global settings as they were."""
    plt.close("all")
    before = dict(matplotlib.rcParams)
    yield
    after = dict(matplotlib.rcParams)
    leaked = plt.get_fignums()
    plt.close("all")
    assert after == before
    assert not leaked
