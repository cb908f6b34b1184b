"""Functions in a module's forward: those with a translation compute what torch does, others are refused by name."""

import pytest
import torch
from pyro import poutine
from torch import nn

import pyro_ssbnn as ss
from pyro_ssbnn.errors import ConfigurationError

ROWS = 4


class Between(nn.Module):
    """A function of the nodes of one layer, before another."""

    def __init__(self, function, width):
        super().__init__()
        self.first, self.last = nn.Linear(ROWS, 6), nn.Linear(width, 2)
        self.register_buffer("two", torch.tensor(2.0))
        self.register_buffer("row", torch.arange(6.0))
        self.function = function

    def forward(self, x):
        return self.last(self.function(self, self.first(x)))


def network_of(module, x):
    likelihood = ss.CategoricalLikelihood(2)
    return ss.from_module(module, prior=ss.SSIG(inclusion=0.3), likelihood=likelihood, example=x)


COMPUTED = {
    "transpose": (lambda self, h: h.reshape(-1, 2, 3).transpose(1, 2).flatten(1), 6),
    "permute": (lambda self, h: h.reshape(-1, 2, 3).permute((0, 2, 1)).flatten(1), 6),
    "the same shape": (lambda self, h: h.view(-1, 6), 6),
    "chunks": (lambda self, h: torch.cat([h.chunk(3, 1)[2], h.chunk(3, 1)[0]], 1), 4),
    "a part of a split": (lambda self, h: h.split(4, dim=1)[1], 2),
    "one chunk": (lambda self, h: h.chunk(1, 1)[0], 6),
    "an ellipsis": (lambda self, h: h[..., 1:6:2], 3),
    "a number from a tensor": (lambda self, h: 1.5 - h, 6),
    "a tensor by a number": (lambda self, h: h / 4, 6),
    "the negative": (lambda self, h: -h, 6),
    "a scalar tensor": (lambda self, h: h * self.two, 6),
    "a difference": (lambda self, h: h[:, :3].relu() - h[:, 3:].relu(), 3),
    "its square": (lambda self, h: h.relu() * h, 6),
}


@pytest.mark.parametrize("name", COMPUTED)
@torch.no_grad()
def test_it_computes_what_torch_does(name):
    function, width = COMPUTED[name]
    module, x = Between(function, width).double(), torch.randn(ROWS, ROWS).double()
    network = network_of(module, x).double()
    weights = network.weights_of(module)
    data = {group.weight_site: weights[group.name] for group in network.description.groups}
    data |= {g.gate_site: torch.ones(g.size).double() for g in network.description.gate_groups}
    found = poutine.condition(network.network, data=data)(x)
    torch.testing.assert_close(found, module(x), rtol=0, atol=1e-12)


ACROSS = "its first dimension must be that of the rows"
REFUSED = {
    "a mean over the rows": (lambda self, h: h - h.mean(0), 6, ACROSS),
    "rows below each other": (lambda self, h: torch.cat([h, h], 0), 6, ACROSS),
    "some rows": (lambda self, h: h[1:], 6, ACROSS),
    "a quotient": (lambda self, h: h / (h + 1), 6, "truediv of two tensors has no translation"),
    "an inverse": (lambda self, h: 1 / h, 6, "truediv by a tensor has no translation"),
    "a fixed row": (
        lambda self, h: h * self.row,
        6,
        "a tensor that does not depend on the input has no translation here",
    ),
    "two dimensions": (
        lambda self, h: h.reshape(-1, 2, 3)[:, 1, 1:],
        2,
        "only one dimension, not that of the rows, can be indexed",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_the_reason(name):
    function, width, reason = REFUSED[name]
    with pytest.raises(ConfigurationError, match=reason):
        network_of(Between(function, width), torch.randn(ROWS, ROWS))


def test_the_weights_of_attention_cannot_be_read():
    class Weights(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.last = nn.Linear(3, 2)

        def forward(self, x):
            return self.last(self.attention(x, x, x)[1][:, 0])

    with pytest.raises(ConfigurationError, match="the weights of attention cannot be read"):
        network_of(Weights().eval(), torch.randn(5, 3, 4))
