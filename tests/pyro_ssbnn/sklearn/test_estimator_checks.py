"""Every check that scikit-learn has for estimators."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from pyro_ssbnn.sklearn import SparseBNNClassifier, SparseBNNRegressor

pytestmark = [
    pytest.mark.slow,
    # What the checks do with their data and columns on purpose, and a network of three nodes that hardly learns.
    pytest.mark.filterwarnings("ignore:collapse:pyro_ssbnn.errors.CollapseWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:sklearn"),
    pytest.mark.filterwarnings("ignore::pyro_ssbnn.errors.DataWarning"),
]

QUICK = {
    "hidden": (3,),
    "epochs": 40,
    "num_draws": 5,
    "options": {"compile": False, "num_particles": 1, "batch_size": 10**6, "mean_rate": 0.3},
}


def expected_failures(estimator):
    """Weights count exactly in the bound (test_estimators), but runs of other rows draw other random numbers."""
    why = "stochastic optimisation: other rows, other random numbers"
    return {
        "check_sample_weight_equivalence_on_dense_data": why,
        "check_sample_weight_equivalence_on_sparse_data": why,
    }


@parametrize_with_checks(
    [SparseBNNRegressor(**QUICK), SparseBNNClassifier(**QUICK)],
    expected_failed_checks=expected_failures,
)
def test_scikit_learn_check(estimator, check):
    check(estimator)
