import pytest

from pyro_ssbnn.data.wording import check_different, column, did_you_mean, listed, ordinal
from pyro_ssbnn.errors import DataError


@pytest.mark.parametrize(
    ("position", "word"),
    [
        (1, "1st"),
        (2, "2nd"),
        (3, "3rd"),
        (4, "4th"),
        (11, "11th"),
        (13, "13th"),
        (22, "22nd"),
        (111, "111th"),
        (121, "121st"),
    ],
)
def test_ordinals(position, word):
    assert ordinal(position) == word


def test_lists_are_cut_and_strings_quoted():
    assert listed(["a", 2]) == "'a', 2"
    assert listed(range(5), most=2) == "0, 1 and 3 more"


def test_columns_repetitions_and_near_misses():
    assert column(("a", "age"), 1) == "column 'age' (2nd of 2)"
    check_different("table", ["a", "b"])
    with pytest.raises(DataError, match="table: expected different names, but 'a', 'b' occur"):
        check_different("table", ["a", "b", "a", "a", "b"])
    assert did_you_mean("Pirce", ["price", "size"]) == " Did you mean 'price'?"
    assert did_you_mean("zzz", ["price"]) == ""
