r"""What exact sampling gives: draws of the continuous latents, and the exact posterior of the structure at each.

Given a draw of :math:`\theta` the posterior of the gates is a finite table, :math:`p(z | \theta, y)`. Its average over
the draws is the Rao-Blackwellised posterior of the structure: every figure here that concerns gates is such an average,
not a count of sampled gates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pyro_ssbnn.checks import check_rows
from pyro_ssbnn.exact.convergence import standard_error
from pyro_ssbnn.exact.structures import Structures
from pyro_ssbnn.isolation import isolated
from pyro_ssbnn.posterior.networks import outputs, predictions
from pyro_ssbnn.structure.network import Network

__all__ = ["Estimate", "ExactPosterior", "ExactPredictions"]


class Estimate(NamedTuple):
    """A Monte-Carlo average and its standard error, of one shape."""

    mean: Tensor
    error: Tensor


@dataclass(frozen=True)
class ExactPredictions:
    """Predictions of every draw, with the gates sampled; C chains, D draws.

    :param mean: expected y given the draw, ``[C, D, N]``, or ``[C, D, N, K]`` for classes or several targets.
    :param predictive: draws of y, ``[C, D, N]`` (``[C, D, N, K]`` for several targets).
    :param log_likelihood: log p(y | draw) of each row, ``[C, D, N]``; None without y.
    """

    mean: Tensor
    predictive: Tensor
    log_likelihood: Tensor | None


@dataclass(frozen=True)
class ExactPosterior:
    """Draws from the exact posterior of a small network; C chains of D draws, float64.

    :param model: the network.
    :param x: predictors it was conditioned on, ``[N, p]``.
    :param y: targets, ``[N]`` (``[N, K]``).
    :param structures: all structures, with names for their gates.
    :param latents: continuous latents by site name, ``[C, D, ...]``.
    :param structure_probability: :math:`p(z | \theta, y)` of each draw, ``[C, D, 2^K]``, float32 to spare memory.
    :param structure: index of one structure drawn from it, ``[C, D]``.
    :param log_joint: log p(theta, y), gates summed out, ``[C, D]``.
    :param log_likelihood: log p(y | theta, z) of the drawn structure, ``[C, D]``.
    :param log_evidence: estimates of log p(y), one a chain, ``[C]``; NaN without tempering.
    :param acceptance: mean acceptance probability of the posterior's trajectories.
    :param ladder: temperatures, ``[T]``.
    :param swap_acceptance: acceptance of swaps between neighbours on the ladder, ``[T - 1]``.

    .. warning:: Nodes of a layer are exchangeable: their exact inclusion probabilities are equal, the mean of
       :meth:`model_size` over the width, and chains that have not visited all relabellings show otherwise. Read the
       number of open nodes, predictors and predictions;
       :func:`pyro_ssbnn.analysis.exact_data.exact_summary` gives R-hat of these.
    """

    model: Network
    x: Tensor
    y: Tensor
    structures: Structures
    latents: dict[str, Tensor]
    structure_probability: Tensor
    structure: Tensor
    log_joint: Tensor
    log_likelihood: Tensor
    log_evidence: Tensor
    acceptance: float
    ladder: Tensor
    swap_acceptance: Tensor

    @property
    def gates(self) -> dict[str, Tensor]:
        """Sampled gates by site name, ``[C, D, size]``."""
        return self.structures.gates(self.structure)

    def gate_probability(self, name: str) -> Tensor:
        """Probability of each open gate of a group given the draw's theta, ``[C, D, size]``.

        :raises ConfigurationError: when no gated group has that name.
        """
        table = self.structures.table[:, self.structures.columns(name)]
        return self._averaged(table)

    def size_probability(self, name: str) -> Tensor:
        """Probabilities of 0, 1, ..., size open gates of a group given the draw's theta, ``[C, D, size + 1]``."""
        columns = self.structures.columns(name)
        return self._averaged(
            one_hot(self.structures.sizes(name), columns.stop - columns.start + 1).double()
        )

    def inclusion(self) -> dict[str, Tensor]:
        """Posterior inclusion probabilities of every gated group, ``{group: [size]}``, as ``select`` takes them."""
        names = [group.name for group in self.structures.groups]
        return {name: self.gate_probability(name).mean((0, 1)) for name in names}

    def inclusion_error(self) -> dict[str, Tensor]:
        """Monte-Carlo standard errors of :meth:`inclusion`."""
        names = [group.name for group in self.structures.groups]
        return {name: estimate(self.gate_probability(name)).error for name in names}

    def model_size(self, name: str) -> Estimate:
        """Posterior distribution of a group's number of open gates, ``[size + 1]``."""
        return estimate(self.size_probability(name))

    def structure_probabilities(self) -> Estimate:
        """Posterior probabilities of all structures, ``[2^K]``."""
        return estimate(self.structure_probability)

    def predict(self, x: Tensor, y: Tensor | None = None, *, seed: int = 0) -> ExactPredictions:
        """Predict at new rows by every draw with its sampled gates.

        :param x: predictors ``[N, p]``.
        :param y: targets there, for their log-likelihood.
        :param seed: of the predictive draws; the caller's random state is left untouched.
        :raises DataError: for x or y of the wrong shape, or with missing or infinite values.
        """
        description = self.model.description
        check_rows("ExactPosterior.predict", x, y, description.inputs.column_names)
        flat = {k: v.flatten(0, 1) for k, v in {**self.latents, **self.gates}.items()}
        # Sites outside every node plate carry a dimension of 1 in its place.
        values = {
            k: v if k.rpartition(".")[0] in description.paths else v.unsqueeze(1)
            for k, v in flat.items()
        }
        with torch.no_grad():
            f = outputs(self.model, values, x.detach())
        with isolated(seed, f):
            found = predictions(self.model, values, f, y)
        shape = self.structure.shape
        return ExactPredictions(
            **{"log_likelihood": None, **{k: v.unflatten(0, shape) for k, v in found.items()}}
        )

    def _averaged(self, table: Tensor) -> Tensor:
        """Expectation of a table ``[2^K, k]`` over each draw's structures, chain by chain to spare memory."""
        return torch.stack([chain.double() @ table for chain in self.structure_probability])


def estimate(draws: Tensor) -> Estimate:
    """Average of draws ``[C, D, ...]`` over chains and draws, with its Monte-Carlo standard error."""
    return Estimate(draws.double().mean((0, 1)), torch.as_tensor(standard_error(draws)))
