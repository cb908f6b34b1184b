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

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.likelihoods.base import Likelihood
from pyro_ssbnn.likelihoods.bernoulli import BernoulliLikelihood
from pyro_ssbnn.likelihoods.categorical import CategoricalLikelihood
from pyro_ssbnn.likelihoods.gaussian import GaussianLikelihood
from pyro_ssbnn.likelihoods.poisson import PoissonLikelihood

__all__ = [
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "GaussianLikelihood",
    "Likelihood",
    "PoissonLikelihood",
    "likelihood_from_config",
]


def likelihood_from_config(config: Mapping[str, Any]) -> Likelihood:
    """Make a likelihood from :meth:`Likelihood.to_config`'s record.

    :raises ConfigurationError: for an unknown name or unknown options.
    """
    classes = {cls.name: cls for cls in Likelihood.__subclasses__()}
    options = dict(config)
    name = options.pop("name", None)
    if name not in classes:
        raise ConfigurationError(f"likelihood: expected one of {sorted(classes)}; got {name!r}.")
    try:
        return classes[name](**options)
    except TypeError as error:
        raise ConfigurationError(f"likelihood {name!r}: {error}") from error
