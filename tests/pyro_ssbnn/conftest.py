"""What the tests of several rooms share."""

import pytest


@pytest.fixture(scope="session")
def quick():
    """Parameters of an estimator that is fitted in a moment."""
    options = {"compile": False, "num_particles": 1, "batch_size": 40, "mean_rate": 0.2}
    return {"hidden": (4,), "epochs": 20, "num_draws": 20, "options": options}
