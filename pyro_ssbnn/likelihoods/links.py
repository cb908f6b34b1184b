r"""Links that keep predictions finite: exponentials whose exponent is bounded softly.

With an exponential link a draw of the weights that is harmless on the data can predict :math:`e^{300}` at a row a
little further out, and one such draw is the mean of all. Beyond a limit the exponential is continued by its tangent,

.. math:: \mu(f) = e^{b} (1 + f - b)\quad (f > b),\qquad \mu(f) = e^{a} / (1 + a - f)\quad (f < a),

the lower part being the reciprocal of the upper one: between the limits nothing changes, the mean still rises with f,
its first derivative is continuous, and no gradient vanishes. It is finite and positive for every f, infinite ones
included.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["LEAST", "MOST", "bounded"]

LEAST, MOST = -20.0, 20.0
"""Limits of a logarithm beside 0: factors of 2e-9 and of 5e8, beyond what counts, times and scales can tell."""

_FARTHEST = 1e6  # f itself; so far out only f that overflowed is


def bounded(f: Tensor, least: float = LEAST, most: float = MOST) -> Tensor:
    """Logarithm that is f from ``least`` to ``most``, and grows like a logarithm of f outside, any shape.

    :param least: below 0.
    :param most: above 0.
    """
    f = f.clamp(-_FARTHEST, _FARTHEST)
    above, below = (f - most).clamp_min(0), (least - f).clamp_min(0)
    return f.clamp(least, most) + above.log1p() - below.log1p()
