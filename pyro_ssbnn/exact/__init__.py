"""Exact answers for small networks: enumerated gates, tempered Hamiltonian Monte Carlo, and the linear closed form."""

from pyro_ssbnn.exact.convergence import effective_size, r_hat, standard_error
from pyro_ssbnn.exact.density import EnumeratedDensity
from pyro_ssbnn.exact.linear import LinearEvidence, linear_evidence
from pyro_ssbnn.exact.posterior import Estimate, ExactPosterior, ExactPredictions
from pyro_ssbnn.exact.sampler import sample_exact, sample_exact_each
from pyro_ssbnn.exact.structures import MAX_GATES, Structures
from pyro_ssbnn.exact.tempering import SamplerOptions, TemperedDraws, temper

__all__ = [
    "MAX_GATES",
    "EnumeratedDensity",
    "Estimate",
    "ExactPosterior",
    "ExactPredictions",
    "LinearEvidence",
    "SamplerOptions",
    "Structures",
    "TemperedDraws",
    "effective_size",
    "linear_evidence",
    "r_hat",
    "sample_exact",
    "sample_exact_each",
    "standard_error",
    "temper",
]
