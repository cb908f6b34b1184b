"""Joint laws of blocks: masses, densities, draws and KLs against sums over all gates and each other."""

import itertools

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from pyro_ssbnn.distributions import BlockGate, BlockNormal, Gate, IsotropicNormal
from pyro_ssbnn.distributions.blocks import BiasLaw, Block, WeightMoments
from pyro_ssbnn.distributions.coupled import gate_table

MEMBERS = ([[0, 3], [4, 1]], [[2]])  # of five predictors, in two sizes of block
STATES = torch.tensor(list(itertools.product([0.0, 1.0], repeat=5)), dtype=torch.float64)


def blocks(nodes=2):
    generator = torch.Generator().manual_seed(3)
    options = {"generator": generator, "dtype": torch.float64}
    found = []
    for members in map(torch.tensor, MEMBERS):
        count, k = members.shape
        root = torch.randn(count, nodes, k, k, **options)
        found.append(
            Block(
                members,
                members,
                torch.arange(k),
                torch.arange(2**k).expand(count, -1),
                torch.randn(count, 2**k, **options).log_softmax(-1),
                torch.randn(count, nodes, k, **options),
                root @ root.mT + torch.eye(k).double(),
            )
        )
    return found


def bias(nodes=2):
    generator = torch.Generator().manual_seed(4)
    mean, scale = torch.randn(2, nodes, generator=generator, dtype=torch.float64)
    slope = torch.randn(nodes, 5, generator=generator, dtype=torch.float64)
    return BiasLaw(mean, slope, scale.exp())


def weights(gates, unit=None, moments=None):
    moments = moments or WeightMoments(*torch.zeros(3, 2).double())
    scale = torch.tensor(0.7).double()
    unit = None if unit is None else unit.double()
    return BlockNormal(blocks(), bias(), moments, gates, scale, unit)


def test_masses_of_all_gates_add_to_one_and_give_the_marginals():
    law = BlockGate(blocks())
    mass = law.log_prob(STATES).sum(-1).exp()
    assert float(mass.sum()) == pytest.approx(1)
    assert torch.allclose(mass @ STATES, law.mean)


def test_draws_come_as_often_as_their_mass_says(check_mean):
    law = BlockGate(blocks())
    drawn = law.sample((20_000,))
    seen = (drawn.unsqueeze(1) == STATES).all(-1).double()
    assert torch.equal(seen.sum(-1), torch.ones(20_000).double())
    check_mean(seen, law.log_prob(STATES).sum(-1).exp())
    assert law.expand([3, 5]).sample((2,)).shape == (2, 3, 5)


def test_kl_of_gates_is_the_sum_over_all_of_them():
    law, prior = BlockGate(blocks()), Gate(torch.tensor(-0.8).double())
    log_q = law.log_prob(STATES).sum(-1)
    expected = (log_q.exp() * (log_q - prior.log_prob(STATES).sum(-1))).sum()
    assert float(kl_divergence(law, prior.expand([5])).sum()) == pytest.approx(float(expected))


