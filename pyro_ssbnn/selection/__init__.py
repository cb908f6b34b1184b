"""Which nodes and predictors are kept, at which error, and the network that is left when the others are cut."""

from pyro_ssbnn.selection.error_control import (
    expected_false_omissions,
    expected_false_selections,
    model_size,
    select_fdr,
)
from pyro_ssbnn.selection.joint import CredibleSet, credible_sets, set_inclusion
from pyro_ssbnn.selection.predictor_law import PredictorLaw
from pyro_ssbnn.selection.pruning import Pruning, prune
from pyro_ssbnn.selection.rules import Selection, select

__all__ = [
    "CredibleSet",
    "PredictorLaw",
    "Pruning",
    "Selection",
    "credible_sets",
    "expected_false_omissions",
    "expected_false_selections",
    "model_size",
    "prune",
    "select",
    "select_fdr",
    "set_inclusion",
]
