"""Guide of a likelihood's own latents."""

from __future__ import annotations

import math
from functools import singledispatch
from typing import Any

import pyro
import torch
from pyro.distributions import LogNormal, Normal
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.distributions import constraints

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.isolation import seeded
from pyro_ssbnn.likelihoods import LatentSite, Likelihood

__all__ = ["LatentGuide", "LatentsGuide", "likelihood_guide"]

_PRIOR_DRAWS = 1001
_INITIAL_SCALE = 0.1


class LatentGuide(PyroModule):
    """LogNormal guide of a positive latent, Normal guide of a real one.

    Parameters: ``loc``, median of the latent (of its logarithm, where it is positive), and ``log_scale``.

    :raises ConfigurationError: for another support.
    """

    def __init__(self, name: str, site: LatentSite) -> None:
        super().__init__()
        self.name, self.event_dim, self.sampled_kl = name, site.prior.event_dim, site.sampled_kl
        self.family = _family(name, site.prior.support)
        start = _initial(site)
        self.loc = nn.Parameter(start.log() if self.family is LogNormal else start)
        self.log_scale = nn.Parameter(torch.full_like(start, math.log(_INITIAL_SCALE)))

    def forward(self, prefix: str = "") -> Tensor:
        """Sample the site."""
        law = self.family(self.loc, self.log_scale.exp()).to_event(self.event_dim)
        infer: Any = {"kl": "sampled"} if self.sampled_kl else {}
        return pyro.sample(f"{prefix}{self.name}", law, infer=infer)


class LatentsGuide(PyroModule):
    """Independent guides of a likelihood's latents, in the order in which the likelihood samples them.

    A latent ``noise.variance`` has its parameters in the module ``variance``, one called ``other.name`` in
    ``other_name``.
    """

    def __init__(self, likelihood: Likelihood) -> None:
        super().__init__()
        for name, site in likelihood.latent_sites(torch.zeros(())).items():
            module = name.removeprefix("noise.").replace(".", "_")
            self.add_module(module, LatentGuide(name, site))

    def forward(self, prefix: str = "") -> None:
        """Sample the latents.

        :param prefix: what the site names begin with in this network.
        """
        for latent in self.children():
            latent(prefix)


@singledispatch
def likelihood_guide(likelihood: Likelihood) -> PyroModule | None:
    """Guide of the likelihood's latents, called with the prefix of the site names; None when it has none.

    By default :class:`LatentsGuide`. Register a :class:`~pyro.nn.PyroModule` of your own for your likelihood with
    ``@likelihood_guide.register``.
    """
    return LatentsGuide(likelihood) if likelihood.latent_names else None


def _family(name: str, support: Any) -> type[Normal] | type[LogNormal]:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if support is constraints.real:
        return Normal
    lower = getattr(support, "lower_bound", None)
    if lower == 0 and getattr(support, "upper_bound", None) is None:
        return LogNormal
    raise ConfigurationError(
        f"likelihood_guide: the latent {name!r} has the support {support}; there are guides for positive and for real"
        " latents. Register one of your own with @likelihood_guide.register, or transform the latent."
    )


def _initial(site: LatentSite) -> Tensor:
    """Value at which the guide's median starts, shape of the event."""
    shape = site.prior.event_shape
    if site.initial is not None:
        return torch.as_tensor(site.initial, dtype=torch.get_default_dtype()).expand(shape).clone()
    with seeded(0, torch.device("cpu")):
        return site.prior.sample(torch.Size([_PRIOR_DRAWS])).median(0).values
