"""A plain hand-written PyTorch step of the SS-GHS network: the yardstick of ``benchmarks/speed.py``.

What one writes without this package, and in the manner of published code: standard deviations and scales through
softplus(rho), one draw of every weight a step, the closed-form KLs summed element by element, one unfused Adam. The
objective is that of :class:`pyro_ssbnn.AnalyticELBO` with weight draws (``tests/benchmarks`` holds the two KLs equal).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, silu, softplus

HALF = 0.5 * (1 + math.log(2 * math.pi))


def inverse_softplus(value: float) -> float:
    """The rho with softplus(rho) = value."""
    return math.log(math.expm1(value))


class Positive(nn.Module):
    """LogNormal(m, v^2) guide of half-Cauchy factors a ~ Gamma(1/2, 1), b ~ InverseGamma(1/2, 1)."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.loc_a, self.loc_b = nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.zeros(shape))
        rho = torch.full(shape, inverse_softplus(0.1))
        self.rho_a, self.rho_b = nn.Parameter(rho.clone()), nn.Parameter(rho.clone())

    def sample(self) -> Tensor:
        """Draw a * b."""
        a = self.loc_a + softplus(self.rho_a) * torch.randn_like(self.loc_a)
        b = self.loc_b + softplus(self.rho_b) * torch.randn_like(self.loc_b)
        return torch.exp(a) * torch.exp(b)

    def kl(self) -> Tensor:
        """KL of both factors from their priors."""
        total = torch.zeros(())
        for loc, rho, sign in ((self.loc_a, self.rho_a, 1.0), (self.loc_b, self.rho_b, -1.0)):
            scale = softplus(rho)
            mean = torch.exp(sign * loc + scale**2 / 2)
            each = -sign * 0.5 * loc - torch.log(scale) + math.lgamma(0.5) + mean - HALF
            total = total + each.sum()
        return total


class GatedLayer(nn.Module):
    """Dense layer with gates and horseshoe scales on its nodes; the output layer has neither."""

    def __init__(self, fan_in: int, size: int, inclusion: float | None) -> None:
        super().__init__()
        self.gated = inclusion is not None
        self.loc = nn.Parameter(torch.randn(size, fan_in + 1) / math.sqrt(fan_in))
        rho = inverse_softplus(0.1 / math.sqrt(fan_in))
        self.rho = nn.Parameter(torch.full((size, fan_in + 1), rho))
        if inclusion is not None:
            self.prior_logit = math.log(inclusion / (1 - inclusion))
            self.logits = nn.Parameter(torch.full((size,), math.log(0.95 / 0.05)))
            self.scales = Positive(size)

    def forward(self, x: Tensor, shared: Tensor, temperature: float) -> Tensor:
        """Pre-activations with freshly drawn weights."""
        weight = self.loc + softplus(self.rho) * torch.randn_like(self.loc)
        if self.gated:
            uniform = torch.rand_like(self.logits).clamp(1e-6, 1 - 1e-6)
            noisy = self.logits + torch.log(uniform) - torch.log1p(-uniform)
            soft = torch.sigmoid(noisy / temperature)
            gate = (noisy > 0).float() - soft.detach() + soft
            squared = shared * self.scales.sample()
            scale = torch.sqrt(squared / (1 + squared))
            weight = (gate * scale).unsqueeze(1) * weight
        return linear(x, weight[:, :-1], weight[:, -1])

    def kl(self) -> Tensor:
        """KL of slabs, gates and scales from their priors."""
        sigma = softplus(self.rho)
        slab = 0.5 * (sigma**2 + self.loc**2) - torch.log(sigma) - 0.5
        if not self.gated:
            return slab.sum()
        gamma = torch.sigmoid(self.logits)
        gate = gamma * (self.logits - self.prior_logit) - softplus(self.logits)
        gate = gate + math.log1p(math.exp(self.prior_logit))
        return (gamma.unsqueeze(1) * slab).sum() + gate.sum() + self.scales.kl()


class HandWritten(nn.Module):
    """SS-GHS perceptron with SiLU and a categorical likelihood.

    :param widths: ``[inputs, hidden..., classes]``.
    :param inclusion: prior inclusion probability of each hidden layer.
    """

    def __init__(self, widths: list[int], inclusion: list[float], num_data: int) -> None:
        super().__init__()
        sizes = zip(widths[:-1], widths[1:], [*inclusion, None], strict=True)
        self.layers = nn.ModuleList(GatedLayer(a, b, p) for a, b, p in sizes)
        self.shared = Positive()
        self.num_data = num_data

    def loss(self, x: Tensor, y: Tensor, temperature: float = 0.5) -> Tensor:
        """Negative ELBO per observation."""
        shared = self.shared.sample()
        h = x
        for layer in self.layers[:-1]:
            h = silu(layer(h, shared, temperature))
        f = self.layers[-1](h, shared, temperature)
        return cross_entropy(f, y) + self.kl() / self.num_data

    def kl(self) -> Tensor:
        """KL of the guide from the prior."""
        return sum((layer.kl() for layer in self.layers), self.shared.kl())


class HandWrittenStep:
    """One training step with plain Adam."""

    def __init__(self, network: HandWritten) -> None:
        self.network = network
        self.optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    def __call__(self, x: Tensor, y: Tensor) -> None:
        """Draw, differentiate, update."""
        self.optimizer.zero_grad()
        self.network.loss(x, y).backward()
        self.optimizer.step()
