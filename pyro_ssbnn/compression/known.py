"""Modules that are known by name, so that a file of weights is all that is needed of a trained one.

LeNet-5-Caffe in plain torch, and the classifiers of torchvision where it is installed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file
from torch import nn

from pyro_ssbnn.checks import check_that
from pyro_ssbnn.errors import CheckpointError, ConfigurationError

__all__ = ["known_module", "load_weights"]

_KERNEL, _POOL = 5, 2


def known_module(name: str, image_shape: Sequence[int], num_classes: int) -> nn.Module:
    """A new module by its name: "lenet", or what torchvision calls one of its classifiers, such as "resnet18".

    LeNet's parts are called ``conv1``, ``conv2``, ``hidden1``, ``hidden2`` and ``output``, with ReLU between them; it
    reads maps channel by channel, each row by row, after the pooling.

    :param image_shape: channels, height and width of images.
    :param num_classes: K.
    :raises ConfigurationError: for an unknown name, images that are too small, and torchvision's names without it.
    """
    if name == "lenet":
        return _lenet(image_shape, num_classes)
    try:
        from torchvision.models import get_model, list_models
    except ImportError as error:
        raise ConfigurationError(
            f"{name} is not known without torchvision; expected 'lenet', or pip install torchvision for its"
            " classifiers."
        ) from error
    known = name in list_models()
    check_that("known_module", "name", name, known, "'lenet' or a name of torchvision.models")
    module: nn.Module = get_model(name, weights=None, num_classes=num_classes)
    return module


def _lenet(image_shape: Sequence[int], num_classes: int) -> nn.Module:
    channels, *sides = image_shape
    for _ in range(2):
        sides = [(side - _KERNEL + 1) // _POOL for side in sides]
    rows, columns = sides
    if min(sides) < 1:
        raise ConfigurationError(
            f"lenet: images of {image_shape[1]} x {image_shape[2]} pixels are too small; it needs 16 x 16."
        )
    parts = OrderedDict[str, nn.Module](
        conv1=nn.Conv2d(channels, 20, _KERNEL),
        relu1=nn.ReLU(),
        pool1=nn.MaxPool2d(_POOL),
        conv2=nn.Conv2d(20, 50, _KERNEL),
        relu2=nn.ReLU(),
        pool2=nn.MaxPool2d(_POOL),
        flatten=nn.Flatten(),
        hidden1=nn.Linear(50 * rows * columns, 800),
        relu3=nn.ReLU(),
        hidden2=nn.Linear(800, 500),
        relu4=nn.ReLU(),
        output=nn.Linear(500, num_classes),
    )
    return nn.Sequential(parts)


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Give a module the weights of a ``.safetensors`` file, a ``state_dict`` by its names.

    :raises CheckpointError: for a file that is none, or of another module's tensors.
    """
    try:
        state = load_file(str(path))
        module.load_state_dict(state)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path}: no file of weights ({error}). Write one by safetensors.torch.save_file(module.state_dict(),"
            " path)."
        ) from error
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: the weights are those of another network: {error}"
        ) from error
    if not all(bool(v.isfinite().all()) for v in state.values() if v.is_floating_point()):
        raise CheckpointError(f"{path}: the weights hold values that are not finite.")
    torch.nn.Module.eval(module)