@pytest.mark.parametrize("unit", [None, torch.tensor([0.5, 2.0])])
def test_density_of_weights_is_that_of_normals_and_the_prior(unit):
    """Block by block, from torch's own multivariate Normal; the density of u is that of t u times t for each."""
    gates = torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0]).double()
    law = weights(gates, unit)
    value = torch.randn(2, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    t = torch.ones(2).double() if unit is None else unit.double()
    opened = value * t.unsqueeze(-1)
    expected = torch.zeros(2).double()
    for block in blocks():
        for members, linear, precision in zip(
            block.members, block.linear, block.precision, strict=True
        ):
            kept = gates[members].bool()
            for j in range(2):
                inner = precision[j][kept][:, kept]
                if kept.any():
                    mean = torch.linalg.solve(inner, linear[j][kept])
                    normal = MultivariateNormal(mean, precision_matrix=inner)
                    expected[j] += normal.log_prob(opened[j, members[kept]])
    closed = torch.distributions.Normal(0, 0.7).log_prob(value[:, 1])
    b = bias()
    mean = b.mean - (b.slope * opened[:, :5] * gates).sum(-1)
    own = torch.distributions.Normal(mean, b.scale).log_prob(opened[:, 5])
    assert torch.allclose(law.log_prob(value), expected + closed + own + 5 * t.log())


@pytest.mark.parametrize("unit", [None, torch.tensor([0.5, 2.0])])
def test_draws_and_density_of_weights_agree_and_so_does_their_kl(unit, check_mean):
    """E_q exp(log p - log q) = 1 for a p within reach, and the KL's closed form is the mean of log q - log p."""
    gates = BlockGate(blocks())
    count = 40_000
    drawn = gates.sample((count,))
    law = weights(drawn, unit)
    value = law.sample()
    assert value.shape == (count, 2, 6)
    log_q = law.log_prob(value)
    other = weights(drawn, unit if unit is not None else torch.tensor([1.1, 1.1]))
    other.bias = other.bias._replace(mean=other.bias.mean + 0.2)
    check_mean((other.log_prob(value) - log_q).exp(), torch.ones(2).double())
    prior = IsotropicNormal(torch.tensor(0.7).double(), 6)
    moments = exact_moments()
    closed = kl_divergence(weights(drawn[:1], unit, moments), prior).squeeze(0)
    check_mean(log_q - prior.log_prob(value), closed)


def exact_moments():
    """Summed over all gates, weights of both nodes."""
    laws, b = blocks(), bias()
    mass = BlockGate(laws).log_prob(STATES).sum(-1).exp()
    squares, log_scales = torch.zeros(2, 2).double()
    for gates, probability in zip(STATES, mass, strict=True):
        covariance, mean = torch.zeros(2, 5, 5).double(), torch.zeros(2, 5).double()
        for block in laws:
            root, of_block = block.given(gates[block.members])
            for i, members in enumerate(block.members):
                mask = gates[members]
                inverse = torch.cholesky_inverse(root[i]) * mask * mask.unsqueeze(-1)
                covariance[:, members.unsqueeze(-1), members] = inverse
                mean[:, members] = of_block[i]
                log_det = root[i].diagonal(dim1=-2, dim2=-1).log().sum(-1)
                log_scales -= probability * log_det
        of_bias = b.mean - (b.slope * mean).sum(-1)
        spread = b.scale.square() + torch.einsum("ji,jik,jk->j", b.slope, covariance, b.slope)
        within = mean.square().sum(-1) + covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
        squares += probability * (within + of_bias.square() + spread)
    count = (mass @ STATES).sum() + 1
    return WeightMoments(squares, log_scales + b.scale.log(), count)


def test_the_table_counts_as_the_gates_do():
    assert torch.equal(blocks()[0].table, gate_table(2, STATES).expand(2, 4, 2))


def test_a_law_of_some_sets_gives_the_others_no_probability(check_mean):
    """Two blocks of three predictors with five and other five of their eight sets."""
    sets = torch.tensor([[0, 1, 2, 5, 7], [1, 3, 4, 5, 6]])
    mass = torch.randn(2, 5, generator=torch.Generator().manual_seed(0)).double().log_softmax(-1)
    nothing = torch.zeros(2, 1, 3).double()
    members = torch.tensor([[0, 2, 4], [1, 3, 5]])
    block = Block(members, members, torch.arange(3), sets, mass, nothing, nothing.unsqueeze(-1))
    law = BlockGate([block])
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6))).double()
    joint = torch.zeros(len(every)).double()
    for row, gates in enumerate(every):
        number = [int((gates[places] * torch.tensor([1, 2, 4])).sum()) for places in members]
        listed = [number[i] in sets[i] for i in range(2)]
        if all(listed):
            joint[row] = sum(mass[i, sets[i] == number[i]].sum() for i in range(2)).exp()
    assert float(joint.sum()) == pytest.approx(1)
    assert torch.allclose(law.log_prob(every).sum(-1).exp(), joint)
    assert torch.allclose(law.mean, joint @ every)
    drawn = law.sample((20_000,))
    check_mean((drawn.unsqueeze(1) == every).all(-1).double(), joint)
    prior = Gate(torch.tensor(-0.8).double())
    score = torch.where(joint > 0, joint.log(), 0.0) - prior.log_prob(every).sum(-1)
    kl = kl_divergence(law, prior.expand([6])).sum()
    assert float(kl) == pytest.approx(float((joint * score).sum()))
