r"""Likelihoods: from the network's output f, ``[..., N, num_outputs]``, to the distribution of the targets.

=================================== ================================================ ==============================
class                               y given f                                        latents, all ``noise.*``
=================================== ================================================ ==============================
:class:`GaussianLikelihood`         Normal(f, sigma)                                 ``variance`` or none
:class:`StudentTLikelihood`         StudentT(df, f, sigma)                           ``squared_scale``, ``excess_df``
:class:`HeteroscedasticLikelihood`  Normal(f1, exp f2)                               none
:class:`CategoricalLikelihood`      Categorical(softmax f)                           none
:class:`BernoulliLikelihood`        Bernoulli(sigmoid f)                             none
:class:`OrdinalLikelihood`          P(y <= k) = sigmoid(c_k - f)                     ``first_cut``, ``gaps``
:class:`PoissonLikelihood`          Poisson(exp f)                                   none
:class:`NegativeBinomialLikelihood` NegativeBinomial(mean exp f, dispersion)         ``dispersion``, ``zero_log_odds``
:class:`WeibullLikelihood`          Weibull(scale exp f, shape), right-censored      ``shape``
:class:`LogNormalLikelihood`        LogNormal(f, sigma), right-censored              ``variance``
=================================== ================================================ ==============================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyro_ssbnn.likelihoods.base import LatentSite, Likelihood
from pyro_ssbnn.likelihoods.bernoulli import BernoulliLikelihood
from pyro_ssbnn.likelihoods.categorical import CategoricalLikelihood
from pyro_ssbnn.likelihoods.counts import CountLikelihood
from pyro_ssbnn.likelihoods.gaussian import GaussianLikelihood
from pyro_ssbnn.likelihoods.heteroscedastic import HeteroscedasticLikelihood
from pyro_ssbnn.likelihoods.negative_binomial import NegativeBinomialLikelihood
from pyro_ssbnn.likelihoods.ordinal import OrdinalLikelihood
from pyro_ssbnn.likelihoods.poisson import PoissonLikelihood
from pyro_ssbnn.likelihoods.student_t import StudentTLikelihood
from pyro_ssbnn.likelihoods.suggestion import Suggestion, suggest_likelihood
from pyro_ssbnn.likelihoods.survival import (
    LogNormalLikelihood,
    SurvivalLikelihood,
    WeibullLikelihood,
)
from pyro_ssbnn.registry import made_of

__all__ = [
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "CountLikelihood",
    "GaussianLikelihood",
    "HeteroscedasticLikelihood",
    "LatentSite",
    "Likelihood",
    "LogNormalLikelihood",
    "NegativeBinomialLikelihood",
    "OrdinalLikelihood",
    "PoissonLikelihood",
    "StudentTLikelihood",
    "Suggestion",
    "SurvivalLikelihood",
    "WeibullLikelihood",
    "likelihood_from_config",
    "suggest_likelihood",
]


def likelihood_from_config(config: Mapping[str, Any]) -> Likelihood:
    """Make a likelihood from :meth:`Likelihood.to_config`'s record.

    :raises ConfigurationError: for a name that is not registered, or unknown options.
    """
    likelihood: Likelihood = made_of("likelihood", config)
    return likelihood
