"""Ordinary torch modules that no network of the package was written for, and the shape of a row of each."""

import torch
from torch import nn
from torch.nn import functional


class Residual(nn.Module):
    """A perceptron with a residual sum, a batch norm and dropout."""

    rows = (6,)

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.norm, self.dropout = nn.BatchNorm1d(8), nn.Dropout(0.5)

    def forward(self, x):
        h = torch.relu(self.first(x))
        h = h + torch.tanh(self.norm(self.second(h)))
        return self.last(self.dropout(h))


class LeNet(nn.Module):
    """Convolutions with and without padding and bias, pooling, a view of the rows."""

    rows = (1, 10, 10)

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3, padding=1, bias=False)
        self.hidden, self.last = nn.Linear(24, 10), nn.Linear(10, 3)

    def forward(self, x):
        h = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        h = functional.max_pool2d(functional.relu(self.conv2(h)), 2)
        return self.last(torch.sigmoid(self.hidden(h.view(x.size(0), -1))))


class Block(nn.Module):
    """A residual block, its shortcut a convolution where the stage changes (option B)."""

    def __init__(self, before, size, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, size, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(size, size, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(size), nn.BatchNorm2d(size, eps=1e-3)
        self.shortcut = None
        if before != size:
            conv = nn.Conv2d(before, size, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(size))

    def forward(self, x):
        h = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        h += x if self.shortcut is None else self.shortcut(x)
        return functional.relu(h)


class ResNet(nn.Module):
    """Two residual blocks."""

    rows = (2, 8, 8)

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 4, 3, 1, 1), nn.BatchNorm2d(4)
        self.blocks = nn.Sequential(Block(4, 4, 1), Block(4, 6, 2))
        self.pool, self.last = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 3)

    def forward(self, x):
        h = self.blocks(functional.relu(self.norm(self.stem(x))))
        return self.last(torch.flatten(self.pool(h), 1))


class Separable(nn.Module):
    """Depthwise convolutions, one of them scaled by squeeze-and-excitation, in a residual block."""

    rows = (2, 6, 6)

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU6(),
            nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU6(),
            nn.Conv2d(4, 3, 1, bias=False),
            nn.BatchNorm2d(3),
        )
        self.expand, self.project = nn.Conv2d(3, 9, 1), nn.Conv2d(9, 3, 1)
        self.depthwise = nn.Conv2d(9, 9, (3, 1), padding=(1, 0), groups=9)
        self.squeeze, self.excite = nn.Conv2d(9, 2, 1), nn.Conv2d(2, 9, 1)
        self.last = nn.Linear(3, 3)

    def forward(self, x):
        h = self.first(x)
        wide = functional.silu(self.depthwise(functional.silu(self.expand(h))))
        means = functional.adaptive_avg_pool2d(wide, 1)
        scale = torch.sigmoid(self.excite(functional.silu(self.squeeze(means))))
        return self.last((h + self.project(scale * wide)).mean([2, 3]))


class Gated(nn.Module):
    """A convolution scaled by another, under a depthwise one: filters that follow filters that follow others."""

    rows = (2, 5, 5)

    def __init__(self):
        super().__init__()
        self.value, self.gate = nn.Conv2d(2, 6, 1), nn.Conv2d(2, 6, 1)
        self.depthwise, self.last = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Linear(6, 3)

    def forward(self, x):
        h = self.depthwise(self.value(x) * torch.sigmoid(self.gate(x)))
        return self.last(torch.relu(h).mean((2, 3)))


class DenseNet(nn.Module):
    """Concatenations under batch norms: closed channels pass on a constant of their own each."""

    rows = (2, 6, 6)

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.norms = nn.ModuleList(nn.BatchNorm2d(size) for size in (4, 7))
        self.narrow = nn.ModuleList(nn.Conv2d(size, 6, 1, bias=False) for size in (4, 7))
        self.middle = nn.ModuleList(nn.BatchNorm2d(6) for _ in range(2))
        self.grown = nn.ModuleList(nn.Conv2d(6, 3, 3, padding=1, bias=False) for _ in range(2))
        self.end, self.transition = nn.BatchNorm2d(10), nn.Conv2d(10, 5, 1, bias=False)
        self.final, self.last = nn.BatchNorm2d(5), nn.Linear(5, 3)

    def forward(self, x):
        maps = [functional.relu(self.norm(self.conv(x)))]
        for norm, narrow, middle, grown in zip(
            self.norms, self.narrow, self.middle, self.grown, strict=True
        ):
            h = functional.relu(norm(torch.cat(maps, 1)))
            maps.append(grown(functional.relu(middle(narrow(h)))))
        h = self.transition(functional.relu(self.end(torch.cat(maps, 1))))
        h = functional.relu(self.final(functional.avg_pool2d(h, 2)))
        return self.last(h.mean((2, 3)))


