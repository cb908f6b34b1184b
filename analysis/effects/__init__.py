"""What predictors do to the target: effects of one, interactions of two, with their posterior."""

from pyro_ssbnn.analysis.effects.dependence import accumulated_effects, partial_dependence
from pyro_ssbnn.analysis.effects.effect import Effect
from pyro_ssbnn.analysis.effects.interactions import interactions

__all__ = ["Effect", "accumulated_effects", "interactions", "partial_dependence"]
