"""Hand-written guides: one module per scale hierarchy, put together by :class:`StructuredGuide`."""

from pyro_ssbnn.guides.block import BlockGuide, has_block_law
from pyro_ssbnn.guides.coupled import CoupledGuide
from pyro_ssbnn.guides.gaussian import GaussianGuide
from pyro_ssbnn.guides.group_horseshoe import GroupHorseshoeGuide
from pyro_ssbnn.guides.group_lasso import GroupLassoGuide
from pyro_ssbnn.guides.likelihood import likelihood_guide
from pyro_ssbnn.guides.mixture import MixtureGuide, named_groups
from pyro_ssbnn.guides.moments import CLOSED_LOGIT, OPEN_LOGIT
from pyro_ssbnn.guides.published import PublishedGuide
from pyro_ssbnn.guides.scales import ScaleGuide, scale_guide
from pyro_ssbnn.guides.structured import StructuredGuide

__all__ = [
    "CLOSED_LOGIT",
    "OPEN_LOGIT",
    "BlockGuide",
    "CoupledGuide",
    "GaussianGuide",
    "GroupHorseshoeGuide",
    "GroupLassoGuide",
    "MixtureGuide",
    "PublishedGuide",
    "ScaleGuide",
    "StructuredGuide",
    "has_block_law",
    "likelihood_guide",
    "named_groups",
    "scale_guide",
]
