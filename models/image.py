"""What networks of images share: flattened images as predictors, without gates."""

from __future__ import annotations

from collections.abc import Sequence

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.likelihoods import Likelihood
from pyro_ssbnn.models.base import GatedNetwork
from pyro_ssbnn.priors import Prior

__all__ = ["ImageNetwork"]


class ImageNetwork(GatedNetwork):
    """A network of flattened images ``[N, p]``, p = C H W; subclasses lay its layers out and wire them.

    Data are flattened channel by channel and row by row, as everywhere in the package; pixels carry no gates. The
    record of the shape must hold ``image_shape``. Otherwise see :class:`GatedNetwork`.

    :param image_shape: channels, height and width (C, H, W).
    :raises ConfigurationError: for a bad image shape; see also :class:`GatedNetwork`.
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        prior: Prior,
        likelihood: Likelihood,
        output_prior: Prior | None,
        activation: str,
        prefix: str | None = None,
    ) -> None:
        super().__init__(prior, likelihood, output_prior, activation, prefix)
        if len(image_shape) != 3 or min(image_shape) < 1:
            raise ConfigurationError(
                f"{type(self).__name__}: image_shape must be three positive numbers (channels, height, width); got"
                f" {list(image_shape)}."
            )
        self.image_shape = tuple(image_shape)