class UNet(nn.Module):
    """Skips of the image and of maps to the other side, an output for every pixel."""

    rows = (2, 6, 6)

    def __init__(self):
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.up, self.joined = nn.Upsample(scale_factor=2), nn.Conv2d(12, 5, 3, padding=1)
        self.last = nn.Conv2d(5, 1, 1)

    def forward(self, x):
        high = functional.relu(self.down1(x))
        low = functional.relu(self.down2(functional.max_pool2d(high, 2)))
        joined = torch.cat([x, high, self.up(low)], 1)
        return self.last(functional.relu(self.joined(joined))).flatten(1)


class TwoHeads(nn.Module):
    """A body whose closed nodes pass on 1/2, read by two heads."""

    rows = (5,)

    def __init__(self):
        super().__init__()
        self.body, self.mean = nn.Linear(5, 7), nn.Linear(7, 2)
        self.hidden, self.spread = nn.Linear(7, 4), nn.Linear(4, 1)

    def forward(self, x):
        h = torch.sigmoid(self.body(x))
        return {"mean": self.mean(h), "spread": self.spread(torch.relu(self.hidden(h)))}


class Sequence(nn.Module):
    """Convolutions of sequences, one of them in groups."""

    rows = (2, 9)

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(2, 4, 3, padding="same"), nn.BatchNorm1d(4)
        self.grouped, self.narrow = nn.Conv1d(4, 4, 3, stride=2, groups=2), nn.Conv1d(4, 5, 1)
        self.last = nn.Linear(5, 3)

    def forward(self, x):
        h = functional.relu(self.norm(self.conv(x)))
        h = functional.gelu(self.narrow(functional.gelu(self.grouped(h))))
        return self.last(1.5 * h.mean(-1) - 0.25)


class Encoder(nn.Module):
    """A layer of a transformer."""

    def __init__(self, width, heads, hidden):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.narrow = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0.1), nn.Linear(hidden, width)
        )

    def forward(self, x):
        h = self.norm1(x)
        h, _ = self.attention(h, h, h, need_weights=False)
        x = x + h
        return x + self.narrow(self.norm2(x))


class Transformer(nn.Module):
    """A vision transformer: patches, a token of the class, an embedding of positions."""

    rows = (2, 6, 6)

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(2, 12, 2, 2)
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.places = nn.Parameter(torch.randn(1, 10, 12))
        self.encoder = nn.Sequential(Encoder(12, 3, 8), Encoder(12, 4, 6))
        self.norm, self.last = nn.LayerNorm(12), nn.Linear(12, 3)

    def forward(self, x):
        n = x.shape[0]
        h = self.patches(x).reshape(n, 12, 9).permute(0, 2, 1)
        h = torch.cat([self.token.expand(n, -1, -1), h], dim=1) + self.places
        return self.last(self.norm(self.encoder(h))[:, 0])


class Words(nn.Module):
    """Embedded words under a layer of a transformer."""

    def __init__(self):
        super().__init__()
        self.table, self.encoder, self.last = nn.Embedding(20, 8), Encoder(8, 2, 6), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.encoder(self.table(x)).mean(1))


class NormAndActivation(nn.BatchNorm2d):
    """A batch norm whose own ``forward`` looks at its input, and applies an activation, as timm's does."""

    def forward(self, x):
        torch._assert(x.ndim == 4, "maps")
        tensors = self.running_mean, self.running_var, self.weight, self.bias
        return functional.silu(
            functional.batch_norm(x, *tensors, self.training, self.momentum, self.eps)
        )


class OwnLinear(nn.Linear):
    """A dense layer with a ``forward`` of its own."""

    def forward(self, x):
        return functional.linear(x, self.weight, self.bias)


class OwnForwards(nn.Module):
    """Layers that are subclasses of torch's with a ``forward`` of their own; arguments with defaults."""

    rows = (2, 6, 6)

    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(2, 5, 3, bias=False), NormAndActivation(5, eps=1e-3)
        self.conv2, self.norm2 = nn.Conv2d(5, 4, 3, padding=1), NormAndActivation(4)
        self.hidden, self.last = OwnLinear(64, 7), OwnLinear(7, 3)

    def forward(self, x, mask=None, scale=(2.0, 1.0), *, training=False):
        h = self.norm1(self.conv1(x))
        h = self.norm2(self.conv2(h if mask is None else h * mask))
        h = torch.tanh(self.hidden(h.flatten(1))) * scale[0]
        return self.last(functional.dropout(h, 0.5, training))


MODULES = {
    cls.__name__: cls
    for cls in (
        Residual,
        LeNet,
        ResNet,
        Separable,
        Gated,
        DenseNet,
        UNet,
        TwoHeads,
        Sequence,
        Transformer,
        OwnForwards,
    )
}


def made(name, seed=0):
    """A module in double precision and evaluation mode, its batch norms away from where new ones stand."""
    torch.manual_seed(seed)
    module = MODULES[name]().double().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            for tensor in (part.running_mean, part.bias):
                nn.init.normal_(tensor, std=0.3)
            for tensor in (part.running_var, part.weight):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return module, torch.randn(5, *module.rows, dtype=torch.float64)


def joined(output):
    """A module's output as one tensor."""
    return torch.cat(list(output.values()), -1) if isinstance(output, dict) else output
