"""Joint laws of blocks: masses, densities, draws and KLs against sums over all gates and each other.

There are two cells of the slab scale, with laws of their own.
"""

import itertools

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from pyro_ssbnn.distributions import BlockGate, BlockNormal, Gate, IsotropicNormal
from pyro_ssbnn.distributions.blocks import BiasLaw, Block, WeightMoments
from pyro_ssbnn.distributions.coupled import gate_table

MEMBERS = ([[0, 3], [4, 1]], [[2]])  # of five predictors, in two sizes of block
CELLS = 2
SHARE = torch.tensor([0.3, 0.7], dtype=torch.float64)
STATES = torch.tensor(list(itertools.product([0.0, 1.0], repeat=5)), dtype=torch.float64)


def blocks(nodes=2):
    generator = torch.Generator().manual_seed(3)
    options = {"generator": generator, "dtype": torch.float64}
    found = []
    for members in map(torch.tensor, MEMBERS):
        count, k = members.shape
        root = torch.randn(CELLS, count, nodes, k, k, **options)
        found.append(
            Block(
                members,
                members,
                torch.arange(k),
                torch.arange(2**k).expand(CELLS, count, -1),
                torch.randn(CELLS, count, 2**k, **options).log_softmax(-1),
                torch.randn(CELLS, count, nodes, k, **options),
                root @ root.mT + torch.eye(k).double(),
            )
        )
    return found


def bias(nodes=2):
    generator = torch.Generator().manual_seed(4)
    mean, scale = torch.randn(2, CELLS, nodes, generator=generator, dtype=torch.float64)
    slope = torch.randn(CELLS, nodes, 5, generator=generator, dtype=torch.float64)
    return BiasLaw(mean, slope, scale.exp())


def weights(gates, cells, unit=None, moments=None):
    moments = moments or WeightMoments(*torch.zeros(3, CELLS, 2).double())
    scale = torch.tensor(0.7).double()
    unit = None if unit is None else unit.double()
    return BlockNormal(blocks(), bias(), moments, gates, cells, scale, unit)


def test_masses_of_all_gates_add_to_one_and_give_the_marginals():
    law = BlockGate(blocks(), SHARE)
    mass = law.log_prob(STATES).sum(-1).exp()
    assert float(mass.sum()) == pytest.approx(1)
    assert torch.allclose(mass @ STATES, law.mean)
    given = [law.given(torch.tensor(cell)) for cell in range(CELLS)]
    each = torch.stack([one.log_prob(STATES).sum(-1).exp() for one in given])
    assert torch.allclose(SHARE @ each, mass)
    assert torch.allclose(each @ STATES, torch.stack([one.mean for one in given]))


def test_draws_come_as_often_as_their_mass_says(check_mean):
    law = BlockGate(blocks(), SHARE)
    for one in (law, law.given(torch.tensor(1))):
        drawn = one.sample((20_000,))
        seen = (drawn.unsqueeze(1) == STATES).all(-1).double()
        assert torch.equal(seen.sum(-1), torch.ones(20_000).double())
        check_mean(seen, one.log_prob(STATES).sum(-1).exp())
        assert one.expand([3, 5]).sample((2,)).shape == (2, 3, 5)


def test_each_draw_is_of_its_own_cell(check_mean):
    law = BlockGate(blocks(), SHARE)
    cells = torch.tensor([1, 0, 1])
    drawn = law.given(cells).sample((20_000,))
    assert torch.allclose(law.given(cells).mean[0], law.given(cells[0]).mean)
    check_mean(drawn.flatten(1), law.given(cells).mean.flatten())
    found = law.given(cells).log_prob(drawn[:2])
    each = [law.given(c).log_prob(drawn[:2, i]) for i, c in enumerate(cells)]
    assert torch.equal(found, torch.stack(each, 1))


