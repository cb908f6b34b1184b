"""What all kinds of training share: data put in place, augmentation that is checked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from pyro_ssbnn.checks import require_memory, resolve_device
from pyro_ssbnn.errors import ConfigurationError
from pyro_ssbnn.inference.options import TrainingOptions, resolve_dtype
from pyro_ssbnn.isolation import tf32
from pyro_ssbnn.likelihoods import Likelihood
from pyro_ssbnn.structure.description import NetworkDescription
from pyro_ssbnn.structure.guide import Guide
from pyro_ssbnn.structure.network import Network

__all__ = [
    "Augmentation",
    "augmented",
    "check_memory",
    "device_of",
    "forget_statistics",
    "placed",
    "products_of",
    "require_trainable",
]

Augmentation = Callable[[Tensor], Tensor]
"""Changes a minibatch's predictors, ``[rows, p]`` to ``[rows, p]``."""


# Copies of a weight's mean and log-scale while they are trained: themselves, gradients, two moments of Adam, the end
# of the last block with its moments, and those of a checkpoint; and what a step makes of them.
_COPIES = 2 * (1 + 1 + 2 + 3 + 3) + 3
_ACTIVATIONS = 6  # of a layer's outputs: means, variances, noise, and their gradients


def device_of(options: TrainingOptions) -> torch.device:
    """The device of a run.

    :raises ConfigurationError: for one that does not compute here, or not in the precision asked for.
    """
    device = resolve_device(options.device)
    if options.precision == "tf32" and device.type != "cuda":
        raise ConfigurationError("precision 'tf32': only CUDA has it; take 'full', or 'bf16'.")
    rounds = options.precision != "full" and device.type == "cuda" and torch.version.hip is None
    if rounds and torch.cuda.get_device_capability(device) < (8, 0):
        raise ConfigurationError(
            f"precision {options.precision!r}: {torch.cuda.get_device_name(device)} has no such products; NVIDIA's"
            " cards have them from Ampere (A100) on. Take 'full'."
        )
    return device


def products_of(options: TrainingOptions) -> AbstractContextManager[None]:
    """The block in which a run's steps are: torch's setting for products is the options' in it."""
    return tf32(True) if options.precision == "tf32" else nullcontext()


def check_memory(description: NetworkDescription, num_data: int, options: TrainingOptions) -> None:
    """Raise :class:`ConfigurationError` where a run on the CPU would take more memory than there is."""
    if device_of(options).type != "cpu":
        return
    rows = options.batch_rows(num_data) * options.particles(num_data)
    outputs = sum(group.size * group.positions for group in description.groups)
    numbers = _COPIES * description.num_weights + _ACTIVATIONS * rows * outputs
    needed = numbers * resolve_dtype(options.dtype).itemsize
    what = f"a network of {description.num_weights:,} weights, in steps of {rows:,} rows and draws,"
    require_memory("fit", needed, what)


def placed(
    likelihood: Likelihood, x: Tensor, y: Tensor, options: TrainingOptions
) -> tuple[Tensor, Tensor]:
    """Data on the device and in the dtype of a run, apart from the caller's graph.

    Targets are as the likelihood scores them.
    """
    device, dtype = device_of(options), resolve_dtype(options.dtype)
    x = _plain(x, device, dtype)
    with torch.inference_mode(False):
        y = likelihood.as_target(_plain(y, y.device, y.dtype), x)
    return x, y


def _plain(values: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Values without a gradient of their own, also where they were made in inference mode."""
    with torch.inference_mode(False):
        values = values.detach().to(device, dtype)
        return values.clone() if values.is_inference() else values


def require_trainable(guide: Guide) -> None:
    """Raise :class:`ConfigurationError` for a guide that was built in inference mode."""
    if any(parameter.is_inference() for parameter in guide.parameters()):
        raise ConfigurationError(
            "fit: the guide was built under torch.inference_mode, and such tensors can never be trained; build it"
            " outside (fit itself may be called inside)."
        )


def forget_statistics(model: Network) -> None:
    """Set the running statistics of a network's batch norms, torch's own ones too, to those of a new network."""
    for module in model.modules() if isinstance(model, nn.Module) else ():
        reset = getattr(module, "reset_running_stats", None)
        if reset is not None:
            reset()


def augmented(augment: Augmentation | None, x: Tensor) -> Tensor:
    """Minibatch after augmentation, which may change x in place.

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
