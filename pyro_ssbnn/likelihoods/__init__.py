r"""Likelihoods: from the network's output f, ``[..., N, num_outputs]``, to the distribution of the targets.

========================= ======================================= =======================
class                     y given f                               latents
========================= ======================================= =======================
:class:`GaussianLikelihood`    Normal(f, sigma)                   ``noise.variance`` or none
:class:`CategoricalLikelihood` Categorical(softmax f)             none
:class:`BernoulliLikelihood`   Bernoulli(sigmoid f)               none
:class:`PoissonLikelihood`     Poisson(exp f)                     none
========================= ======================================= =======================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyro_ssbnn.likelihoods.base import LatentSite, Likelihood
from pyro_ssbnn.likelihoods.bernoulli import BernoulliLikelihood
from pyro_ssbnn.likelihoods.categorical import CategoricalLikelihood
from pyro_ssbnn.likelihoods.gaussian import GaussianLikelihood
from pyro_ssbnn.likelihoods.poisson import PoissonLikelihood
from pyro_ssbnn.registry import made_of

__all__ = [
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "GaussianLikelihood",
    "LatentSite",
    "Likelihood",
    "PoissonLikelihood",
    "likelihood_from_config",
]


def likelihood_from_config(config: Mapping[str, Any]) -> Likelihood:
    """Make a likelihood from :meth:`Likelihood.to_config`'s record.

    :raises ConfigurationError: for a name that is not registered, or unknown options.
    """
    likelihood: Likelihood = made_of("likelihood", config)
    return likelihood
