"""Scores against small examples worked out by hand."""

import math

import numpy as np
import pytest
import torch

from pyro_ssbnn.analysis import (
    brier_score,
    expected_calibration_error,
    interval_coverage,
    log_predictive_density,
    negative_log_likelihood,
    reliability,
    rmse,
)
from pyro_ssbnn.errors import ConfigurationError, DataError

BINARY = [0.1, 0.2, 0.8, 0.9]
CLASSES = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]])


def test_reliability_of_binary_probabilities():
    found = reliability(BINARY, [0, 1, 1, 1], bins=2)
    np.testing.assert_allclose(found.confidence, [0.15, 0.85])
    np.testing.assert_allclose(found.frequency, [0.5, 1.0])
    assert found.count.tolist() == [2, 2]
    assert not found.top_label
    # (2 * |0.5 - 0.15| + 2 * |1 - 0.85|) / 4
    assert found.ece == pytest.approx(0.25)
    assert expected_calibration_error(BINARY, [0, 1, 1, 1], bins=2) == pytest.approx(0.25)


def test_reliability_of_classes_is_that_of_the_top_one():
    found = reliability(CLASSES, [0, 2, 2], bins=10)
    assert found.top_label
    np.testing.assert_allclose(found.confidence, [0.6, 0.7])  # the empty bins are left out
    np.testing.assert_allclose(found.frequency, [0.5, 1.0])
    assert found.count.tolist() == [2, 1]
    assert found.ece == pytest.approx((2 * 0.1 + 0.3) / 3)


def test_bin_edges_belong_to_the_bin_below_and_counts_match():
    found = reliability([0.0, 0.5, 0.5, 1.0], [0, 0, 1, 1], bins=2)
    assert found.count.tolist() == [3, 1]
    np.testing.assert_allclose(found.confidence, [1 / 3, 1.0])
    np.testing.assert_allclose(found.frequency, [1 / 3, 1.0])


@pytest.mark.parametrize("labels", [[0, 0], [1, 1]])
def test_reliability_with_one_class_only(labels):
    found = reliability([0.3, 0.3], labels)
    np.testing.assert_allclose(found.frequency, labels[:1])
    assert found.count.tolist() == [2]


def test_perfect_calibration_has_no_error():
    p = np.full(1000, 0.25)
    labels = np.arange(1000) % 4 == 0
    assert expected_calibration_error(p, labels.astype(int)) == pytest.approx(0, abs=1e-12)


def test_brier_score():
    assert brier_score(BINARY, [0, 1, 1, 1]) == pytest.approx((0.01 + 0.64 + 0.04 + 0.01) / 4)
    expected = (0.09 + 0.04 + 0.01 + 0.01 + 0.36 + 0.49 + 0.04 + 0.04 + 0.16) / 3
    assert brier_score(CLASSES, [0, 2, 2]) == pytest.approx(expected)
    two = np.column_stack([1 - np.array(BINARY), BINARY])
    assert brier_score(two, [0, 1, 1, 1]) == pytest.approx(2 * brier_score(BINARY, [0, 1, 1, 1]))


def test_negative_log_likelihood():
    expected = -(math.log(0.9) + math.log(0.2) + math.log(0.8) + math.log(0.9)) / 4
    assert negative_log_likelihood(BINARY, [0, 1, 1, 1]) == pytest.approx(expected)
    expected = -(math.log(0.7) + math.log(0.3) + math.log(0.6)) / 3
    assert negative_log_likelihood(CLASSES, [0, 2, 2]) == pytest.approx(expected)
    assert negative_log_likelihood(CLASSES[:1], [0]) == pytest.approx(-math.log(0.7))


def test_single_precision_tensors_are_welcome():
    p, y = torch.tensor(CLASSES).float(), torch.tensor([0, 2, 2])
    assert negative_log_likelihood(p, y) == pytest.approx(
        negative_log_likelihood(CLASSES, y), rel=1e-5
    )


def test_interval_coverage():
    samples = np.tile(np.linspace(0, 100, 101)[:, None], (1, 4))  # quantile at level p: 100 p
    table = interval_coverage(samples, [50.0, 25.0, 80.0, 99.0], levels=[0.5, 0.9])
    assert table.index.tolist() == [0.5, 0.9]
    np.testing.assert_allclose(table["coverage"], [0.5, 0.75])  # 25 lies on the limit
    np.testing.assert_allclose(table["width"], [50.0, 90.0])


def test_rmse_of_a_mean_and_of_draws():
    assert rmse([1.0, 2.0], [1.0, 4.0]) == pytest.approx(math.sqrt(2))
    assert rmse([[0.0, 1.0], [2.0, 3.0]], [1.0, 4.0]) == pytest.approx(math.sqrt(2))


def test_log_predictive_density_averages_densities_not_logs():
    density = np.array([[0.1, 0.4], [0.3, 0.2]])
    expected = (math.log(0.2) + math.log(0.3)) / 2
    assert log_predictive_density(np.log(density)) == pytest.approx(expected)
    assert log_predictive_density(torch.tensor(density).log() - 2000) == pytest.approx(
        expected - 2000
    )


@pytest.mark.parametrize(
    ("p", "labels", "message"),
    [
        ([0.2, 1.2], [0, 1], "must lie in"),
        ([0.2, math.nan], [0, 1], "must lie in"),
        ([0.2, 0.3], [0, 2], "0..1; found 0 to 2"),
        ([0.2, 0.3], [0, 0.5], "whole numbers"),
        ([0.2, 0.3], [0], "Average over the draws"),
        (np.zeros((2, 3, 3)), [0, 1, 1], "Average over the draws"),
        ([[0.2, 0.3], [0.5, 0.5]], [0, 1], "sum to 1"),
        ([], [], "must be"),
    ],
)
@pytest.mark.parametrize("score", [reliability, brier_score, negative_log_likelihood])
def test_bad_probabilities_and_labels(score, p, labels, message):
    with pytest.raises(DataError, match=message):
        score(p, labels)


def test_bad_regression_arguments():
    with pytest.raises(DataError, match="N = 3"):
        interval_coverage(np.zeros((5, 2)), [1.0, 2.0, 3.0])
    with pytest.raises(ConfigurationError, match="levels"):
        interval_coverage(np.zeros((5, 1)), [1.0], levels=[1.0])
    with pytest.raises(DataError, match=r"\[S, N\]"):
        log_predictive_density([0.1, 0.2])
    with pytest.raises(DataError, match="missing"):
        log_predictive_density([[math.nan]])
    with pytest.raises(DataError, match="N = 2"):
        rmse([1.0], [1.0, 2.0])
    with pytest.raises(DataError, match="finite"):
        rmse([1.0], [math.inf])
    with pytest.raises(ConfigurationError, match="bins"):
        reliability([0.5], [1], bins=0)
