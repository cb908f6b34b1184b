"""Warnings of columns that can be used: what they find, and what they leave in peace."""

import numpy as np
import pandas as pd
import pytest

from pyro_ssbnn.data import Table, TableDescription
from pyro_ssbnn.data.remarks import copies, new_levels, one_hot

RNG = np.random.default_rng(0)
N = 60
TOWN = RNG.choice(["a", "b", "c"], N)
Y = RNG.normal(size=N)


def test_new_levels_are_words_that_training_never_saw():
    train = {
        "town": TOWN,
        "grade": np.arange(N) % 3 > 0,
        "size": Y,
        "gap": [*["x"] * 9, *[None] * (N - 9)],
    }
    predictors = TableDescription.fit(Table.of(train)).predictors
    assert new_levels(Table.of(train), predictors) == {}
    new = {
        "town": ["z", None, "a"],
        "grade": [0, 1, 1],
        "size": [9.0, 1, 2],
        "gap": [None, "y", "x"],
    }
    found = new_levels(Table.of(new), predictors)
    assert found == {"town": {"z"}, "grade": {"0", "1"}, "gap": {"y"}}


@pytest.mark.parametrize("target", [Y, np.arange(N) % 2, TOWN.astype(object), TOWN])
def test_a_copy_equals_the_target_in_every_row(target):
    other = target.copy()
    other[-1] = target[0] if target[0] != target[-1] else target[1]
    assert (other != target).sum() == 1
    table = Table.of({"x": RNG.normal(size=N), "copy": target, "near": other, "town": TOWN[::-1]})
    assert copies(table, table.names, target) == ["copy"]


@pytest.mark.parametrize("kind", [int, float, bool])
def test_categories_by_hand_are_found_among_other_columns(kind):
    table = pd.DataFrame({"smoker": RNG.random(N) < 0.5, "x": Y}).astype({"smoker": kind})
    coded = pd.get_dummies(pd.Series(TOWN, name="town"), prefix="town", dtype=kind)
    sizes = pd.get_dummies(pd.Series(np.arange(N) % 4), prefix="size", dtype=kind)
    whole = Table.of(pd.concat([table, coded, sizes], axis=1))
    expected = [list(coded.columns), list(sizes.columns)]
    assert one_hot(whole, whole.names) == expected
    less = Table.of(pd.concat([table, coded.iloc[:, 1:], sizes.iloc[:, 1:]], axis=1))
    assert one_hot(less, less.names) == []  # with one level as reference nothing adds up
    wrong = coded.copy()
    wrong.iloc[0] = kind(1)
    assert one_hot(Table.of(wrong), list(wrong.columns)) == []
