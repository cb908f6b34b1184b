"""Which rows are held out: at random, by class, or by groups that must not be torn apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_ssbnn.errors import DataError

__all__ = ["split_rows"]

Rows = NDArray[np.int64]


def split_rows(
    num_rows: int,
    test_fraction: float,
    seed: int,
    *,
    classes: NDArray[Any] | None = None,
    groups: NDArray[Any] | None = None,
) -> tuple[Rows, Rows]:
    """Shuffle rows and cut them into training and test rows.

    :param num_rows: N.
    :param test_fraction: share of the rows in the test set, strictly between 0 and 1.
    :param seed: of the shuffle, ``0..2**32 - 1``; the same seed gives the same split.
    :param classes: ``[N]``; both parts keep their shares. A class with a single row is trained on.
    :param groups: ``[N]``; all rows of a group go to the same part, whatever their classes.
    :returns: Positions of the training and of the test rows.
    :raises DataError: a fraction outside (0, 1), a part with too few rows.
    """
    if not 0.0 < test_fraction < 1.0:
        raise DataError(
            f"split: expected 0 < test_fraction < 1, got {test_fraction}; 0.1 keeps a tenth of the rows for the test."
        )
    if not 0 <= seed < 2**32:
        raise DataError(f"split: seed must lie in 0 to {2**32 - 1:,}; got {seed}.")
    # A second of import, for those who split.
    from sklearn.model_selection import GroupShuffleSplit, train_test_split

    rows = np.arange(num_rows)
    single = np.zeros(num_rows, dtype=bool)
    least, of_what = 1, "a row"
    if groups is not None:
        of_what = f"one of the {len(np.unique(groups))} groups"
    elif classes is not None:
        _, code, counts = np.unique(classes, return_inverse=True, return_counts=True)
        single = counts[code] == 1
        least = max(1, int((counts > 1).sum()))
        of_what = f"a row of each of {least} classes"
    try:
        if groups is not None:
            cut = GroupShuffleSplit(1, test_size=float(test_fraction), random_state=seed)
            return next(cut.split(rows, groups=groups))
        train, test = train_test_split(
            rows[~single],
            test_size=float(test_fraction),
            random_state=seed,
            stratify=None if classes is None else code[~single],
        )
    except ValueError as error:
        raise DataError(
            f"split: {num_rows} rows cannot be split with test_fraction={test_fraction}: training and test rows"
            f" both need {of_what}. Change the fraction, or add rows."
        ) from error
    return np.concatenate([train, rows[single]]), test
