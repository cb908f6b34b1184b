r"""What likelihoods of counts share: a mean on the log scale, bounded, in a unit, per exposure.

.. math:: E[y] = e\, u \exp(\bar f),

with the exposure e of a row (time under risk, persons, area), the unit u, and :math:`\bar f`, which is f as far as
the mean stays below a limit (:mod:`pyro_ssbnn.likelihoods.links`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from pyro_ssbnn.checks import check_positive
from pyro_ssbnn.errors import ConfigurationError, DataError
from pyro_ssbnn.likelihoods.base import Likelihood
from pyro_ssbnn.likelihoods.links import MOST, bounded

__all__ = ["CountLikelihood"]


@dataclass(frozen=True)
class CountLikelihood(Likelihood):
    """Counts 0, 1, 2, ... whose mean is exponential in f.

    :param unit: mean of y where f is 0; the mean of the counts puts f on the scale of standardised targets.
    :param largest: mean up to which the link is exponential; a larger one grows linearly in f. None: 5e8 units. Ten
        times the largest count seen keeps predictions far from the data on the data's scale.
    :param exposure: whether a second column of y, ``[N, 2]``, holds exposures, positive: the mean is proportional to
        them. What is predicted given such y is at its exposures; without y, or for y ``[N]``, at an exposure of 1.
    """

    unit: float = 1.0
    largest: float | None = None
    exposure: bool = False

    def __post_init__(self) -> None:
        check_positive(type(self).__name__, unit=self.unit)
        if self.largest is not None and not self.unit < self.largest < math.inf:
            raise ConfigurationError(
                f"{type(self).__name__}: largest must be finite and larger than unit={self.unit:g}; got"
                f" {self.largest!r}."
            )

    def log_mean(self, f: Tensor) -> Tensor:
        """Logarithm of the mean, ``[..., N]``: f plus that of the unit, bounded."""
        most = MOST if self.largest is None else math.log(self.largest / self.unit)
        return bounded(f.squeeze(-1), most=most) + math.log(self.unit)

    def mean(self, f: Tensor, latents: Mapping[str, Tensor]) -> Tensor:
        """The mean, ``[..., N]``, positive and finite for every f."""
        return self.log_mean(f).exp()

    @property
    def target_columns(self) -> int:
        """Two where exposures stand beside the counts."""
        return 2 if self.exposure else 1

    def unpacked(self, f: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """f plus the logarithm of the exposures, counts ``[N]``, weights; see :meth:`Likelihood.unpacked`."""
        f, target, weight = super().unpacked(f, y)
        if not self.exposure or target.ndim == 1:
            return f, target, weight
        return f + target[:, 1:].log(), target[:, 0], weight

    def check_target(self, y: Tensor) -> None:
        """Non-negative whole numbers, with exposures where they are asked for."""
        if self.exposure:
            if y.ndim != 2 or y.shape[1] != 2:
                raise DataError(
                    f"{type(self).__name__}: with exposures y must be [N, 2], counts and exposures; got shape"
                    f" {list(y.shape)}."
                )
            if not (y[:, 1].isfinite() & (y[:, 1] > 0)).all():
                raise DataError(
                    f"{type(self).__name__}: exposures, the second column of y, must be positive finite numbers."
                )
            y = y[:, 0]
        super().check_target(y)
        whole = not y.is_floating_point() or bool((y == y.round()).all())
        if (y < 0).any() or not whole:
            raise DataError(
                f"{type(self).__name__}: y must hold counts 0, 1, 2, ...; got other values."
            )
