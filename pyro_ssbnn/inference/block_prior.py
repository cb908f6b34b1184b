r"""What the prior says of a block's gates while the other blocks are what they are.

The optimum of a block takes :math:`E_{q(z_{-B})}[\log p(z_B, z_{-B})]`. Of a fixed inclusion probability, or one for
each predictor, that is :math:`\sum_{j \in B} z_j\,\mathrm{logit}\,\lambda_j` up to a constant. Under a Beta prior it
depends on the number of open gates in the block, and on the law of the number in all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from pyro_ssbnn.distributions.beta_binomial import BetaBinomialGate, count_law, given_the_others
from pyro_ssbnn.structure.groups import InputGroup

__all__ = ["BlockPrior"]


class BlockPrior:
    """Log prior of the sets of every block, given the laws of the others.

    :param inputs: the predictors.
    :param members: those of each block.
    :param inclusion: probabilities to start from, ``[p]``, float64.
    """

    def __init__(
        self, inputs: InputGroup, members: Sequence[Sequence[int]], inclusion: Tensor
    ) -> None:
        self.members, self.logits = members, inputs.prior_logit.to(inclusion)
        prior = inputs.prior_gates(inclusion)
        self.log_mass = prior.counts() if isinstance(prior, BetaBinomialGate) else None
        if self.log_mass is None:
            return
        pairs = torch.stack([1 - inclusion, inclusion], -1)
        most = max(len(block) for block in members)
        self.laws = inclusion.new_zeros(len(members), most + 1)
        for law, block in zip(self.laws, members, strict=True):
            law[: len(block) + 1] = count_law(pairs[list(block)])

    def twin(self) -> BlockPrior:
        """The same, to go its own way."""
        other = copy(self)
        if self.log_mass is not None:
            other.laws = self.laws.clone()
        return other

    def renew(self) -> None:
        """Take the other blocks' laws for what they have become; those of one turn see the same."""
        if self.log_mass is not None:
            self.of_count = given_the_others(self.laws, self.log_mass)

    def of_sets(self, index: int, table: Tensor) -> Tensor:
        """Expected log prior of all sets of a block, ``[2^k]``, up to a constant."""
        if self.log_mass is None:
            return table @ self.logits[list(self.members[index])]
        return self.of_count[index, table.sum(-1).long()]

    def added(self, index: int, others: int) -> Tensor:
        """What each predictor of a block adds to that of a set of so many others of it, ``[k]``."""
        if self.log_mass is None:
            return self.logits[list(self.members[index])]
        of_count = self.of_count[index]
        most = len(self.members[index]) - 1
        gain = of_count[min(others, most) + 1] - of_count[min(others, most)]
        return gain.expand(most + 1)

    def take(self, index: int, log_mass: Tensor, table: Tensor) -> None:
        """Note what the law of a block has become, ``[2^k]``."""
        if self.log_mass is not None:
            law = torch.zeros_like(self.laws[index])
            self.laws[index] = law.index_add(0, table.sum(-1).long(), log_mass.exp())
