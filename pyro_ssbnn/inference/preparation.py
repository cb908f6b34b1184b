"""What all kinds of training share: data put in place, augmentation that is checked."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference.options import TrainingOptions, resolve_device, resolve_dtype

__all__ = ["Augmentation", "augmented", "placed"]

Augmentation = Callable[[Tensor], Tensor]
"""Changes a minibatch's predictors, ``[rows, p]`` to ``[rows, p]``."""


def placed(x: Tensor, y: Tensor, options: TrainingOptions) -> tuple[Tensor, Tensor]:
    """Data on the device and in the dtype of a run; labels keep their dtype."""
    device, dtype = resolve_device(options.device), resolve_dtype(options.dtype)
    y = y.to(device, dtype) if y.dtype.is_floating_point else y.to(device)
    return x.to(device, dtype), y


def augmented(augment: Augmentation | None, x: Tensor) -> Tensor:
    """Minibatch after augmentation.

    :raises ConfigurationError: when it comes back in another shape.
    """
    if augment is None:
        return x
    changed = augment(x)
    if changed.shape != x.shape:
        raise ConfigurationError(
            f"augment must return predictors of the shape it was given, {list(x.shape)}; got {list(changed.shape)}."
        )
    return changed
