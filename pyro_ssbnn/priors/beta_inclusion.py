r"""A Beta prior on the inclusion probability, in place of a fixed number.

.. math:: \pi \sim \mathrm{Beta}(a, b),\qquad z_j \mid \pi \sim \mathrm{Bernoulli}(\pi)

:math:`\pi` is no site of the model: it is integrated out (:class:`~pyro_ssbnn.distributions.BetaBinomialGate`), so that
guides approximate nothing of it. Given the gates it is :math:`\mathrm{Beta}(a + |z|, b + p - |z|)`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyro_ssbnn.checks import check_that, is_number

__all__ = ["BetaInclusion"]

_LEAST, _MOST = 1e-6, 1e9


@dataclass(frozen=True)
class BetaInclusion:
    """A Beta(a, b) prior on the inclusion probability that all members of a group share.

    The default is uniform: any number of members is as likely as any other a priori, and the evidence of each is
    weighed by how many others the data ask for. ``BetaInclusion(1, p)`` expects one of p predictors, with a standard
    deviation of about one. The larger a + b, the closer it is to the fixed number a / (a + b).

    :param a: first parameter, from 1e-6 to 1e9: weight of open members.
    :param b: second parameter, likewise: weight of closed ones.
    :raises ConfigurationError: for values outside.

    >>> BetaInclusion(1, 9).mean
    0.1
    """

    a: float = 1.0
    b: float = 1.0

    def __post_init__(self) -> None:
        for name in ("a", "b"):
            value = getattr(self, name)
            known = is_number(value) and _LEAST <= value <= _MOST
            check_that("BetaInclusion", name, value, known, "a number from 1e-06 to 1e+09")
            object.__setattr__(self, name, float(value))

    @property
    def mean(self) -> float:
        """Prior inclusion probability of any one member, a / (a + b)."""
        return self.a / (self.a + self.b)

    def given(self, *, open: int = 0, closed: int = 0) -> BetaInclusion:
        """The prior of the other members once some are known to be open, and some closed."""
        return BetaInclusion(min(self.a + open, _MOST), min(self.b + closed, _MOST))

    def __str__(self) -> str:
        return f"Beta({self.a:g}, {self.b:g})"
