r"""Guides of several fits of one network as one law.

.. math:: q(\theta) = \sum_k w_k\, q_k(\theta),\qquad
          q(z_i = 1) = \sum_k w_k\, q_k(z_i = 1)\ \text{for a predictor } i.

Nodes of a hidden layer are exchangeable: node 3 of one member is not node 3 of the next, and an average over both would
be a number about nothing. So inclusion is averaged for what has a name, predictors and their linear terms; of a layer
the members' *numbers* of active nodes can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from pyro_ssbnn.checks import check_that, is_number
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.gates import GateGroup
from pyro_ssbnn.structure.groups import NodeGroup
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.match import require_match
from pyro_ssbnn.structure.network import Network

__all__ = ["MixtureGuide", "named_groups"]

_ROUNDING = 1e-6  # of a sum of weights


class _MemberError(ConfigurationError, AttributeError):
    """A question that only a member can answer; what looks for an attribute finds none."""


class MixtureGuide(nn.Module):
    """Guides of one network, weighted: the guide of a :class:`~pyro_ssbnn.Mixture`, to draw from and to predict with.

    ``predict``, ``draw_posterior``, ``to_arviz``, effects, ``inclusion_summary`` and ``layer_summary`` take it with any
    of the members' networks. It is not trained, and knows nothing of single nodes: a member does.

    :param models: the members' networks, alike but for running statistics.
    :param guides: their guides.
    :param weights: of the members, not negative, with sum 1.
    :raises ConfigurationError: for members of different networks, and for weights of another number or sum.
    """

    def __init__(
        self, models: Sequence[Network], guides: Sequence[Guide], weights: Sequence[float]
    ) -> None:
        super().__init__()
        check_weights("MixtureGuide", weights, len(guides))
        expected = f"{len(guides)} networks, one a guide"
        check_that("MixtureGuide", "models", models, len(models) == len(guides), expected)
        for model, guide in zip(models, guides, strict=True):
            require_match("MixtureGuide", models[0], guide)
            require_match("MixtureGuide", model, guide)
        self.models = nn.ModuleList(cast(Sequence[nn.Module], models))
        self.guides = nn.ModuleList(cast(Sequence[nn.Module], guides))
        self.weights = tuple(float(weight) for weight in weights)
        self.description: NetworkDescription = guides[0].description
        self.likelihood = models[0].likelihood
        self.activation = getattr(models[0], "activation", None)

    @property
    def members(self) -> list[tuple[Network, Guide, float]]:
        """Network, guide and weight of each member."""
        pairs = zip(self.models, self.guides, self.weights, strict=True)
        return [(cast(Network, m), cast(Guide, g), w) for m, g, w in pairs]

    def inclusion(self) -> dict[str, Tensor]:
        """Inclusion probabilities of predictors and linear terms, ``{group: [size]}``: exact, averaged by weight."""
        return {
            group.name: torch.stack(
                [w * g.inclusion()[group.name] for _, g, w in self.members]
            ).sum(0)
            for group in named_groups(self.description)
        }

    def forward(self, *args: object, **kwargs: object) -> None:
        """Refuse to be trained or run as a program."""
        raise ConfigurationError(
            "MixtureGuide: a mixture of guides is not trained; train its members, and draw from it by draw_posterior."
        )

    def __getattr__(self, name: str) -> Any:
        if name in Guide.__annotations__ or (hasattr(Guide, name) and not name.startswith("__")):
            raise _MemberError(
                f"MixtureGuide: it has no {name}, because it is not trained, and nodes of different fits do not"
                f" correspond. Ask one of the fits: mixture.fits[k].guide.{name}."
            )
        return super().__getattr__(name)

    def __repr__(self) -> str:
        weights = ", ".join(f"{weight:.3f}" for weight in self.weights)
        return f"MixtureGuide of {len(self.weights)} members, weights {weights}"


def named_groups(description: NetworkDescription) -> list[GateGroup | NodeGroup]:
    """Gated groups whose members have names, and so are the same in every fit: predictors and linear terms."""
    named = (description.inputs, description.linear)
    return [group for group in description.gate_groups if any(group is one for one in named)]


def check_weights(owner: str, weights: Sequence[float], number: int) -> None:
    """Raise :class:`ConfigurationError` unless these are the weights of so many members."""
    listed = len(weights) == number and all(is_number(w) and w >= 0 for w in weights)
    expected = f"{number} numbers, one a member, not negative, with sum 1"
    check_that(owner, "weights", tuple(weights), listed and number > 0, expected)
    check_that(owner, "weights", tuple(weights), abs(sum(weights) - 1) < _ROUNDING, expected)
