"""Simple models beside the network: closed forms, and scores that agree with the network's where they must."""

import numpy as np
import pytest
import torch

from pyro_ssbnn.data import Preprocessing, Table
from pyro_ssbnn.posterior.summary import PredictiveSummary
from pyro_ssbnn.results.baselines import baselines
from pyro_ssbnn.results.predictions import RunningScores

X = np.random.default_rng(0).normal(size=(100, 2))


def made(y):
    table = Table.of({"a": X[:, 0], "b": X[:, 1], "y": y})
    prepared = Preprocessing.fit(table, "y")
    return prepared, prepared.apply(table)


def test_a_mean_and_a_lasso():
    y = 5 + 3 * X[:, 0] + 0.1 * np.random.default_rng(1).normal(size=100)
    prepared, rows = made(y)
    found = baselines(rows, rows, prepared)
    assert found["mean"]["rmse"] == pytest.approx(y.std())
    assert found["mean"]["r2"] == pytest.approx(0)
    score = torch.distributions.Normal(y.mean(), y.std()).log_prob(torch.from_numpy(y)).mean()
    assert found["mean"]["log_likelihood"] == pytest.approx(float(score))
    assert found["lasso"]["r2"] > 0.99


def test_shares_and_a_logistic_model():
    y = np.where(X[:, 0] > 0.5, "b", "a")
    prepared, rows = made(y)
    found = baselines(rows, rows, prepared)
    p = (y == "b").mean()
    assert found["shares"]["accuracy"] == pytest.approx(1 - p)
    assert found["shares"]["nll"] == pytest.approx(-p * np.log(p) - (1 - p) * np.log(1 - p))
    assert found["shares"]["brier"] == pytest.approx(p * (1 - p))
    assert found["logistic"]["accuracy"] > 0.9


def test_r2_is_that_of_the_predictions_also_far_from_zero():
    prepared, rows = made(1e8 + np.random.default_rng(3).normal(size=100))
    centre = rows.observed.mean()
    mean = centre + 0.5 * (rows.observed - centre)
    quantiles = torch.stack([mean - 2, mean - 1, mean + 1, mean + 2])
    running = RunningScores(prepared)
    for part in torch.arange(100).split(17):
        summary = PredictiveSummary(
            *(mean[part], None, None, torch.zeros(len(part)), None, None, 1),
            probabilities=(0.05, 0.25, 0.75, 0.95),
            quantiles=quantiles[:, part],
        )
        running.add(summary, rows.observed[part])
    assert running.result()["r2"] == pytest.approx(0.75)
