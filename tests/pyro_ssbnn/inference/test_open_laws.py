"""Laws of open weights, set by set: determinants and solves of each set alone."""

import itertools

import pytest
import torch

import pyro_ssbnn as ss
from pyro_ssbnn.distributions.blocks import gates_of
from pyro_ssbnn.distributions.coupled import gate_table
from pyro_ssbnn.inference.block_moments import block_moments
from pyro_ssbnn.inference.block_prior import BlockPrior
from pyro_ssbnn.inference.open_laws import evidence, evidence_around, open_laws, parted
from pyro_ssbnn.inference.probable_sets import most_probable_sets, scored_neighbours

K = 6
SLAB = torch.tensor([0.5, 2.0], dtype=torch.float64)
LOG_SLAB = torch.tensor([0.3, -0.4], dtype=torch.float64)


def problem(correlation):
    """Linear part and precision of two nodes; columns that nearly say the same where they correlate so much."""
    generator = torch.Generator().manual_seed(0)
    options = {"generator": generator, "dtype": torch.float64}
    common, own = torch.randn(2, 40, 1, **options), torch.randn(2, 40, K, **options)
    x = correlation**0.5 * common + (1 - correlation) ** 0.5 * own
    y = x[..., 0] - x[..., 1] + torch.randn(2, 40, **options)
    identity = torch.eye(K, dtype=torch.float64)
    return (x.mT @ y.unsqueeze(-1)).squeeze(-1), x.mT @ x + SLAB[:, None, None] * identity


def evidence_of(gates, linear, precision):
    """Log evidence of one set, node by node."""
    inside, total = gates.bool(), 0.0
    for h, matrix, log_slab in zip(linear, precision, LOG_SLAB, strict=True):
        open = matrix[inside][:, inside]
        explained = 0.5 * h[inside] @ torch.linalg.solve(open, h[inside])
        total += float(explained - 0.5 * torch.logdet(open) - inside.sum() * log_slab)
    return total


def test_evidence_and_moments_are_those_of_each_set():
    linear, precision = problem(0.5)
    table = gate_table(K, linear)
    laws = open_laws(parted(table), linear, precision)
    found = evidence(laws, len(table), linear, LOG_SLAB)
    expected = [evidence_of(gates, linear, precision) for gates in table]
    assert found.tolist() == pytest.approx(expected)
    log_mass = torch.randn(2**K, generator=torch.Generator().manual_seed(1)).double().log_softmax(0)
    moments = block_moments(torch.arange(2**K), table, log_mass, laws, linear, precision)
    mean, second, log_scales = (linear.new_zeros(2, *shape) for shape in ((K,), (K, K), ()))
    for gates, mass in zip(table, log_mass.exp(), strict=True):
        inside, size = torch.outer(gates, gates).bool(), int(gates.sum())
        for j in range(2):
            open = precision[j][inside].view(size, size)
            covariance = torch.zeros_like(precision[j])
            covariance[inside] = torch.linalg.inv(open).flatten()
            centre = covariance @ linear[j]
            mean[j] += mass * centre
            second[j] += mass * (covariance + torch.outer(centre, centre))
            log_scales[j] -= mass * 0.5 * torch.logdet(open)
    assert torch.allclose(moments.mean, mean)
    assert torch.allclose(moments.second, second)
    assert torch.allclose(moments.log_scales, log_scales)


@pytest.mark.parametrize("correlation", [0.0, 0.95, 1 - 1e-8])
def test_neighbours_have_the_scores_of_their_own_laws(correlation):
    """All of them, of every set; the prior of a set depends on its size and on its members."""
    linear, precision = problem(correlation)
    of_size = torch.tensor([0.0, -1.5, -2.0, -3.5, -3.0, -5.0, -9.0]).double()
    logits = torch.linspace(-1, 1, K).double()

    def prior(gates):
        return float(gates @ logits + of_size[int(gates.sum())])

    sets = torch.arange(2**K)
    table = gates_of(sets, K, linear)
    scores = torch.tensor(
        [evidence_of(gates, linear, precision) + prior(gates) for gates in table]
    ).double()

    def added(others):
        return logits + of_size[others + 1] - of_size[others] if others < K else logits

    def near(sets, of_sets, least):
        laws = open_laws(parted(gates_of(sets, K, linear), closed=True), linear, precision)
        around = evidence_around(laws, linear, precision, SLAB, LOG_SLAB)
        return scored_neighbours(sets, of_sets, least, around, added)

    never = scores.new_tensor(-torch.inf)
    for one in sets:
        found, of_found = near(one.unsqueeze(0), scores[one].unsqueeze(0), never)
        apart = [int(one ^ other).bit_count() for other in sets]
        size = int(one).bit_count()
        expected = [
            other
            for other, d in enumerate(apart)
            if d == 1 or (d == 2 and other.bit_count() == size)
        ]
        assert sorted(found.tolist()) == expected
        assert torch.allclose(of_found, scores[found], atol=1e-6)
    middle = scores.quantile(0.5)
    found, of_found = near(sets, scores, middle)
    assert (of_found > middle).all()
    assert set(found.tolist()) == set((scores > middle).nonzero().flatten().tolist())
    best = most_probable_sets(lambda s: scores[s], torch.zeros(1).long(), K, 20, near)
    assert set(scores.topk(12).indices.tolist()) <= set(best.tolist())
    assert len(best) == 20
    assert not any(a == b for a, b in itertools.pairwise(best.tolist()))


@pytest.mark.parametrize("inclusion", [[0.1, 0.6, 0.3, 0.2], ss.BetaInclusion(1.0, 3.0)])
def test_what_a_predictor_adds_to_the_prior_of_a_set(inclusion):
    """The difference of the log priors of the sets with and without it, given the law of the other block."""
    net = ss.MLP(
        4,
        [],
        prior=ss.Gaussian(),
        likelihood=ss.GaussianLikelihood(),
        input_inclusion=inclusion,
    )
    prior = BlockPrior(
        net.description.inputs, [[0, 2, 3], [1]], torch.tensor([0.5, 0.8, 0.5, 0.5]).double()
    )
    prior.renew()
    table = gates_of(torch.arange(8), 3, torch.zeros(1).double())
    of_sets = prior.of_sets(0, table)
    for one in range(8):
        for j in range(3):
            if not one >> j & 1:
                gain = of_sets[one | 1 << j] - of_sets[one]
                assert float(prior.added(0, one.bit_count())[j]) == pytest.approx(float(gain))
