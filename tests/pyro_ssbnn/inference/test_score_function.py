"""The score function's gradient for joint gates is unbiased with the fewest particles, against enumeration."""

import math

import pyro
import pytest
import torch
from pyro import distributions as dist
from torch.distributions import kl_divergence

from pyro_ssbnn import AnalyticELBO
from pyro_ssbnn.distributions import CoupledGate, Gate
from pyro_ssbnn.errors import ConfigurationError

LOGITS, RESIDUAL = torch.tensor([0.4, -0.3]).double(), torch.tensor([0.0, 0.5, -0.6, 0.2]).double()
EFFECTS, Y = torch.tensor([1.5, -1.0]).double(), torch.tensor(0.8).double()
PRIOR = Gate(torch.tensor(-1.0).double().expand(2))


class Guide(pyro.nn.PyroModule):
    def __init__(self):
        super().__init__()
        self.logits, self.residual = (torch.nn.Parameter(v.clone()) for v in (LOGITS, RESIDUAL))

    def forward(self):
        with pyro.plate("gates", 2, dim=-1):
            pyro.sample("z", CoupledGate(self.logits, self.residual))


def log_likelihood(z):
    """Of both gates together: products of them count, so that their joint law matters."""
    return dist.Normal((z * EFFECTS).sum(-1) + 2 * z.prod(-1), 0.7).log_prob(Y)


def model():
    with pyro.plate("gates", 2, dim=-1):
        z = pyro.sample("z", PRIOR)
    mean = (z * EFFECTS).sum(-1, keepdim=True) + 2 * z.prod(-1, keepdim=True)
    pyro.sample("obs", dist.Normal(mean, 0.7), obs=Y)


def exact_gradient():
    guide = Guide()
    law = CoupledGate(guide.logits, guide.residual)
    bound = (law.table_log_prob().exp() * log_likelihood(law.table)).sum()
    (kl_divergence(law, PRIOR).sum() - bound).backward()
    return torch.cat([guide.logits.grad, guide.residual.grad])


@pytest.mark.parametrize("particles", [2, 3])
def test_its_mean_is_the_enumerated_gradient(particles, check_mean):
    guide, elbo = Guide(), AnalyticELBO(particles)
    gradients = []
    with pyro.validation_enabled(False):
        for _ in range(600):
            guide.zero_grad()
            elbo.loss_and_grads(model, guide)
            gradients.append(torch.cat([guide.logits.grad, guide.residual.grad]))
    check_mean(torch.stack(gradients), exact_gradient())


class Spread(Guide):
    """The gates, and an auxiliary draw whose log-scale is theirs times EFFECTS."""

    def forward(self):
        with pyro.plate("gates", 2, dim=-1):
            z = pyro.sample("z", CoupledGate(self.logits, self.residual))
        scale = (z * EFFECTS).sum(-1, keepdim=True).exp()
        pyro.sample("a", dist.Normal(0.0, scale), infer={"is_auxiliary": True})


def test_auxiliary_draws_reward_the_gates_they_follow(check_mean):
    """Their log q is minus the entropy, 1/2 log(2 pi e) + z EFFECTS, on average."""
    guide = Spread()
    law = CoupledGate(guide.logits, guide.residual)
    entropy = 0.5 * math.log(2 * math.pi * math.e) + law.table @ EFFECTS
    bound = (law.table_log_prob().exp() * (log_likelihood(law.table) + entropy)).sum()
    exact = torch.autograd.grad(kl_divergence(law, PRIOR).sum() - bound, list(guide.parameters()))
    elbo, gradients = AnalyticELBO(3), []
    with pyro.validation_enabled(False):
        for _ in range(600):
            guide.zero_grad()
            elbo.loss_and_grads(model, guide)
            gradients.append(torch.cat([guide.logits.grad, guide.residual.grad]))
    check_mean(torch.stack(gradients), torch.cat(exact))


def test_one_particle_has_nothing_to_compare_with():
    with pytest.raises(ConfigurationError, match="give num_particles of at least 2"):
        AnalyticELBO().loss_and_grads(model, Guide())
    with torch.no_grad():  # which asks for no gradient
        assert AnalyticELBO().differentiable_loss(model, Guide()).isfinite()
