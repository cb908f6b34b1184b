"""Gates under a Beta prior of their probability: closed forms against enumeration, limits and draws."""

import math

import pytest
import torch
from torch.distributions import kl_divergence

from pyro_ssbnn.distributions import BetaBinomialGate, CoupledGate, Gate
from pyro_ssbnn.distributions.beta_binomial import count_law, given_the_others
from pyro_ssbnn.distributions.blocks import Block, BlockGate
from pyro_ssbnn.distributions.coupled import gate_table
from pyro_ssbnn.errors import ConfigurationError

DOUBLE = {"dtype": torch.float64}
LOGITS = torch.tensor([-2.0, 0.5, 3.0, -0.1, 1.0], **DOUBLE)
TABLE = gate_table(5, LOGITS)


def prior(a=0.7, b=2.5, size=5, dtype=torch.float64):
    return BetaBinomialGate(
        torch.tensor(a, dtype=dtype), torch.tensor(b, dtype=dtype), (size,), validate_args=False
    )


def enumerated_kl(log_q, p=None):
    """KL of any law of five gates, over all their values."""
    log_p = (p or prior()).log_prob(TABLE).sum(-1)
    return (log_q.exp() * (log_q - log_p)).sum()


def test_log_mass_is_the_integral_over_the_probability(check_mean):
    p = prior()
    score = p.log_prob(TABLE).sum(-1)
    assert float(score.exp().sum()) == pytest.approx(1)
    shared = torch.distributions.Beta(p.a, p.b).sample((200_000, 1))
    check_mean(torch.where(TABLE[19].bool(), shared, 1 - shared).prod(-1), score[19].exp())
    assert torch.allclose(p.counts()[TABLE.sum(-1).long()], score)


def test_draws(check_mean):
    drawn = prior().expand((20_000, 5)).sample()
    number = torch.nn.functional.one_hot(drawn.sum(-1).long(), 6).double()
    ways = torch.tensor([math.comb(5, k) for k in range(6)])
    check_mean(number, ways * prior().counts().exp())
    assert set(drawn.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("leading", [(), (3,), (4, 2)])
def test_kl_of_independent_gates(leading):
    q = Gate(LOGITS)
    expected = enumerated_kl(q.log_prob(TABLE).sum(-1))
    shares = kl_divergence(q.expand((*leading, 5)), prior().expand((*leading, 5)))
    assert shares.shape == (*leading, 5)
    assert torch.allclose(shares.sum(-1), expected)


def test_kl_of_gates_that_differ_between_particles():
    logits = torch.stack([LOGITS, -LOGITS])
    each = [kl_divergence(Gate(row), prior()).sum() for row in logits]
    assert torch.allclose(kl_divergence(Gate(logits), prior()).sum(-1), torch.stack(each))


def test_gradient_of_the_kl():
    logits = LOGITS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda eta: kl_divergence(Gate(eta), prior()).sum(), logits)


def test_kl_of_coupled_gates():
    q = CoupledGate(LOGITS, torch.linspace(-1, 1, 32, **DOUBLE))
    found = kl_divergence(q, prior()).sum()
    assert torch.allclose(found, enumerated_kl(q.table_log_prob()))


def test_kl_of_blocks():
    """A block of three and two of one, in no order, in two cells."""

    def all_sets(mass):
        return torch.arange(mass.shape[-1]).expand(mass.shape)

    def block(members, seed):
        generator = torch.Generator().manual_seed(seed)
        k = len(members[0])
        mass = torch.randn(2, len(members), 2**k, generator=generator, **DOUBLE).log_softmax(-1)
        nothing = torch.zeros(2, len(members), 1, k, **DOUBLE)
        members = torch.tensor(members)
        return Block(
            members, members, torch.arange(k), all_sets(mass), mass, nothing, nothing.unsqueeze(-1)
        )

    law = BlockGate(
        [block([[0, 2, 4]], 0), block([[3], [1]], 1)], torch.tensor([0.5, 0.5], **DOUBLE)
    )
    for cell in range(2):
        q = law.given(torch.tensor(cell))
        found = kl_divergence(q, prior()).sum()
        assert torch.allclose(found, enumerated_kl(q.log_prob(TABLE).sum(-1)))


@pytest.mark.parametrize("inclusion", [0.05, 0.5])
def test_sure_of_its_probability_it_is_a_fixed_number(inclusion):
    sure = prior(1e8 * inclusion, 1e8 * (1 - inclusion))
    fixed = Gate(torch.tensor(inclusion, **DOUBLE).logit())
    assert torch.allclose(sure.log_prob(TABLE).sum(-1), fixed.log_prob(TABLE).sum(-1), atol=1e-5)
    found, expected = (kl_divergence(Gate(LOGITS), p.expand((5,))).sum() for p in (sure, fixed))
    assert float(found) == pytest.approx(float(expected), abs=1e-5)


def test_single_precision_keeps_the_digits_of_many_gates():
    logits = torch.linspace(-9, 3, 3000, **DOUBLE)
    kls = [
        kl_divergence(Gate(logits.to(dtype)), prior(1.0, 50.0, 3000, dtype)).double().sum()
        for dtype in (torch.float64, torch.float32)
    ]
    assert float(kls[1]) == pytest.approx(float(kls[0]), rel=1e-5)


def test_law_of_a_sum():
    laws = torch.rand(7, 3, **DOUBLE)
    laws = laws / laws.sum(-1, keepdim=True)
    expected = torch.ones(1, **DOUBLE)
    for law in laws:
        wider = torch.zeros(len(expected) + 2, **DOUBLE)
        for count, mass in enumerate(law):
            wider[count : count + len(expected)] += mass * expected
        expected = wider
    assert torch.allclose(count_law(laws), expected, atol=1e-14)
    assert torch.equal(count_law(laws[:1]), laws[0])
    two = torch.stack([laws, laws.flip(0).roll(1, -1)])
    torch.testing.assert_close(count_law(two), torch.stack([count_law(each) for each in two]))


def test_given_the_others():
    """Of each gate: the log-prior averaged over all values of the others."""
    inclusion = LOGITS.sigmoid()
    mass = torch.where(TABLE.bool(), inclusion, 1 - inclusion)
    score = prior().log_prob(TABLE).sum(-1)
    found = given_the_others(torch.stack([1 - inclusion, inclusion], -1), prior().counts())
    for j in range(5):
        others = mass[:, [i for i in range(5) if i != j]].prod(-1)
        for value in (0, 1):
            rows = TABLE[:, j] == value
            expected = (others * score)[rows].sum()
            assert torch.allclose(found[j, value], expected)


def test_refuses_to_be_enumerated():
    with pytest.raises(ConfigurationError, match="cannot be enumerated"):
        prior().enumerate_support()


def test_values_that_are_no_gates_are_refused():
    laws = (
        BetaBinomialGate(torch.tensor(1.0), torch.tensor(2.0), (3,), validate_args=True),
        CoupledGate(torch.zeros(3), torch.zeros(8), validate_args=True),
    )
    for law in laws:
        assert law.log_prob(torch.tensor([0.0, 1.0, 1.0])).isfinite().all()
        with pytest.raises(ValueError, match="within the support"):
            law.log_prob(torch.tensor([0.0, 1.5, 1.0]))
