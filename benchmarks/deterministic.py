"""Plain torch, the yardstick of what a Bayesian step costs: a CIFAR ResNet, and the step of any network.

What one writes without this package: convolutions without bias, ``BatchNorm2d``, ReLU, parameter-free shortcuts that
take every second pixel and add channels of zeros (option A of He, Zhang, Ren and Sun, 2016). ``tests/benchmarks`` holds
its outputs equal to ours with all gates open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad, relu

__all__ = ["Block", "DeterministicResNet", "adam_step"]


def adam_step(net: nn.Module) -> Callable[[Tensor, Tensor], None]:
    """A step of a classifier by fused Adam, eagerly: what a PyTorch user writes."""
    optimizer = torch.optim.Adam(net.parameters(), fused=True)

    def run(x: Tensor, y: Tensor) -> None:
        optimizer.zero_grad()
        cross_entropy(net(x), y).backward()
        optimizer.step()

    return run


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, ``[N, C, H, W]`` to ``[N, width, H', W']``."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.stride, self.added = stride, width - channels

    def forward(self, x: Tensor) -> Tensor:
        """Shortcut plus branch, rectified."""
        branch = self.norm2(self.conv2(relu(self.norm1(self.conv1(x)))))
        if self.stride > 1 or self.added:
            before = self.added // 2
            x = pad(
                x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.added - before)
            )
        return relu(branch + x)


class DeterministicResNet(nn.Module):
    """ResNet of depth 6n + 2 on images ``[N, C, H, W]``.

    :param channels: C.
    :param depth: 6n + 2.
    :param classes: outputs.
    :param widths: filters of the stages.
    """

    def __init__(
        self,
        channels: int = 3,
        depth: int = 20,
        classes: int = 10,
        widths: Sequence[int] = (16, 32, 64),
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        blocks: list[Block] = []
        before = widths[0]
        for stage, width in enumerate(widths):
            for block in range((depth - 2) // 6):
                blocks.append(Block(before, width, 2 if stage and not block else 1))
                before = width
        self.blocks = nn.Sequential(*blocks)
        self.output = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[N, classes]``."""
        h = self.blocks(relu(self.norm(self.stem(x))))
        return self.output(torch.mean(h, (2, 3)))
