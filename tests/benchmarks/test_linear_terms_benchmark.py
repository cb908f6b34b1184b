"""Linear terms on small tables: the embedded cars, the simulated truths, the lasso beside them."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "linear_terms.py"


@pytest.fixture
def benchmark():
    spec = importlib.util.spec_from_file_location("linear_terms", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_cars_are_the_classic_table(benchmark):
    """Its published means; every split has all 32 cars, 25 of them for training."""
    x, y, fresh, target, _ = benchmark.cars(0)
    assert x.shape == (25, 10)
    assert fresh.shape == (7, 10)
    whole = np.column_stack([np.append(y, target), np.vstack([x, fresh])]).mean(0)
    expected = [20.09062, 6.1875, 230.72188, 146.6875, 3.59656, 3.21725, 17.84875]
    np.testing.assert_allclose(whole[:7], expected, atol=1e-5)
    assert not np.array_equal(y, benchmark.cars(1)[1])


def test_the_truths_are_those_of_their_real_predictors(benchmark):
    rng = np.random.default_rng(0)
    for name, draw in benchmark.PROBLEMS.items():
        x, y, fresh, target, real = draw(3)
        if not real:
            continue
        assert len(x) == int(name.rpartition("= ")[2]) == len(y)
        f = {"line": benchmark.line, "Friedman": benchmark.friedman, "curves": benchmark.curves}
        truth = f[name.partition(",")[0]]
        np.testing.assert_allclose(target, truth(fresh))
        other = fresh.copy()
        useless = [j for j in range(fresh.shape[1]) if j not in real]
        other[:, useless] = rng.random((len(fresh), len(useless)))
        np.testing.assert_allclose(truth(other), target)


def test_the_lasso_recovers_a_line(benchmark):
    scores = benchmark.lasso_scores(benchmark.PROBLEMS["line, n = 100"](0))
    assert scores["rmse"] < 0.6
    assert scores["selected"] - scores["false"] == 3
