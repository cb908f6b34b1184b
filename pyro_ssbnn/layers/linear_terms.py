"""Terms linear in each predictor, beside the layers of a network."""

from __future__ import annotations

from pyro.poutine.runtime import effectful
from torch import Tensor

from pyro_ssbnn.layers.group import GroupLayer
from pyro_ssbnn.priors import Latents
from pyro_ssbnn.structure.linear import LinearGroup

__all__ = ["LinearTerms", "linear_terms"]


@effectful(type="affine")
def linear_terms(x: Tensor, weight: Tensor) -> Tensor:
    """Sums ``[..., N, K]`` over the columns of ``[..., N, columns]`` with weights ``[..., columns, K]``, without bias.

    The same kind of effectful operation as :func:`~pyro_ssbnn.layers.affine`, so that handlers of one serve the other.
    """
    return x @ weight


class LinearTerms(GroupLayer):
    """The predictors' linear terms: f_k = sum_j z_j t_j u_jk x_j.

    Amplitudes are multiplied into x, since the rows of weights are those of the columns of x.
    """

    group: LinearGroup

    def forward(self, x: Tensor, shared: Latents) -> Tensor:
        """Terms of the outputs, ``[..., N, K]``, at predictors ``[N, columns]``, whatever their own gates."""
        amplitude, weight = self.sample_weights(shared, x)
        if amplitude is not None:
            x = x * self.group.spread(amplitude).unsqueeze(-2)
        return linear_terms(x, weight)
