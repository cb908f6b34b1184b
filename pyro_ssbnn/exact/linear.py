r"""The linear Gaussian network in closed form: the evidence of every set of predictors.

For ``MLP(p, [], prior=..., likelihood=GaussianLikelihood(scale), input_inclusion=...)`` the posterior of the structure
is known. With :math:`X_z` the open predictors' columns and a column of ones (the bias is always in and has the slab of
the other weights, a standard deviation :math:`\sigma_0`), N rows and noise :math:`\sigma`,

.. math:: y \mid z \sim N(0, \sigma^2 I + \sigma_0^2 X_z X_z^\top),\qquad p(z | y) \propto p(z)\, p(y | z),

and by the matrix determinant lemma and Woodbury's identity, with :math:`M = I + (\sigma_0/\sigma)^2 X_z^\top X_z`,

.. math:: \log p(y | z) = -\tfrac{N}{2}\log(2\pi\sigma^2) - \tfrac12\log|M|
          - \tfrac{1}{2\sigma^2}\big(y^\top y - (\sigma_0/\sigma)^2\, y^\top X_z M^{-1} X_z^\top y\big).

Source: the conjugate Normal linear model, as in George and McCulloch (1997, Statistica Sinica 7, 339-373).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_ssbnn.checks import check_positive, check_probability, check_that
from pyro_ssbnn.errors import DataError
from pyro_ssbnn.exact.structures import Structures
from pyro_ssbnn.priors import BetaInclusion
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.groups import InputGroup

__all__ = ["LinearEvidence", "linear_evidence"]


@dataclass(frozen=True)
class LinearEvidence:
    """Evidence and posterior of all 2^p sets of predictors.

    :param structures: the sets, in the order of :class:`~pyro_ssbnn.exact.Structures`.
    :param log_evidence: log p(y | z), ``[2^p]``, float64.
    :param probability: p(z | y), ``[2^p]``.
    :param log_marginal: log p(y), a number.
    """

    structures: Structures
    log_evidence: Tensor
    probability: Tensor
    log_marginal: float

    def inclusion(self) -> dict[str, Tensor]:
        """Posterior inclusion probability of each predictor, ``{"input": [p]}``."""
        return {"input": self.probability @ self.structures.table}


def linear_evidence(
    x: Tensor,
    y: Tensor,
    *,
    noise_scale: float,
    inclusion: float | Sequence[float] | BetaInclusion,
    slab_scale: float = 1.0,
) -> LinearEvidence:
    """Evidence of every set of predictors in the linear Gaussian network.

    :param x: predictors ``[N, p]``, p at most 12.
    :param y: targets ``[N]``.
    :param noise_scale: known standard deviation of the noise.
    :param inclusion: prior inclusion probability of each predictor: one number, one for each, or a Beta prior.
    :param slab_scale: standard deviation of every weight and of the bias.
    :raises ConfigurationError: for more predictors, or values outside their domain.
    :raises DataError: for shapes that do not match.
    """
    check_positive("linear_evidence", noise_scale=noise_scale, slab_scale=slab_scale)
    if x.ndim != 2 or y.shape != x.shape[:1]:
        raise DataError(
            f"linear_evidence: x must be [N, p] and y [N]; got {list(x.shape)} and {list(y.shape)}."
        )
    if isinstance(inclusion, Sequence):
        inclusion = tuple(inclusion)
        holds = len(inclusion) == x.shape[1]
        check_that("linear_evidence", "inclusion", inclusion, holds, "one number a predictor")
    for probability in inclusion if isinstance(inclusion, tuple) else [inclusion]:
        if not isinstance(probability, BetaInclusion):
            check_probability("linear_evidence", probability)
    names = tuple(f"x{i + 1}" for i in range(x.shape[1]))
    group = InputGroup("input", x.shape[1], inclusion, names)
    structures = Structures.of(NetworkDescription(group, ()))
    x, y = x.detach().cpu().double(), y.detach().cpu().double()
    design = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    mask = torch.cat([structures.table, torch.ones(len(structures), 1)], 1).double()
    ratio = (slab_scale / noise_scale) ** 2
    # Closed predictors leave rows of the identity in M: all structures share one shape.
    gram = torch.eye(design.shape[1], dtype=torch.float64) + ratio * (
        mask.unsqueeze(-1) * (design.T @ design) * mask.unsqueeze(-2)
    )
    root = torch.linalg.cholesky(gram)
    projected = (mask * (design.T @ y)).unsqueeze(-1)
    explained = torch.linalg.solve_triangular(root, projected, upper=False).square().sum((-1, -2))
    log_det = 2 * root.diagonal(dim1=-1, dim2=-2).log().sum(-1)
    quadratic = (y @ y - ratio * explained) / noise_scale**2
    constant = len(y) * math.log(2 * math.pi * noise_scale**2)
    log_evidence = -0.5 * (constant + log_det + quadratic)
    joint = log_evidence + structures.log_prior()
    return LinearEvidence(structures, log_evidence, joint.softmax(0), float(joint.logsumexp(0)))
