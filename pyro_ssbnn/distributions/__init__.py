"""Gates, slabs, and the closed-form KLs that the guides' objectives stand on."""

from pyro_ssbnn.distributions import kl
from pyro_ssbnn.distributions.beta_binomial import BetaBinomialGate
from pyro_ssbnn.distributions.block_weights import BlockNormal
from pyro_ssbnn.distributions.blocks import BlockGate
from pyro_ssbnn.distributions.coupled import CoupledGate, CoupledNormal
from pyro_ssbnn.distributions.gate import Gate, RelaxedGate
from pyro_ssbnn.distributions.penalty import PenalizedLogNormal
from pyro_ssbnn.distributions.slab import GatedNormal, IsotropicNormal

__all__ = [
    "BetaBinomialGate",
    "BlockGate",
    "BlockNormal",
    "CoupledGate",
    "CoupledNormal",
    "Gate",
    "GatedNormal",
    "IsotropicNormal",
    "PenalizedLogNormal",
    "RelaxedGate",
    "kl",
]
