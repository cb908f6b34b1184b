"""The truths that benchmarks of likelihoods and effects compare with, and both scripts from end to end."""

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

import pyro_ssbnn as ss

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    def load(name):
        monkeypatch.syspath_prepend(str(FOLDER))
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


class TestEffects:
    x = (torch.rand(4000, 10, generator=torch.Generator().manual_seed(0)).double() - 0.5) * 12**0.5

    def test_additive_predictors_have_their_own_functions(self, script):
        truth = script("effects")
        points = np.quantile(self.x[:, 3].numpy(), np.linspace(0, 1, 9), method="inverted_cdf")
        own = points / 12**0.5 + 0.5
        for column, function in ((3, 10 * own), (4, 5 * own), (2, 20 * (own - 0.5) ** 2)):
            dependence = truth.true_dependence(self.x, column, points)
            np.testing.assert_allclose(np.diff(dependence), np.diff(function), atol=1e-9)
        accumulated = truth.true_accumulation(self.x, 3, points)
        np.testing.assert_allclose(np.diff(accumulated), 10 * np.diff(own), atol=1e-9)

    def test_the_product_has_its_mean(self, script):
        r"""E sin(pi a X) = (1 - cos(pi a)) / (pi a), X uniform."""
        truth = script("effects")
        a = np.array([0.2, 0.5, 0.9])
        found = truth.true_dependence(self.x, 0, (a - 0.5) * 12**0.5)
        expected = 10 * (1 - np.cos(math.pi * a)) / (math.pi * a)
        np.testing.assert_allclose(np.diff(found), np.diff(expected), atol=0.15)

    def test_bands_are_judged_pointwise(self, script):
        draws = np.linspace(0, 1, 101)[:, None] + np.zeros(4)
        effect = ss.Effect("x1", "partial dependence", np.arange(4.0), draws, None, np.arange(4.0))
        found = script("effects").held(effect, np.array([0.04, 0.06, 0.5, 2.0]))
        assert found["covered"] == 0.5
        assert abs(found["width"] - 0.9) < 1e-12

    def test_end_to_end(self, script):
        found = script("effects").run(0, {"epochs": 2, "compile": False})
        assert len(found["dependence"]) == len(found["accumulated"]) == len(found["idle"]) == 5


class TestLikelihoods:
    def test_counts_have_the_dispersion_asked_for(self, script):
        law = script("likelihoods").counts(torch.tensor([0.0, 1.0]).double(), 1.5)
        mean = torch.tensor([0.0, 1.0]).double().exp()
        torch.testing.assert_close(law.mean, mean)
        torch.testing.assert_close(law.variance, mean + 1.5 * mean.square())

    def test_the_glm_finds_a_log_linear_mean(self, script):
        pytest.importorskip("statsmodels")
        generator = np.random.default_rng(0)
        x = generator.normal(size=(3000, 2))
        mean = np.exp(0.5 + 0.4 * x[:, 0])
        y = stats.nbinom(1, 1 / (1 + mean)).rvs(random_state=generator).astype(float)
        found = script("likelihoods").glm(x, y, 2000)["log density"]
        truth = stats.nbinom(1, 1 / (1 + mean[2000:])).logpmf(y[2000:])
        assert abs(found - truth.mean()) < 0.01

    @pytest.mark.parametrize("name", ["heavy tails", "grades", "censored times"])
    def test_end_to_end(self, script, name, monkeypatch):
        benchmark = script("likelihoods")
        monkeypatch.setattr(benchmark, "DRAWS", 20)
        options = ss.TrainingOptions(epochs=2, compile=False)
        found = benchmark.run(name, 0, options)
        assert all(math.isfinite(scores["log density"]) for scores in found.values())
        assert found["truth"]["log density"] > max(
            v["log density"] for k, v in found.items() if k != "truth"
        )