@pytest.mark.parametrize("cell", range(CELLS))
def test_kl_of_gates_is_the_sum_over_all_of_them(cell):
    law, prior = BlockGate(blocks(), SHARE), Gate(torch.tensor(-0.8).double())
    given = law.given(torch.tensor([cell, 1]))
    log_q = law.given(torch.tensor(cell)).log_prob(STATES).sum(-1)
    expected = (log_q.exp() * (log_q - prior.log_prob(STATES).sum(-1))).sum()
    found = kl_divergence(given, prior.expand([2, 5])).sum(-1)
    assert float(found[0]) == pytest.approx(float(expected))
    with pytest.raises(NotImplementedError, match="several cells"):
        kl_divergence(law, prior.expand([5]))


@pytest.mark.parametrize("cell", range(CELLS))
@pytest.mark.parametrize("unit", [None, torch.tensor([0.5, 2.0])])
def test_density_of_weights_is_that_of_normals_and_the_prior(unit, cell):
    """Block by block, from torch's own multivariate Normal; the density of u is that of t u times t for each."""
    gates = torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0]).double()
    law = weights(gates, torch.tensor(cell), unit)
    value = torch.randn(2, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    t = torch.ones(2).double() if unit is None else unit.double()
    opened = value * t.unsqueeze(-1)
    expected = torch.zeros(2).double()
    for block in blocks():
        for members, linear, precision in zip(
            block.members, block.linear[cell], block.precision[cell], strict=True
        ):
            kept = gates[members].bool()
            for j in range(2):
                inner = precision[j][kept][:, kept]
                if kept.any():
                    mean = torch.linalg.solve(inner, linear[j][kept])
                    normal = MultivariateNormal(mean, precision_matrix=inner)
                    expected[j] += normal.log_prob(opened[j, members[kept]])
    closed = torch.distributions.Normal(0, 0.7).log_prob(value[:, 1])
    b = BiasLaw(*(part[cell] for part in bias()))
    mean = b.mean - (b.slope * opened[:, :5] * gates).sum(-1)
    own = torch.distributions.Normal(mean, b.scale).log_prob(opened[:, 5])
    assert torch.allclose(law.log_prob(value), expected + closed + own + 5 * t.log())


@pytest.mark.parametrize("unit", [None, torch.tensor([0.5, 2.0])])
def test_draws_and_density_of_weights_agree_and_so_does_their_kl(unit, check_mean):
    """E_q exp(log p - log q) = 1 for a p within reach, and the KL's closed form is the mean of log q - log p."""
    count = 40_000
    cells = torch.arange(CELLS).repeat_interleave(count)
    drawn = BlockGate(blocks(), SHARE).given(cells).sample()
    law = weights(drawn, cells, unit)
    value = law.sample()
    assert value.shape == (CELLS * count, 2, 6)
    log_q = law.log_prob(value)
    other = weights(drawn, cells, unit if unit is not None else torch.tensor([1.1, 1.1]))
    other.bias = other.bias._replace(mean=other.bias.mean + 0.2)
    ratio = (other.log_prob(value) - log_q).exp()
    check_mean(ratio[:count], torch.ones(2).double())
    check_mean(ratio[count:], torch.ones(2).double())
    prior = IsotropicNormal(torch.tensor(0.7).double(), 6)
    closed = kl_divergence(weights(drawn[[0, -1]], cells[[0, -1]], unit, exact_moments()), prior)
    for cell, part in enumerate((log_q - prior.log_prob(value)).split(count)):
        check_mean(part, closed[cell])


def exact_moments():
    """Summed over all gates, weights of both nodes, in every cell."""
    laws = blocks()
    squares, log_scales = torch.zeros(2, CELLS, 2).double()
    counts = torch.zeros(CELLS).double()
    for cell in range(CELLS):
        place = torch.tensor(cell)
        b = BiasLaw(*(part[cell] for part in bias()))
        mass = BlockGate(laws, SHARE).given(place).log_prob(STATES).sum(-1).exp()
        for gates, probability in zip(STATES, mass, strict=True):
            covariance, mean = torch.zeros(2, 5, 5).double(), torch.zeros(2, 5).double()
            for block in laws:
                root, of_block = block.given(gates[block.members], place)
                for i, members in enumerate(block.members):
                    mask = gates[members]
                    inverse = torch.cholesky_inverse(root[i]) * mask * mask.unsqueeze(-1)
                    covariance[:, members.unsqueeze(-1), members] = inverse
                    mean[:, members] = of_block[i]
                    log_det = root[i].diagonal(dim1=-2, dim2=-1).log().sum(-1)
                    log_scales[cell] -= probability * log_det
            of_bias = b.mean - (b.slope * mean).sum(-1)
            spread = b.scale.square() + torch.einsum("ji,jik,jk->j", b.slope, covariance, b.slope)
            within = mean.square().sum(-1) + covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
            squares[cell] += probability * (within + of_bias.square() + spread)
        log_scales[cell] += b.scale.log()
        counts[cell] = (mass @ STATES).sum() + 1
    return WeightMoments(squares, log_scales, counts)


def test_the_table_counts_as_the_gates_do():
    for table in blocks()[0].tables:
        assert torch.equal(table, gate_table(2, STATES).expand(2, 4, 2))


def test_a_law_of_some_sets_gives_the_others_no_probability(check_mean):
    """Two blocks of three predictors with five and other five of their eight sets."""
    sets = torch.tensor([[[0, 1, 2, 5, 7], [1, 3, 4, 5, 6]], [[1, 2, 3, 4, 5], [0, 1, 2, 3, 7]]])
    mass = torch.randn(2, 2, 5, generator=torch.Generator().manual_seed(0)).double().log_softmax(-1)
    nothing = torch.zeros(2, 2, 1, 3).double()
    members = torch.tensor([[0, 2, 4], [1, 3, 5]])
    block = Block(members, members, torch.arange(3), sets, mass, nothing, nothing.unsqueeze(-1))
    law = BlockGate([block], SHARE)
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=6))).double()
    prior = Gate(torch.tensor(-0.8).double())
    joints = []
    for cell in range(CELLS):
        joint = torch.zeros(len(every)).double()
        for row, gates in enumerate(every):
            number = [int((gates[places] * torch.tensor([1, 2, 4])).sum()) for places in members]
            if all(number[i] in sets[cell, i] for i in range(2)):
                joint[row] = sum(
                    mass[cell, i, sets[cell, i] == number[i]].sum() for i in range(2)
                ).exp()
        joints.append(joint)
        given = law.given(torch.tensor(cell))
        assert float(joint.sum()) == pytest.approx(1)
        assert torch.allclose(given.log_prob(every).sum(-1).exp(), joint)
        assert torch.allclose(given.mean, joint @ every)
        score = torch.where(joint > 0, joint.log(), 0.0) - prior.log_prob(every).sum(-1)
        kl = kl_divergence(given, prior.expand([6])).sum()
        assert float(kl) == pytest.approx(float((joint * score).sum()))
    drawn = law.sample((20_000,))
    check_mean((drawn.unsqueeze(1) == every).all(-1).double(), SHARE @ torch.stack(joints))


def test_a_draw_has_the_gradient_of_the_slab_scale():
    """Given v = t u the open weights are v / t: their derivative by t is -u / t. Closed ones have none."""
    gates = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0]).double()
    unit = torch.tensor([0.5, 2.0]).double().requires_grad_()
    law = BlockNormal(
        blocks(),
        bias(),
        WeightMoments(*torch.zeros(3, CELLS, 2).double()),
        gates,
        torch.tensor(1),
        torch.tensor(0.7).double(),
        unit,
    )
    drawn = law()  # as a sample site draws it
    for column in range(6):
        gradient = torch.autograd.grad(drawn[:, column].sum(), unit, retain_graph=True)[0]
        is_open = column == 5 or gates[column] == 1
        expected = -drawn[:, column] / unit if is_open else torch.zeros(2)
        torch.testing.assert_close(gradient, expected.double())


def test_the_biass_gate_stands_behind_those_of_the_columns():
    gates = STATES[[3, 17, 30]]
    found = weights(gates, torch.tensor([0, 1, 1])).open
    assert found.shape == (3, 1, 6)
    assert torch.equal(found[:, 0, :5], gates)
    assert (found[..., 5] == 1).all()
