"""Problems of the calibration benchmark: exact answers by two routes, and predictors as they are said to be."""

import math
import sys
from pathlib import Path

import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.exact import linear_evidence

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def problems(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "calibration_problems", raising=False)
    import calibration_problems

    return calibration_problems


@pytest.fixture
def calibration(problems):
    import calibration

    return calibration


def test_answers_of_all_sets_are_those_of_the_evidence(problems, calibration):
    x, y, _ = problems.draw_problem(0.6, 3)
    exact = linear_evidence(x, y, noise_scale=1.0, inclusion=0.15, slab_scale=0.5)
    sets, probability = problems.all_sets(x, y, 0.15)
    assert torch.equal(sets, exact.structures.table.double())
    assert torch.allclose(probability, exact.probability)
    found = calibration.answers(sets, probability, 0.15)
    inclusion = exact.inclusion()["input"]
    assert torch.allclose(torch.tensor(found["exact"]).double(), inclusion)
    odds = inclusion.log() - (1 - inclusion).log() - math.log(0.15 / 0.85)
    assert torch.allclose(torch.tensor(found["exact_log_bayes_factor"]).double(), odds)


def test_predictors_correlate_within_a_block_alone(problems):
    generator = torch.Generator().manual_seed(0)
    options = {"generator": generator, "dtype": torch.float64}
    x = problems.correlated(200_000, 2, 3, 0.6, options)
    expected = torch.block_diag(*[torch.full((3, 3), 0.6).fill_diagonal_(1)] * 2).double()
    assert torch.allclose(torch.corrcoef(x.T), expected, atol=4 / math.sqrt(200_000))


@pytest.mark.parametrize("case", ["blocks", "ss-gl"])
def test_drawn_problems_have_the_gates_of_their_prior(problems, case):
    drawn = [problems.draw_blocks(case, 0.6, seed) for seed in range(40)]
    net, x, y, _ = drawn[0]
    assert x.shape == (150, 50)
    assert y.shape == (150,)
    assert x.dtype == y.dtype == torch.float64
    assert isinstance(net, ss.MLP)
    opened = torch.stack([gates for *_, gates in drawn]).double()
    assert set(opened.unique().tolist()) == {0.0, 1.0}
    assert abs(float(opened.mean()) - 0.1) < 4 * math.sqrt(0.09 / opened.numel())
