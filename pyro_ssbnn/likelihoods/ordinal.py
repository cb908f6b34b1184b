r"""Grades: classes in an order, by the cumulative logit model (McCullagh 1980).

.. math:: P(y \le k) = \mathrm{sigmoid}(c_k - f),\qquad c_0 < c_1 < \dots < c_{K-2},

one output f, whose growth shifts the grade upwards, and K - 1 ordered cut points c, which are latents: the first, real,
and the gaps between them, positive. A grade's probability is computed without a difference,

.. math:: P(y = k) = \mathrm{sigmoid}(c_k - f)\,\mathrm{sigmoid}(f - c_{k-1})\,(1 - e^{c_{k-1} - c_k}).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pyro import distributions as dist
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_ssbnn.checks import check_positive
from pyro_ssbnn.likelihoods.base import LatentSite
from pyro_ssbnn.likelihoods.categorical import CategoricalLikelihood
from pyro_ssbnn.registry import register

__all__ = ["OrdinalLikelihood"]


@register("ordinal")
@dataclass(frozen=True)
class OrdinalLikelihood(CategoricalLikelihood):
    """Grades 0..K-1 in ascending order; y and predictions are as for class labels.

    Latents: ``noise.first_cut``, and ``noise.gaps``, ``[K - 2]``, for more than two grades.

    :param num_classes: K, at least 2.
    :param cut_scale: standard deviation of the Normal(0, .) prior of the first cut point.
    :param gap_concentration: shape of the Gamma prior of each gap.
    :param gap_rate: its rate, on the scale of log-odds.
    """

    cut_scale: float = 4.0
    gap_concentration: float = 2.0
    gap_rate: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            type(self).__name__,
            cut_scale=self.cut_scale,
            gap_concentration=self.gap_concentration,
            gap_rate=self.gap_rate,
        )

    @property
    def num_outputs(self) -> int:
        """One, whatever the number of grades."""
        return 1

    @property
    def mean_columns(self) -> int:
        """A probability a grade."""
        return self.num_classes

    def latent_sites(self, like: Tensor) -> dict[str, LatentSite]:
        """The first cut point and the gaps; they start where all grades are equally probable at f = 0."""
        number = self.num_classes
        even = torch.logit(torch.arange(1, number, dtype=like.dtype, device=like.device) / number)
        cut = dist.Normal(like.new_zeros(()), like.new_full((), self.cut_scale))
        sites = {"noise.first_cut": LatentSite(cut, initial=even[0])}
        if number > 2:
            gap = dist.Gamma(
                like.new_full((), self.gap_concentration), like.new_full((), self.gap_rate)
            )
            gaps = gap.expand([number - 2]).to_event(1)
            sites["noise.gaps"] = LatentSite(gaps, initial=even.diff())
        return sites

    def distribution(self, f: Tensor, latents: Mapping[str, Tensor]) -> TorchDistribution:
        """Categorical over the grades."""
        return dist.Categorical(logits=self._log_probabilities(f, latents))

    def mean(self, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """Probabilities of the grades, ``[..., N, K]``."""
        return self._log_probabilities(f, latents).softmax(-1)  # rounding apart they sum to 1

    def _log_probabilities(self, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        cuts = latents["noise.first_cut"].unsqueeze(-1)
        if self.num_classes == 2:
            return torch.cat([logsigmoid(cuts - f), logsigmoid(f - cuts)], -1)
        gaps = latents["noise.gaps"]
        cuts = torch.cat([cuts, cuts + gaps.cumsum(-1)], -1)
        ends = logsigmoid(cuts - f), logsigmoid(f - cuts)  # P(y <= k), P(y > k), [..., N, K - 1]
        shape = ends[0].shape[:-1]
        within = torch.log(-torch.expm1(-gaps)).expand(*shape, self.num_classes - 2)
        between = ends[0][..., 1:] + ends[1][..., :-1] + within
        return torch.cat([ends[0][..., :1], between, ends[1][..., -1:]], -1)
