"""Scores of classifiers against small examples worked out by hand."""

import math

import numpy as np
import pytest
import torch

from pyro_ssbnn.analysis import accuracy, classification_scores, ood_auroc
from pyro_ssbnn.errors import DataError

CLASSES = torch.tensor([[0.75, 0.15, 0.1], [0.1, 0.65, 0.25], [0.2, 0.15, 0.65]])
LABELS = torch.tensor([0, 2, 2])


def test_scores_of_three_rows():
    scores = classification_scores(CLASSES, LABELS)
    assert scores.keys() == {"accuracy", "nll", "ece", "brier"}
    assert scores["accuracy"] == pytest.approx(2 / 3)
    assert scores["nll"] == pytest.approx(-math.log(0.75 * 0.25 * 0.65) / 3, rel=1e-6)
    # 0.75 is alone in its bin and right; both 0.65 share one, half of them right
    assert scores["ece"] == pytest.approx((0.25 + 2 * 0.15) / 3, rel=1e-6)
    squares = (0.0625 + 0.0225 + 0.01) + (0.01 + 0.4225 + 0.5625) + (0.04 + 0.0225 + 0.1225)
    assert scores["brier"] == pytest.approx(squares / 3, rel=1e-6)


def test_one_bin_compares_mean_confidence_with_accuracy():
    one = classification_scores(CLASSES, LABELS, bins=1)["ece"]
    assert one == pytest.approx(abs((0.75 + 0.65 + 0.65) / 3 - 2 / 3), rel=1e-6)


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
