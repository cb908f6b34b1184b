"""Ordinary torch for benchmarks/compress.py: the networks, their training, their size, and the rival's cut."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

_MOMENTUM, _DECAY = 0.9, 5e-4
_WARM = 0.1  # share of the training over which the rate rises
_STEPS = 1000  # in which the rival takes all channels


@dataclass(frozen=True)
class Images:
    """Images ``[N, C, H, W]`` and their classes, ``[N]``."""

    x: Tensor
    y: Tensor

    def __getitem__(self, rows: slice) -> Images:
        return Images(self.x[rows], self.y[rows])


class Block(nn.Module):
    """Two convolutions with a shortcut: the identity, or a projection where the shape changes."""

    def __init__(self, channels: int, size: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, size, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(size)
        self.conv2 = nn.Conv2d(size, size, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(size)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != size:
            projection = nn.Conv2d(channels, size, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(size))

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[N, size, H', W']``."""
        h = relu(self.norm1(self.conv1(x)))
        return relu(self.norm2(self.conv2(h)) + self.shortcut(x))


def resnet(blocks: int, width: int, num_classes: int = 10) -> nn.Module:
    """A residual network for 32 x 32 pixels, of three stages with ``width``, twice and four times as many filters."""
    stem = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    body, channels = [], width
    for stage in range(3):
        for block in range(blocks):
            size = width * 2**stage
            body.append(Block(channels, size, 2 if stage and not block else 1))
            channels = size
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes)]
    return nn.Sequential(*stem, *body, *head)


def train(
    module: nn.Module,
    images: Images,
    *,
    rate: float,
    seed: int,
    epochs: int | None = None,
    seconds: float | None = None,
    augment: Callable[[Tensor], Tensor] | None = None,
    batch_size: int = 128,
) -> nn.Module:
    """Train a module in place: gradient descent with momentum, a rate that rises and falls by a cosine.

    :param rate: the largest.
    :param epochs: passes over the data.
    :param seconds: CPU seconds of the process in place of ``epochs``; they set the rate, too.
    :param augment: of flattened rows.
    :returns: the module, in evaluation mode.
    """
    started, place = time.process_time(), 0
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(
        module.parameters(), rate, _MOMENTUM, weight_decay=_DECAY, nesterov=True
    )
    order: list[Tensor] = []
    total = len(images.x) // batch_size * (epochs or 0)
    module.train().to(memory_format=torch.channels_last)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        while True:
            passed = (time.process_time() - started) / seconds if seconds else place / total
            if passed >= 1:
                return module.eval()
            if not order:
                shuffled = torch.randperm(len(images.x), generator=generator)
                order = [rows for rows in shuffled.split(batch_size) if len(rows) == batch_size]
            rows = order.pop()
            x = images.x[rows]
            if augment is not None:
                x = augment(x.flatten(1)).reshape(x.shape)
            for group in optimizer.param_groups:
                group["lr"] = rate * _risen(passed)
            optimizer.zero_grad()
            f = module(x.contiguous(memory_format=torch.channels_last))
            cross_entropy(f, images.y[rows]).backward()
            optimizer.step()
            place += 1


def _risen(passed: float) -> float:
    """Share of the largest rate after so much of the training."""
    if passed < _WARM:
        return (0.1 + passed) / (0.1 + _WARM)
    return 0.5 * (1 + math.cos(math.pi * (passed - _WARM) / (1 - _WARM)))


@torch.no_grad()
def accuracy(module: nn.Module, images: Images) -> float:
    """Share of images whose class is the largest output."""
    module.eval()
    parts = zip(images.x.split(500), images.y.split(500), strict=True)
    return sum(int((module(x).argmax(-1) == y).sum()) for x, y in parts) / len(images.x)


@torch.no_grad()
def multiply_adds(module: nn.Module, x: Tensor) -> int:
    """Multiply-adds of convolutions and dense layers for one image; batch norms can be folded into them."""
    counted = []

    def count(layer: Any, _: Any, out: Tensor) -> None:
        counted.append(layer.weight.numel() * (out[0, 0].numel() if out.ndim == 4 else 1))

    layers = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    module.eval()(x[:1])
    for hook in hooks:
        hook.remove()
    return sum(counted)


def cut_by_magnitude(module: nn.Module, x: Tensor, most: float, everywhere: bool) -> nn.Module:
    """Cut a module in place by torch-pruning's group magnitudes, until it costs so many multiply-adds.

    :param everywhere: compare channels of all layers; otherwise the same share of each.
    """
    import torch_pruning

    last = [m for m in module.modules() if isinstance(m, nn.Linear)][-1]
    pruner = torch_pruning.pruner.MagnitudePruner(
        module,
        x[:1],
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=everywhere,
        pruning_ratio=1.0,
        max_pruning_ratio=0.99,
        iterative_steps=_STEPS,
        ignored_layers=[last],
    )
    for _ in range(_STEPS):
        if multiply_adds(module, x) <= most:
            return module
        pruner.step()
    raise RuntimeError(f"torch-pruning leaves more than {most:g} multiply-adds.")
