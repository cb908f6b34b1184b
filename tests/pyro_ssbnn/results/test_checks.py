"""What scores and table add to the checks of a fit: told by size, and apart from chance."""

import math

import numpy as np
import pytest

from pyro_ssbnn.analysis import Check, Report
from pyro_ssbnn.data import Preprocessing, Table, digits
from pyro_ssbnn.results.checks import with_data_checks

OWN = Report((Check("convergence", "ok", "It has."),))
N = 40
WHOLE = {"a": np.arange(N) % 7.0, "b": np.arange(N) % 3.0, "y": np.arange(N) ** 1.5}


def prepared(**columns):
    return Preprocessing.fit(Table.of({**WHOLE, **columns}), "y", "regression")


def verdict(own, lasso, number, rows="test"):
    metrics = {"full": {"r2": own}, "number_of_rows": number, "rows": rows}
    metrics["baselines"] = {"mean": {"r2": -0.1}, "lasso": {"r2": lasso}}
    report = with_data_checks(OWN, prepared(), metrics)
    assert report.checks[:1] == OWN.checks
    return report["simpler models"]


def test_a_lasso_warns_from_the_scale_ratio_and_three_standard_errors_on():
    """The logarithm of the ratio of two errors' scales has a standard error of 1 / sqrt(N) at most."""
    double = 1 - 0.4 / 4  # an error half as large
    found = verdict(0.6, double, 100)
    assert found.verdict == "warning"
    assert (
        "the 100 test rows better: a lasso has an R^2 of 0.900, the network 0.600." in found.finding
    )
    enough = (3 / math.log(2)) ** 2  # rows
    assert verdict(0.6, double, math.ceil(enough)).verdict == "warning"
    few = verdict(0.6, double, math.floor(enough))
    assert few.verdict == "note"
    assert few.finding.endswith("With so few rows that may be chance.")
    assert verdict(0.6, double, 100, "training").verdict == "note"
    assert verdict(0.6, 1 - 0.4 / 1.3**2, 10**6).verdict == "note"  # less than 0.1 nats
    assert verdict(0.6, 0.6, 10**6).verdict == "ok"
    assert verdict(-0.5, -0.2, 10**6).finding.count("the mean has an R^2 of -0.100") == 1


@pytest.mark.parametrize(
    ("accuracy", "nll", "number", "own", "expected"),
    [
        (0.9, 0.3, 400, 0.6, "warning"),
        (0.9, 0.3, 40, 0.6, "note"),  # 0.1 apart, 3 standard errors are 0.21
        (0.9, 0.55, 400, 0.6, "note"),
        (0.8, 0.3, 400, 0.6, "ok"),
        (0.9, 0.3, 400, None, "warning"),  # not finite
        (0.9, 0.0, 400, 0.05, "note"),
    ],
)
def test_classes_are_told_by_accuracy_and_nats(accuracy, nll, number, own, expected):
    metrics = {"full": {"accuracy": 0.8, "nll": own}, "number_of_rows": number, "rows": "test"}
    metrics["baselines"] = {"logistic": {"accuracy": accuracy, "nll": nll}}
    assert with_data_checks(OWN, prepared(), metrics)["simpler models"].verdict == expected


def test_columns_with_missing_values_are_named():
    gaps = np.where(np.arange(N) % 5, WHOLE["b"], np.nan)
    (check,) = with_data_checks(OWN, prepared(b=gaps), None).checks[1:]
    assert (check.name, check.verdict, check.values) == (
        "missing values",
        "note",
        {"columns": ["b"]},
    )
    assert with_data_checks(OWN, prepared(), None) == OWN
    assert with_data_checks(OWN, Preprocessing.fit(digits()), None) == OWN
