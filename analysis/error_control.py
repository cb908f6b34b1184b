"""Selection with error control as a table: what a false discovery rate keeps, and how sure the size is."""

from __future__ import annotations

import pandas as pd
import torch

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.selection.error_control import (
    expected_false_omissions,
    expected_false_selections,
    model_size,
    select_fdr,
)
from pyro_ssbnn.structure.guide import Guide

__all__ = ["error_control_summary"]


def error_control_summary(
    guide: Guide, level: float = 0.1, probability: float = 0.9
) -> pd.DataFrame:
    r"""One row a gated group, predictors (``input``) first where they are gated; each group is a family of its own.

    Columns: ``nodes``; ``selected``, the number that :func:`~pyro_ssbnn.select_fdr` keeps; ``expected_false`` and
    ``expected_missed``, posterior expected numbers of false ones among the kept and of true ones among the dropped;
    ``size_mode``, ``size_low``, ``size_high``, most probable number of open gates and the equal-tailed interval of that
    posterior probability, :math:`\min\{k : P(K \le k) \ge a\}` for a = (1 - probability)/2 and (1 + probability)/2.

    :param level: largest Bayesian false discovery rate, in [0, 1).
    :param probability: of the interval, in (0, 1).
    :raises ConfigurationError: for a level or a probability outside its domain.
    """
    if not 0 < probability < 1:
        raise ConfigurationError(
            f"error_control_summary: probability must lie strictly between 0 and 1; got {probability}."
        )
    inclusion = guide.inclusion()
    selection = select_fdr(inclusion, level=level)
    false = expected_false_selections(inclusion, selection)
    missed = expected_false_omissions(inclusion, selection)
    tails = torch.tensor([(1 - probability) / 2, (1 + probability) / 2], dtype=torch.float64)
    rows = {}
    for name, mass in model_size(inclusion).items():
        low, high = torch.searchsorted(mass.cumsum(0), tails).clamp_max(len(mass) - 1).tolist()
        rows[name] = {
            "nodes": selection.sizes[name],
            "selected": selection.counts[name],
            "expected_false": false[name],
            "expected_missed": missed[name],
            "size_mode": int(mass.argmax()),
            "size_low": low,
            "size_high": high,
        }
    columns = ["nodes", "selected", "expected_false", "expected_missed"]
    columns += ["size_mode", "size_low", "size_high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("group")
