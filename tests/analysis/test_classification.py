"""Scores of classifiers against small examples worked out by hand."""

import math

import numpy as np
import pytest
import torch

from pyro_ssbnn.analysis import accuracy, classification_scores, ood_auroc
from pyro_ssbnn.errors import DataError

CLASSES = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.2, 0.6]])
LABELS = torch.tensor([0, 2, 2])


def test_scores_of_three_rows():
    scores = classification_scores(CLASSES, LABELS)
    assert scores.keys() == {"accuracy", "nll", "ece", "brier"}
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["nll"] == pytest.approx(-math.log(0.7 * 0.3 * 0.6) / 3, rel=1e-6)
    # 0.7 is alone in its bin and right; both 0.6 share one, half of them right
    assert scores["ece"] == pytest.approx((0.3 + 2 * 0.1) / 3, rel=1e-6)
    squares = (0.09 + 0.04 + 0.01) + (0.01 + 0.36 + 0.49) + (0.04 + 0.04 + 0.16)
    assert scores["brier"] == pytest.approx(squares / 3, rel=1e-6)


def test_one_bin_compares_mean_confidence_with_accuracy():
    one = classification_scores(CLASSES, LABELS, bins=1)["ece"]
    assert one == pytest.approx(abs((0.7 + 0.6 + 0.6) / 3 - 2 / 3), rel=1e-6)


def test_two_classes_by_the_probability_of_the_second():
    assert accuracy([0.2, 0.7, 0.5], [0, 1, 1]) == pytest.approx(2 / 3)
    columns = np.array([[0.8, 0.2], [0.3, 0.7]])
    assert accuracy(columns, [0, 1]) == accuracy(columns[:, 1], [0, 1]) == 1.0


def test_auroc_is_the_share_of_ordered_pairs():
    inside, outside = [0.1, 0.2, 0.5], [0.4, 0.5]
    # pairs won: 0.4 over two of three; 0.5 over two, and one tie counted half
    assert ood_auroc(inside, outside) == pytest.approx((2 + 2.5) / 6)
    assert ood_auroc([0.0, 0.1], [0.2, 0.3]) == 1.0
    assert ood_auroc([1.0, 1.0], [1.0]) == 0.5


@pytest.mark.parametrize("bad", [[], [[0.1]], [float("nan")]])
def test_auroc_refuses_what_is_no_sample(bad):
    with pytest.raises(DataError, match="ood_auroc"):
        ood_auroc([0.1], bad)
